"""Feast over a lake: the feature repository, applied for exactly that lake before it is asked anything.

Feast keeps the address of the data in its registry, so a registry that was applied for another lake answers with that
other lake's features and says nothing. Each lake on disk therefore has a registry of its own, in ``LAKE/feast/``; it is
applied when it is missing or when the definitions have changed since. A repository whose registry lies in a bucket is
taken as it was published.
"""

import hashlib
import logging
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Final

from fraud.features import SERVICE
from training.errors import RepositoryNotApplied

CONFIG: Final = "feature_store.yaml"
_REGISTRY: Final = re.compile(r"^(registry:\s*\n(?:[ \t]+.*\n)*?[ \t]+path:[ \t]*)(\S+)", re.MULTILINE)


def open_lake_store(repository: Path, lake: Path) -> Any:
    """Return a ``feast.FeatureStore`` whose features are those of ``lake``, applying the repository when needed.

    Parameters
    ----------
    repository
        Folder of the definitions and of ``feature_store.yaml``.
    lake
        Folder of the data set.

    Raises
    ------
    RepositoryNotApplied
        There is no such repository, or ``feast apply`` failed; the message has the command and what it said.
    """
    config = repository / CONFIG
    if not config.is_file():
        raise RepositoryNotApplied(f"{config} is missing: --repo must name a Feast repository such as feature_repo")
    os.environ["FRAUD_LAKE"] = str(lake.resolve())
    text = config.read_text(encoding="utf-8")
    found = _REGISTRY.search(text)
    if found is None:
        raise RepositoryNotApplied(f"{config} names no registry path")
    if "://" in found[2]:
        return _open(repository, config)
    folder = lake / "feast"
    text = _REGISTRY.sub(lambda match: match[1] + str((folder / "registry.db").resolve()), text, count=1)
    stamp = _stamp(repository, text)
    own = folder / CONFIG
    if _read(folder / "applied") != stamp:
        folder.mkdir(parents=True, exist_ok=True)
        own.write_text(text, encoding="utf-8")
        (folder / "registry.db").unlink(missing_ok=True)
        process = _begin_apply(repository, own)
        _import_feast()  # takes seconds, beside the other process
        _finish_apply(process, repository, own)
        (folder / "applied").write_text(stamp, encoding="utf-8")
    return _open(repository, own)


def compiled_plan(feature_store: Any) -> dict[str, Any]:
    """Return how the scorer reads the online store, as plain data for the bundle."""
    from stores.compiling import compile_plan
    from stores.plan import plan_data

    return plan_data(compile_plan(feature_store, SERVICE))


def _begin_apply(repository: Path, config: Path) -> subprocess.Popen[str]:
    feast = Path(sys.executable).with_name("feast")
    command = [str(feast), "-c", str(repository), "-f", str(config.resolve()), "apply", "--skip-source-validation"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603  # Feast's own command


def _finish_apply(process: subprocess.Popen[str], repository: Path, config: Path) -> None:
    said, _ = process.communicate()
    if process.returncode:
        last = said.strip().splitlines()[-1] if said.strip() else "it said nothing"
        raise RepositoryNotApplied(
            f"feast -c {repository} -f {config} apply ended with {process.returncode}: {last}; run it by hand with "
            f"FRAUD_LAKE={os.environ['FRAUD_LAKE']} to see all of it"
        )


def _import_feast() -> None:
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="feast")
    logging.getLogger("feast").setLevel(logging.ERROR)  # it warns of settings that only its own servers read
    __import__("feast")


def _open(repository: Path, config: Path) -> Any:
    _import_feast()
    from feast import FeatureStore

    return FeatureStore(repo_path=str(repository), fs_yaml_file=config)


def _stamp(repository: Path, config_text: str) -> str:
    """Return a digest of all that decides what a registry holds."""
    digest = hashlib.sha256(config_text.encode())
    import fraud

    core = Path(str(fraud.__file__)).parent
    for path in [*sorted(repository.glob("*.py")), *sorted(core.glob("*.py"))]:
        digest.update(path.name.encode() + path.read_bytes())
    digest.update(os.environ["FRAUD_LAKE"].encode())
    return digest.hexdigest()


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
