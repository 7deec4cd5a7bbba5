"""What a data set's labels are like: statements, corrections, quarrels, and how fast they arrive."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from training.errors import UnreadableSource
from training.labels import read_labels, read_truth, settle_labels
from training.maturity import MaturityCurve, estimate_maturity, fraud_delays
from training.ranking import DAY_MS

SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Shares of the labels for which the age is reported at which they have arrived."""


@dataclass(frozen=True)
class LabelReport:
    """The labels of a data set as of a time.

    Parameters
    ----------
    transactions, statements
        Transactions up to that time, statements that had arrived.
    unknown
        Statements on transactions that the log does not have.
    repeated
        Statements that say again what their source had said of the transaction.
    corrected
        Transactions of which one source said both.
    disputed
        Transactions of which two sources disagree; the order of sources settles them.
    frauds
        Transactions that count as fraud.
    by_source
        Statements of each source.
    days_until
        For each of :data:`SHARES`, as text, the age in days at which that share of the fraud labels has arrived.
    never
        Share of the true frauds that are no fraud by any label a horizon later; null without a truth.
    curve
        The maturity curve behind ``days_until``.
    """

    transactions: int
    statements: int
    unknown: int
    repeated: int
    corrected: int
    disputed: int
    frauds: int
    by_source: dict[str, int]
    days_until: dict[str, int]
    never: float | None
    curve: MaturityCurve

    def figures(self) -> dict[str, Any]:
        """Return the report as plain data."""
        curve = {name: values.tolist() for name, values in asdict(self.curve).items() if name != "labels"}
        return asdict(self) | {"curve": curve | {"labels": self.curve.labels}}


def report_labels(lake: Path, *, as_of_ms: int, seed: int = 0) -> LabelReport:
    """Return the report on the labels of a lake that had arrived by ``as_of_ms``.

    Raises
    ------
    UnreadableSource
        There is no log, there are no labels, or too few frauds for a curve.
    """
    folder = lake / "transactions"
    if not folder.is_dir():
        raise UnreadableSource(f"{folder} is missing: generate or import a data set first")
    log = ds.dataset(folder, format="parquet").to_table(columns=["transaction_id", "event_timestamp"])
    log = log.filter(pc.less(log["event_timestamp"].cast(pa.int64()), as_of_ms * 1000))
    ids, time_ms = log["transaction_id"].combine_chunks(), log["event_timestamp"].cast(pa.int64()).to_numpy() // 1000
    all_said = read_labels(lake)
    said = all_said.filter(pc.less_equal(all_said["created_timestamp"].cast(pa.int64()), as_of_ms * 1000))
    settled = settle_labels(said, ids, as_of_ms=as_of_ms)
    event_ms, delay_ms = fraud_delays(said, ids, time_ms, as_of_ms=as_of_ms)
    curve = estimate_maturity(event_ms, delay_ms, as_of_ms=as_of_ms, seed=seed)
    by_voice = said.group_by(["transaction_id", "source"]).aggregate([("is_fraud", "min"), ("is_fraud", "max")])
    both = pc.not_equal(by_voice["is_fraud_min"], by_voice["is_fraud_max"])
    voices = by_voice.group_by("transaction_id").aggregate([("is_fraud_min", "min"), ("is_fraud_max", "max")])
    mixed = pc.not_equal(voices["is_fraud_min_min"], voices["is_fraud_max_max"])
    corrected = pc.count_distinct(by_voice.filter(both)["transaction_id"]).as_py()
    distinct = said.group_by(["transaction_id", "source", "is_fraud"]).aggregate([]).num_rows
    counted = pc.value_counts(said["source"]).to_pylist()
    inside = pc.index_in(said["transaction_id"].combine_chunks(), ids)
    return LabelReport(
        transactions=len(ids),
        statements=len(said),
        unknown=inside.null_count,
        repeated=len(said) - distinct,
        corrected=corrected,
        disputed=int(pc.sum(mixed).as_py() or 0) - corrected,
        frauds=int(settled.is_fraud.sum()),
        by_source={str(entry["values"]): int(entry["counts"]) for entry in counted},
        days_until={f"{share:g}": curve.days_until(share) for share in SHARES},
        never=_never(lake, ids, time_ms, settled.is_fraud, len(curve.arrived), as_of_ms),
        curve=curve,
    )


def _never(lake: Path, ids: Any, time_ms: Any, is_fraud: Any, horizon_days: int, as_of_ms: int) -> float | None:
    """Return the share of the true frauds, old enough for any label seen, that do not count as fraud."""
    truth = read_truth(lake)
    if truth is None:
        return None
    fraudulent = truth.filter(truth["is_fraud"])["transaction_id"].combine_chunks()
    truly = pc.index_in(ids, fraudulent).is_valid().to_numpy(zero_copy_only=False)
    old = truly & (time_ms < as_of_ms - horizon_days * DAY_MS)
    return float(1.0 - np.mean(is_fraud[old])) if old.any() else None
