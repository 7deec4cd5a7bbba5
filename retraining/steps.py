"""The three steps of the weekly loop as jobs of their own: build the training set, fit, judge.

Each is what :func:`retraining.weekly.run_week` does in one process, between the folders of ``/opt/ml``. Nothing reaches
the registry before the last, so a step that fails leaves the champion as it is, and says why.
"""

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from fraud.bundle import FILES, MANIFEST
from fraud.errors import CorruptBundle
from fraud.fallback import FALLBACK_FILES
from retraining.container import Container
from retraining.errors import InvalidPipeline
from retraining.exchange import read_facts, read_rows, write_facts, write_rows
from retraining.inspection import inspector, lake_prover
from retraining.label_facts import label_facts
from retraining.limits import LIMITS
from retraining.registry import ModelRegistry
from retraining.weekly import WeekPlan, WeekReport, decide_week, require_every_day, week_figures
from stores.bundle_files import MAX_FILE_BYTES
from training.challenger import fit_challenger
from training.command_line import gather, moment
from training.labels import read_labels
from training.selective import weigh

ARCHIVE: Final = "model.tar.gz"
VERDICT: Final = "verdict.json"
LAKE: Final = "lake"
LABELS: Final = "labels"
ROWS: Final = "rows"
CHALLENGER: Final = "challenger"
REASON_CHARS: Final = 900
"""Of a refusal's reasons in the verdict: SageMaker shows 1,024 characters of a failed pipeline's reason."""


def build_step(
    container: Container, *, as_of: str, plan: WeekPlan, repo: Path, decisions: pa.Table | None = None
) -> int:
    """Write the training set of a week with the leak prover's proof of it, and return its rows.

    Parameters
    ----------
    as_of
        Day of the iteration, or a schedule's time of that day.
    plan
        Goes with the rows: its rules and its recipe are what the next steps fit and judge by.
    repo
        Feast repository.
    decisions
        Table of :func:`training.selective.read_decisions`: rows weigh one over the probability with which they were
        let through; null when each stands for itself.

    Raises
    ------
    TollgateError
        The data, the plan or the day do not fit together.
    """
    lake = container.processing(LAKE)
    labels = lake / "labels.parquet"
    if not labels.exists():
        labels.symlink_to(container.processing(LABELS) / labels.name)
    as_of_ms = moment("as-of", as_of[:10])
    start, _, _, end = plan.edges(as_of_ms)
    rows, read_plan = gather(lake, repo, start_ms=start, end_ms=end, as_of_ms=as_of_ms, prove=False)
    require_every_day(rows, end)
    if decisions is not None:
        rows = weigh(rows, decisions)
    proof = lake_prover(lake, plan, as_of_ms=as_of_ms)(rows)
    about = {"plan": msgspec.to_builtins(plan), "read_plan": read_plan, "proof": proof}
    write_rows(rows, container.processing(ROWS), about)
    write_facts(label_facts(rows, read_labels(lake), plan), container.processing(ROWS))
    return len(rows.is_fraud)


def fit_step(container: Container, *, root: Path) -> str:
    """Write the challenger's bundle where SageMaker archives it from, and return its manifest's text.

    Parameters
    ----------
    root
        Of the source tree, for the code digest.

    Raises
    ------
    UnfitTrainingSet
        Too few frauds.
    InvalidPipeline
        The seed is no whole number.
    """
    rows, about = read_rows(container.channel(ROWS))
    given = container.hyperparameters().get("seed", "0")
    if not given.isdecimal():
        raise InvalidPipeline(f"hyperparameter seed {given!r} is no whole number")
    plan = replace(plan_of(about), seed=int(given))
    fitted = fit_challenger(rows, plan, as_of_ms=rows.as_of_ms, read_plan=about["read_plan"], root=root)
    container.model.mkdir(parents=True, exist_ok=True)
    for name, content in fitted.files.items():
        (container.model / name).write_bytes(content)
    return fitted.files[MANIFEST].decode()


def judge_step(
    container: Container, registry: ModelRegistry, *, parity: Path | None = None, again: bool = False, seeds: int = 2
) -> WeekReport:
    """Judge the challenger against the registry's champion, write the verdict into the registry and beside the job.

    The gate is the one of :func:`retraining.weekly.run_week`: the proof of the first step, other seeds, parity.

    Parameters
    ----------
    parity
        Certificate of ``python -m monitoring parity --json``; null does not ask.
    again
        Judge although this calendar week has its verdict.
    seeds
        Others that have to agree.

    Raises
    ------
    TollgateError
        The challenger is no bundle, or the registry cannot be reached; the champion is untouched.
    """
    rows, about = read_rows(container.processing(ROWS))
    files = unpack(container.processing(CHALLENGER) / ARCHIVE)
    plan = plan_of(about)
    plan = replace(plan, seed=int(json.loads(files["provenance.json"])["seed"]))
    with registry.locked():
        report = decide_week(
            registry,
            files,
            rows,
            as_of_ms=rows.as_of_ms,
            plan=plan,
            limits=LIMITS,
            inspect=inspector(
                plan, as_of_ms=rows.as_of_ms, prove=lambda _rows: _proof(about), parity=parity, seeds=seeds
            ),
            facts=read_facts(container.processing(ROWS)),
            again=again,
        )
    reasons = "; ".join(report.verdict.reasons)[:REASON_CHARS] or "none"
    figures = week_figures(report) | {"passed": report.promoted, "why_not": reasons}
    place = container.processing("verdict") / VERDICT
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(figures, allow_nan=False, indent=1), encoding="utf-8")
    return report


def _proof(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the proof that the first step wrote down; a set that nobody proved has audited no row."""
    proof: Mapping[str, Any] = about.get("proof", {"leaks": [], "probes": 0})
    return proof


def plan_of(about: Mapping[str, Any]) -> WeekPlan:
    """Return the plan that the first step wrote down."""
    return msgspec.convert(about["plan"], WeekPlan)


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a bundle as the archive that SageMaker unpacks into ``/opt/ml/model``; same files, same bytes."""
    import gzip

    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(files[name]), 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return gzip.compress(plain.getvalue(), mtime=0)


def unpack(archive: Path | bytes) -> dict[str, bytes]:
    """Return the files of a bundle's archive; what is no file of a bundle is not looked at.

    Raises
    ------
    CorruptBundle
        It is no archive, or lacks a file.
    """
    wanted = {MANIFEST, *FILES}
    try:
        opened: Any = io.BytesIO(archive) if isinstance(archive, bytes) else archive.open("rb")
        with opened as file, tarfile.open(fileobj=file, mode="r:gz") as content:
            members = {member.name.removeprefix("./"): member for member in content.getmembers()}
            found = {}
            for name in sorted((wanted | set(FALLBACK_FILES)) & members.keys()):
                data = content.extractfile(members[name])
                if data is not None and members[name].size <= MAX_FILE_BYTES:
                    found[name] = data.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise CorruptBundle(
            f"{'the archive' if isinstance(archive, bytes) else archive} does not open: {error}"
        ) from None
    missing = wanted - found.keys()
    if missing:
        raise CorruptBundle(f"{min(missing)} is missing from the archive")
    return found
