"""A training set as a folder that vouches for itself: ``rows.parquet``, ``manifest.json`` and ``card.html``.

The folder appears when the set is built, proven and described, or not at all. The same question about the same data
with the same code gives the same bytes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.features import FEATURES
from fraud.windows import DAY
from stores.columns import same_bits
from stores.files import Span
from stores.log import REACH_MS
from training import leaks
from training.bundling import code_digest
from training.coverage import coverage_of, require_covered
from training.data_card import write_data_card
from training.dataset import TrainingSet, build_training_set, event_times, read_log
from training.dataset_request import DatasetRequest
from training.errors import LeakingTrainingSet
from training.frames import write_training_set
from training.label_ages import Maturity, maturity_of
from training.leaks import LeakAudit, Scope, audit
from training.offline_vectors import history_vectors
from training.transaction_log import Progress, day_text, whole_folder, write_manifest

ROWS: Final = "rows.parquet"
MANIFEST: Final = "manifest.json"
CARD: Final = "card.html"
FORMAT: Final = 1

_PROBES: Final = 100
_COMPARED: Final = 2_000


@dataclass(frozen=True)
class Proof:
    """What vouches for a set: the leak audit, and how many of its rows were held to the audited path."""

    audit: LeakAudit
    compared: int
    mismatched: int

    @property
    def passed(self) -> bool:
        """Whether nothing leaked and no row differs."""
        return self.audit.passed and not self.mismatched

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        held = {"rows_compared": self.compared, "rows_mismatched": self.mismatched}
        return {"passed": self.passed} | held | leaks.as_data(self.audit)


@dataclass(frozen=True)
class Shown:
    """What moves a bar in each step of a build."""

    features: Progress
    audit: Progress


@dataclass(frozen=True)
class Dataset:
    """A set that was built: its rows, its manifest, and where they lie."""

    rows: TrainingSet
    manifest: Mapping[str, Any]
    folder: Path


def build_dataset(
    feature_store: Any, lake: Path, request: DatasetRequest, out: Path, *, root: Path, shown: Shown, seed: int = 0
) -> Dataset:
    """Build a training set, prove it, and write it with its manifest and data card.

    Parameters
    ----------
    feature_store
        A ``feast.FeatureStore`` on which the repository was applied for this lake.
    lake
        Folder of the data set.
    out
        Folder to write; must not exist, or be empty.
    root
        Of the source tree, for the code digest.
    seed
        Of the audited rows.

    Raises
    ------
    LeakingTrainingSet
        A feature of an audited row saw what it must not, or rows differ from the audited path; nothing is written.
    UnwritableOutput
        The folder holds something already, or the disk refused.
    InvalidSplit
        The log does not have every day asked for; or as for :func:`training.dataset.build_training_set`.
    UnreadableSource, IncompleteTrainingSet
        As for :func:`training.dataset.build_training_set`.
    """
    require_covered(lake, request.start_ms, request.end_ms)
    with whole_folder(out) as folder:
        rows = build_training_set(
            feature_store,
            lake,
            start_ms=request.start_ms,
            end_ms=request.mature_end_ms,
            as_of_ms=request.labels_at_ms,
            progress=shown.features,
            as_known=request.as_known,
            sampling=request.sampling,
        )
        rows, proof = proven(rows, lake, request, seed=seed, progress=shown.audit)
        settled = maturity_of(rows, lake)
        digests = {
            "rows": write_training_set(rows, folder / ROWS),
            "data": data_digest(lake, request.start_ms, request.mature_end_ms),
            "code": code_digest(root),
            "features": hashlib.sha256("\n".join((request.service, *rows.features)).encode()).hexdigest(),
        }
        manifest = _manifest(rows, request, lake, proof, settled, digests)
        write_manifest(manifest, folder)
        write_data_card(rows, manifest, settled, folder / CARD)
    return Dataset(rows, manifest, out)


def proven(
    rows: TrainingSet, lake: Path, request: DatasetRequest, *, seed: int, progress: Progress
) -> tuple[TrainingSet, Proof]:
    """Return rows with the proof that nothing leaks into them, see :func:`prove_rows`.

    Raises
    ------
    LeakingTrainingSet
        Something does, or rows differ from the audited path.
    """
    proof = prove_rows(rows, lake, request, seed=seed, progress=progress)
    if not proof.passed:
        raise LeakingTrainingSet(_findings(proof))
    return replace(rows, leak_audit=proof.as_data()), proof


def prove_rows(rows: TrainingSet, lake: Path, request: DatasetRequest, *, seed: int, progress: Progress) -> Proof:
    """Audit rows of one day of a set, and hold a sample of all its rows to the audited path, bit for bit."""

    def evaluate(where: Path, asked: pa.Table) -> npt.NDArray[np.float64]:
        return history_vectors(where, asked, request.as_known)

    draw = np.random.default_rng(seed)
    days = np.unique(rows.event_time_ms // DAY)
    day_ms = int(draw.choice(days)) * DAY
    mine = rows.between(day_ms, day_ms + DAY)
    ids = pa.table({"transaction_id": rows.transaction_id.slice(mine.start, mine.stop - mine.start)})
    span = Span((day_ms - REACH_MS) * 1000, (day_ms + 2 * DAY) * 1000, by_day=True)
    lag_ms = None if request.as_known is None else request.as_known.lag_ms
    found = audit(
        evaluate, lake, ids, seed=seed, probes=_PROBES, scope=Scope(lag_ms=lag_ms, span=span), advance=progress
    )
    taken = np.sort(draw.choice(len(rows.is_fraud), min(_COMPARED, len(rows.is_fraud)), replace=False))
    expected = evaluate(lake, _transactions(rows, lake, taken)).astype(np.float32)
    differs = ~same_bits(rows.matrix[taken].astype(np.float64), expected.astype(np.float64)).all(axis=1)
    return Proof(found, len(taken), int(differs.sum()))


def data_digest(lake: Path, start_ms: int, end_ms: int) -> str:
    """Return the SHA-256 of what a set of a span is made from: the log back to the longest window, labels, profiles."""
    first, last = f"dt={day_text(start_ms - REACH_MS)}", f"dt={day_text(end_ms - 1)}"
    files = [
        path for path in (lake / "transactions").rglob("*.parquet") if first <= path.parent.name <= last
    ]  # fmt: skip
    files += [path for path in (lake / "profiles").rglob("*.parquet") if not path.name.startswith(".")]
    files.append(lake / "labels.parquet")
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(lake).as_posix().encode())
        with path.open("rb") as source:
            digest.update(hashlib.file_digest(source, "sha256").digest())
    return digest.hexdigest()


def _transactions(rows: TrainingSet, lake: Path, taken: npt.NDArray[np.int64]) -> pa.Table:
    """Return some rows of a set as the log has them, in their order."""
    log = read_log(lake, int(rows.event_time_ms[0]), int(rows.event_time_ms[-1]) + 1)
    wanted = rows.transaction_id.take(pa.array(taken))
    place = pc.index_in(wanted, log["transaction_id"].combine_chunks())
    return log.take(place)


def _findings(proof: Proof) -> str:
    if proof.mismatched:
        return f"{proof.mismatched} of {proof.compared} rows differ from what the audited path says of them"
    first = proof.audit.leaks[0]
    return (
        f"{first.feature} of transaction {first.transaction_id} changes with what lies {_WHERE[first.kind]} "
        f"({first.rows} of {proof.audit.probes} audited rows, {len(proof.audit.leaks)} findings in all)"
    )


_WHERE: Final = {
    "future": "in its future",
    "same time": "in its own millisecond",
    "late arrival": "in reports that it could not know yet",
    "own": "in its own transaction's record",
    "unknown": "in transactions that had not arrived",
}


def _manifest(
    rows: TrainingSet,
    request: DatasetRequest,
    lake: Path,
    proof: Proof,
    settled: Maturity,
    digests: Mapping[str, str],
) -> dict[str, Any]:
    frauds, count = int(rows.is_fraud.sum()), len(rows.is_fraud)
    times = event_times(lake, request.start_ms, request.end_ms)
    settled_times = times[times < request.mature_end_ms]
    all_rows, mature = len(times), len(settled_times)
    weighted = float(count if rows.weights is None else rows.weights.astype(np.float64).sum())
    missing = np.isnan(rows.matrix).mean(axis=0)
    return {
        "format": FORMAT,
        "rows": count,
        "frauds": frauds,
        "request": request.as_data(),
        "days": coverage_of(settled_times, request.start_ms, request.mature_end_ms).as_data(),
        "rows_in_span": all_rows,
        "immature_rows_left_out": all_rows - mature,
        "class_balance": {"fraud_share": frauds / count, "weighted_fraud_share": frauds / weighted},
        "sampling": {
            "keep_legitimate": request.sampling.keep_legitimate,
            "seed": request.sampling.seed,
            "legitimate_rows_left_out": mature - count,
            "weight_column": None if rows.weights is None else "weight",
        },
        "label_maturity": settled.as_data(request.label_delay_ms, request.labels_at_ms),
        "leak_audit": proof.as_data(),
        "features": [
            {"name": feature.name, "whole": feature.whole, "missing": round(float(share), 6)}
            for feature, share in zip(FEATURES, missing, strict=True)
        ],
        "digests": dict(digests),
    }
