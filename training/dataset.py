"""The point-in-time training set: transactions and labels in, one row of features per transaction out, in order.

Features come through Feast's ``get_historical_features`` and the as-of store, in slabs of days, so that memory is
bounded by the slab and the float32 matrix that remains. Labels are the ones known at the time asked for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.features import FEATURE_NAMES, SERVICE
from fraud.windows import DAY
from stores.as_known import AsKnown, asking_as_known
from stores.columns import milliseconds
from stores.files import Location, Span, read_batches, read_files
from training.errors import IncompleteTrainingSet, InvalidSplit
from training.labels import read_labels, settle_labels
from training.sampling import EVERY_ROW, Sampling
from training.transaction_log import TRANSACTIONS_SCHEMA, Progress, log_folder

SLAB_ROWS = 120_000

Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainingSet:
    """Rows in the order of (event time, transaction id): equally long columns.

    Parameters
    ----------
    features
        Names of the columns of ``matrix``.
    matrix
        Shape ``(n, len(features))``; NaN is null.
    transaction_id
        Text.
    card
        A number for each card, the same within this set only.
    event_time_ms, amount_minor
        Of each transaction.
    is_fraud
        As known at ``as_of_ms``; false where nobody said otherwise.
    as_of_ms
        When the labels were read, epoch ms.
    weights
        How many transactions each row stands for, where some were left out or never got a label, see
        :mod:`training.sampling` and :mod:`training.selective`; null when each stands for itself.
    leak_audit
        What the leak prover said of these rows, as :meth:`training.dataset_files.Proof.as_data` has it; null where it
        did not run.
    """

    features: tuple[str, ...]
    matrix: Float32Array
    transaction_id: pa.Array
    card: IntArray
    event_time_ms: IntArray
    amount_minor: IntArray
    is_fraud: BoolArray
    as_of_ms: int
    weights: FloatArray | None = None
    leak_audit: Mapping[str, Any] | None = None

    def between(self, start_ms: int, end_ms: int) -> slice:
        """Return the rows with ``start_ms <= event time < end_ms``."""
        low, high = np.searchsorted(self.event_time_ms, [start_ms, end_ms])
        return slice(int(low), int(high))

    def columns(self, names: tuple[str, ...]) -> IntArray:
        """Return the positions of some features."""
        return np.array([self.features.index(name) for name in names], np.int64)


def build_training_set(
    feature_store: Any,
    lake: Path,
    *,
    start_ms: int,
    end_ms: int,
    as_of_ms: int,
    progress: Progress,
    as_known: AsKnown | None = None,
    sampling: Sampling = EVERY_ROW,
) -> TrainingSet:
    """Return the training set of the transactions in ``[start_ms, end_ms)``.

    Parameters
    ----------
    feature_store
        A ``feast.FeatureStore`` on which the repository was applied.
    lake
        Folder of the data set.
    as_of_ms
        Labels that arrived later are not known.
    progress
        Called with the rows done and the rows in all.
    as_known
        Lets each row see only what had arrived by its time; null lets it see what had happened.
    sampling
        Which legitimate rows are kept; the others are not computed.

    Raises
    ------
    InvalidSplit
        The log has no transaction in the span, or none is kept.
    UnreadableSource
        There is no log, or there are no labels.
    IncompleteTrainingSet
        Feast answered with other rows than it was asked for.
    """
    log = read_log(lake, start_ms, end_ms)
    if not len(log):
        raise InvalidSplit(
            f"{lake} has no transaction from {_day(start_ms)} to {_day(end_ms)} (exclusive); {_span(lake)}"
        )
    settled = settle_labels(read_labels(lake), log["transaction_id"].combine_chunks(), as_of_ms=as_of_ms)
    kept = sampling.kept(log["transaction_id"].combine_chunks(), settled.is_fraud)
    if not kept.any():
        raise InvalidSplit(f"none of {len(log)} rows is kept: keep a larger share than {sampling.keep_legitimate}")
    card = log["card_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)[kept]
    log, is_fraud = log.filter(pa.array(kept)), settled.is_fraud[kept]
    with asking_as_known(as_known):
        matrix = _features(feature_store, log, progress)
    return TrainingSet(
        features=FEATURE_NAMES,
        matrix=matrix,
        transaction_id=log["transaction_id"].combine_chunks(),
        card=card,
        event_time_ms=log["event_timestamp"].cast(pa.int64()).to_numpy() // 1000,
        amount_minor=log["amount_minor"].to_numpy(),
        is_fraud=is_fraud,
        as_of_ms=as_of_ms,
        weights=sampling.weights(is_fraud),
    )


def _features(feature_store: Any, log: pa.Table, progress: Progress) -> Float32Array:
    """Return the features of every transaction of a log, slab by slab, through Feast."""
    service = feature_store.get_feature_service(SERVICE)
    matrix = np.empty((len(log), len(FEATURE_NAMES)), np.float32)
    for start, slab in _slabs(log):
        job = feature_store.get_historical_features(entity_df=entity_rows(slab).to_pandas(), features=service)
        found = job.to_arrow()
        if not found["transaction_id"].combine_chunks().equals(slab["transaction_id"].combine_chunks()):
            raise IncompleteTrainingSet(f"asked for {len(slab)} rows, got {len(found)} others or in another order")
        for column, name in enumerate(FEATURE_NAMES):
            values = pc.cast(found[name], pa.float64(), safe=False)
            matrix[start : start + len(slab), column] = values.to_numpy(zero_copy_only=False)
        progress(start + len(slab), len(log))
    return matrix


def event_times(lake: Path, start_ms: int, end_ms: int) -> IntArray:
    """Return the event times of the transactions in ``[start_ms, end_ms)``, epoch ms, in the order of the files."""
    name, span = _asked(start_ms, end_ms)
    found = [milliseconds(table[name]) for table in read_batches(_log_of(lake), [name], name, span)]
    return np.concatenate(found)


def labelled_at(rows: TrainingSet, statements: pa.Table, as_of_ms: int) -> TrainingSet:
    """Return the same rows with the labels that were known at another time; nothing else is touched.

    Parameters
    ----------
    statements
        Table of ``labels.parquet``.
    as_of_ms
        Later arrivals are not known, epoch ms.
    """
    settled = settle_labels(statements, rows.transaction_id, as_of_ms=as_of_ms)
    return replace(rows, is_fraud=settled.is_fraud, as_of_ms=as_of_ms)


def with_features(rows: TrainingSet, names: tuple[str, ...]) -> TrainingSet:
    """Return the same rows with some of their features, in the order given."""
    return replace(rows, features=names, matrix=np.ascontiguousarray(rows.matrix[:, rows.columns(names)]))


def read_log(lake: Path, start_ms: int, end_ms: int) -> pa.Table:
    """Return the transactions in ``[start_ms, end_ms)``, sorted by event time and id, reading only their days.

    Raises
    ------
    UnreadableSource
        There is no log (:mod:`training.errors`); or a file of these days is broken, lacks a column, has one in
        another type or a null where none may be (:mod:`stores.errors`); the message names file and column.
    """
    table = read_files(
        _log_of(lake), TRANSACTIONS_SCHEMA.names, *_asked(start_ms, end_ms), declared=TRANSACTIONS_SCHEMA
    )
    return table.sort_by([("event_timestamp", "ascending"), ("transaction_id", "ascending")])


def _log_of(lake: Path) -> Location:
    return Location(str(log_folder(lake)))


def _asked(start_ms: int, end_ms: int) -> tuple[str, Span]:
    return "event_timestamp", Span(start_ms * 1000, end_ms * 1000 - 1, by_day=True)


def entity_rows(log: pa.Table) -> pa.Table:
    """Return what Feast is asked with: join keys, event time and the request values of each transaction."""
    device = pc.fill_null(log["device_id"], "")
    time_ms = pc.divide(log["event_timestamp"].cast(pa.int64()), 1000)
    return pa.table(
        {
            "transaction_id": log["transaction_id"],
            "card_id": log["card_id"],
            "device_id": device,
            "ip": pc.fill_null(log["ip"], ""),
            "merchant_id": log["merchant_id"],
            "event_timestamp": log["event_timestamp"],
            "event_time_ms": time_ms,
            "amount_minor": log["amount_minor"],
            "card_token": log["card_id"],
            "merchant_token": log["merchant_id"],
            "device_token": device,
            "channel": log["channel"],
            "merchant_category": log["merchant_category"].cast(pa.int64()),
            "country": log["country"],
            "latitude": log["latitude"],
            "longitude": log["longitude"],
        }
    )


def _slabs(log: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Yield whole days together until a slab is full: the fewer slabs, the fewer times 30 days of log are read."""
    days = log["event_timestamp"].cast(pa.int64()).to_numpy() // (DAY * 1000)
    ends = [*(np.flatnonzero(np.diff(days)) + 1).tolist(), len(log)]
    start = 0
    for position, end in enumerate(ends):
        following = ends[position + 1] if position + 1 < len(ends) else end
        if following - start > SLAB_ROWS or end == len(log):
            yield start, log.slice(start, end - start)
            start = end


def _span(lake: Path) -> str:
    """Return which days a lake has, as a sentence's end."""
    days = sorted(folder.name.removeprefix("dt=") for folder in (lake / "transactions").glob("dt=*"))
    return f"it has {days[0]} to {days[-1]}" if days else "it has no day at all"


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()
