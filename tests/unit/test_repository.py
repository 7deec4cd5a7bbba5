"""Facts about the repository itself: its lock files, its walls, what it must not contain."""

import itertools
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
LOCKS = ("dev", "demo", "serving", "streaming", "training", "retraining", "infra", "spark")
ALONE = {"spark": {"pyspark", "py4j"}}  # what a developer does not need is in a lock of its own
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^\]]+\])?==(?P<version>[^ ;]+)( ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")
# Who may import whom; a room may always import itself, and `demo` may import anything.
ARROWS = {
    "fraud": set[str](),
    "stores": {"fraud"},
    "feature_repo": {"fraud"},
    "streaming": {"fraud", "stores"},
    "training": {"fraud", "stores"},
    "serving": {"fraud", "stores"},
    "retraining": {"fraud", "stores", "training", "monitoring"},
    "monitoring": {"fraud", "stores", "training"},
    "simulation": {"fraud"},
    "infra": {"fraud"},
}
ROOMS = {*ARROWS, "demo"}
NOT_ROOMS = {"bench", "build", "dist", "docs", "tests"}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def lock_lines(extra: str) -> list[str]:
    return (REQUIREMENTS / f"{extra}.txt").read_text().splitlines()


def pins(extra: str) -> dict[str, str]:
    found = (PIN.match(line) for line in lock_lines(extra))
    return {canonical(match["name"]): match["version"] for match in found if match}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra: str) -> set[str]:
    """Return the names that an extra asks for, those of the extras it includes among them."""
    metadata = project()["project"]
    names: set[str] = set()
    for requirement in itertools.chain(metadata["dependencies"], metadata["optional-dependencies"][extra]):
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[([^\]]+)\])?", requirement)
        assert match is not None
        if match[1] == metadata["name"]:
            names = names.union(*(declared(included.strip()) for included in match[2].split(",")))
        else:
            names.add(canonical(match[1]))
    return names


def contracts() -> dict[str, dict[str, Any]]:
    return {contract["id"]: contract for contract in project()["tool"]["importlinter"]["contracts"]}


def rooms_on_disk() -> set[str]:
    folders = (entry for entry in ROOT.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return {folder.name for folder in folders if any(folder.glob("*.py"))} - NOT_ROOMS


def own_files() -> list[Path]:
    """Return the files that are, or are about to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a git work tree")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("extra", LOCKS)
def test_every_locked_package_has_a_hash(extra: str) -> None:
    content = [line for line in lock_lines(extra) if line.strip() and not line.lstrip().startswith("#")]
    assert content
    for line, following in itertools.pairwise([*content, ""]):
        if not line.startswith(" "):
            assert PIN.match(line), f"not an exact version: {line}"
            assert HASH.match(following), f"no hash after: {line}"
        else:
            assert HASH.match(line), f"neither a version nor a hash: {line}"


@pytest.mark.parametrize("extra", LOCKS)
def test_lock_files_name_no_index_and_no_host(extra: str) -> None:
    for line in lock_lines(extra):
        assert "://" not in line
        assert not re.search(r"index-url|find-links|trusted-host|--index|file:", line)
        assert not re.search(r"\b[a-z0-9-]+\.(org|com|net|io|dev|internal|local)\b", line)


@pytest.mark.parametrize("extra", LOCKS)
def test_everything_declared_is_locked(extra: str) -> None:
    assert declared(extra) - pins(extra).keys() == set()


@pytest.mark.parametrize("extra", LOCKS)
def test_every_lock_agrees_with_the_developers_lock(extra: str) -> None:
    everything = pins("dev")
    others = {name: version for name, version in pins(extra).items() if everything.get(name) != version}
    assert others.keys() == ALONE.get(extra, set())


def test_every_extra_has_a_lock() -> None:
    assert set(project()["project"]["optional-dependencies"]) == set(LOCKS)
    assert {path.stem for path in REQUIREMENTS.glob("*.txt")} == set(LOCKS)


def test_no_lock_that_records_addresses() -> None:
    assert not (ROOT / "uv.lock").exists()


def test_no_file_names_a_folder_of_one_machine() -> None:
    somewhere = [r"/home/[a-z]", r"/Users/[A-Za-z]", r"/root\b"]
    if len(ROOT.parts) > len(("/", "folder")):
        somewhere.append(re.escape(str(ROOT)) + r"\b")
    pattern = re.compile(r"(?<![\w.])(" + "|".join(somewhere) + ")")
    offenders = []
    for path in own_files():
        if path == Path(__file__):
            continue
        text = path.read_bytes().decode("utf-8", errors="ignore")
        offenders += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert offenders == []


def test_every_room_stands_within_the_walls() -> None:
    walled = project()["tool"]["importlinter"]["root_packages"]
    assert rooms_on_disk() - ROOMS == set(), "a new room needs a decision record and a contract"
    assert rooms_on_disk() - set(walled) == set()
    assert (rooms_on_disk() - {"demo"}) - contracts().keys() == set()


@pytest.mark.parametrize("room", sorted(ARROWS.keys() & contracts().keys()))
def test_a_contract_forbids_every_other_room(room: str) -> None:
    contract = contracts()[room]
    assert contract["source_modules"] == [room]
    assert set(contract["forbidden_modules"]) == ROOMS - ARROWS[room] - {room}
    assert "ignore_imports" not in contract
    assert not contract.get("allow_indirect_imports", False)


def test_the_core_may_not_reach_the_outside() -> None:
    outside = {"boto3", "feast", "pandas", "redis", "sagemaker", "xgboost"}
    assert outside <= set(contracts()["core"]["forbidden_modules"])


def test_every_room_is_installed() -> None:
    patterns = project()["tool"]["setuptools"]["packages"]["find"]["include"]
    assert set(patterns) == {f"{room}*" for room in ROOMS}


def test_strict_types_are_loosened_nowhere() -> None:
    mypy = project()["tool"]["mypy"]
    assert mypy["strict"] is True
    for override in mypy.get("overrides", []):
        assert set(override) == {"module", "ignore_missing_imports"}
        assert {module.split(".")[0] for module in override["module"]} & ROOMS == set()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with the installer and a lock of one package, and no environment."""
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    shutil.copy(REQUIREMENTS / "install.sh", requirements)
    (requirements / "demo.txt").write_text(f"nowhere==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    return tmp_path


def install(clone: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(
        ["requirements/install.sh", environment.pop("extra", "demo")],
        cwd=clone,
        env={**inherited, "PIP_CONFIG_FILE": os.devnull, **environment},
        capture_output=True,
        check=False,
        text=True,
    )


def test_a_missing_interpreter_is_one_sentence(clone: Path) -> None:
    done = install(clone, PYTHON="python-that-is-not-there")
    assert done.returncode == 1
    assert done.stderr.startswith("setup: Python 3.11 or newer is needed")
    assert len(done.stderr.splitlines()) == 1
    assert not (clone / ".venv").exists()


def test_an_unknown_lock_is_one_sentence(clone: Path) -> None:
    done = install(clone, extra="nothing")
    assert done.returncode == 1
    assert done.stderr == "setup: requirements/nothing.txt does not exist; the locks are demo.txt.\n"


def test_an_unreachable_index_is_one_sentence(clone: Path) -> None:
    done = install(clone, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("setup: the package index cannot be reached")
