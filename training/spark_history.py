"""Velocity of any number of rows on Spark: the kernel of one machine, run by entity where the rows lie.

Each kind of entity is one pass: the log is dealt out by the hash of the key, sorted within each part by key and time,
and handed to :mod:`fraud.history` as Arrow, some keys at a time (``applyInArrow`` would give one key to each call, and
most cards have a handful of rows). No part needs another, so memory is bounded by the busiest part. The result has one
row for each transaction, the same to the last bit as the offline store gives for the same rows; a test holds it to
that. Only a log that was checked (:mod:`training.spark_log`) gets here. Spark is imported by whoever calls this: it is
no dependency of the project.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.history import Questions, read_history, sort_history
from fraud.velocity import Changes
from fraud.windows import JOIN_KEYS, PARTIES, VELOCITY_FEATURES, Entity
from stores.columns import hash_column, joined, microseconds, number_keys
from stores.log import places, report_changes, transaction_changes
from training.errors import IncompleteTrainingSet
from training.spark_log import CheckedLog

ID: Final = "transaction_id"
_REPORT: Final = "is_report"


def velocity_frame(log: CheckedLog, entity: Entity, *, parts: int) -> Any:
    """Return every window of one kind of entity at each transaction, a Spark data frame.

    Parameters
    ----------
    log
        The log and its fraud reports. A transaction that lies in it twice (same id, time and key) counts once and has
        one row.
    entity
        Whose windows.
    parts
        Among how many parts the keys are dealt; transactions without one are dealt by their id.

    Returns
    -------
    frame
        ``transaction_id`` and the entity's features: ``bigint``, or ``double`` where null means nothing to compare.
        Transactions without the entity have a row as of an entity never seen.
    """
    from pyspark.sql import functions as sql

    key = JOIN_KEYS[entity]
    both = log.transactions.withColumn(_REPORT, sql.lit(False))  # noqa: FBT003 - a column has no name for its value
    if log.reports is not None:
        known = log.reports.withColumn("event_timestamp", sql.col("created_timestamp"))
        for name, kind in log.transactions.dtypes:
            if name not in known.columns:
                known = known.withColumn(name, sql.lit(None).cast(kind))
        known = known.withColumn(_REPORT, sql.lit(True))  # noqa: FBT003
        both = both.unionByName(known.select(*both.columns))
    keyed = both.withColumn(key, sql.coalesce(sql.col(key), sql.lit("")))
    # Rows of nobody need no others: dealt by their key they would all lie in one part, which is the busiest by far
    dealt = sql.when(sql.col(key) == "", sql.col(ID)).otherwise(sql.col(key))
    moved = keyed.repartition(parts, dealt).sortWithinPartitions(key, "event_timestamp", ID)
    return moved.mapInArrow(_evaluator(entity), _schema(entity))


def require_every_row(log: CheckedLog, entity: Entity, found: int) -> None:
    """Raise :class:`training.errors.IncompleteTrainingSet` unless a result has one row for each transaction.

    Transactions are counted by Spark alone, once each where they lie in the log twice.

    Parameters
    ----------
    found
        Rows of the entity's result, as they were read back.
    """
    from pyspark.sql import functions as sql

    key = sql.coalesce(sql.col(JOIN_KEYS[entity]), sql.lit(""))
    expected = log.transactions.select(ID, "event_timestamp", key).distinct().count()
    if found != expected:
        raise IncompleteTrainingSet(
            f"{expected} transactions have {found} rows of {entity} windows: the result is not whole, remove it"
        )


def _schema(entity: Entity) -> str:
    kinds = {True: "bigint", False: "double"}
    return ", ".join([f"{ID} string", *(f"{f.name} {kinds[f.whole]}" for f in VELOCITY_FEATURES[entity])])


def _evaluator(entity: Entity) -> Any:
    """Return the function that Spark runs on each part: batches in order of key go in, batches of values come out."""

    def evaluate(batches: Iterator[Any]) -> Iterator[Any]:
        for table in whole_keys(batches, JOIN_KEYS[entity]):
            yield from evaluate_part(table, entity).to_batches()

    return evaluate


def whole_keys(batches: Iterator[Any], key: str) -> Iterator[Any]:
    """Yield batches in order of a key as tables in which no key is cut in two.

    Examples
    --------
    >>> cut = [pa.record_batch({"k": ["a", "b"]}), pa.record_batch({"k": ["b", "c"]})]
    >>> [table["k"].to_pylist() for table in whole_keys(iter(cut), "k")]
    [['a'], ['b', 'b'], ['c']]
    """
    waiting: list[Any] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        names = batch.column(batch.schema.names.index(key))
        last = names[-1].as_py()
        first_of_last = names.index(last).as_py()
        if waiting and waiting[-1].column(key)[-1].as_py() != names[0].as_py():
            yield pa.concat_tables(waiting)
            waiting = []
        if first_of_last:
            yield pa.concat_tables([*waiting, pa.Table.from_batches([batch.slice(0, first_of_last)])])
            waiting = []
        waiting.append(pa.Table.from_batches([batch.slice(first_of_last)]))
    if waiting:
        yield pa.concat_tables(waiting)


def evaluate_part(table: Any, entity: Entity) -> Any:
    """Return the windows of the transactions in ``table``, which holds all changes of each of its keys.

    Parameters
    ----------
    table
        Arrow: columns of the log and ``is_report``, in order of key, time and transaction id.
    """
    said = np.asarray(joined(table[_REPORT]).to_numpy(zero_copy_only=False), np.bool_)
    paid = table.filter(pa.array(~said))
    changes: list[Changes] = [_with_parties(transaction_changes(paid), paid, entity)]
    reported = table.filter(pa.array(said))
    changes.append(report_changes(reported.select([ID, "event_timestamp"]).rename_columns([ID, "created_timestamp"])))
    keys, numbers = number_keys([paid[JOIN_KEYS[entity]], reported[JOIN_KEYS[entity]]])
    history = sort_history(entity, np.concatenate(numbers), np.concatenate(changes), len(keys))
    once = ~_repeats(paid, numbers[0])
    rows, number = paid.filter(pa.array(once)), numbers[0][once]
    where = places(rows["latitude"], rows["longitude"])
    party = (hash_column(rows[JOIN_KEYS[PARTIES[entity][0]]]) & np.uint64(0xFFFFFFFF)).astype(np.int64)
    asked = Questions(number, microseconds(rows["event_timestamp"]) // 1000, party, where.latitude, where.longitude)
    values = read_history(history, asked)
    columns = {ID: joined(rows[ID]).cast(pa.string())}
    for position, feature in enumerate(VELOCITY_FEATURES[entity]):
        column = values[:, position]
        columns[feature.name] = (
            pa.array(column.astype(np.int64)) if feature.whole else pa.array(column, mask=np.isnan(column))
        )
    return pa.table(columns)


def _repeats(paid: Any, number: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which sorted transactions are the one before once more; their flags have been joined in its history."""
    repeated = np.zeros(len(number), np.bool_)
    names, times = joined(paid[ID]), microseconds(paid["event_timestamp"])
    same = pc.equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)
    repeated[1:] = same & (np.diff(times) == 0) & (np.diff(number) == 0)
    return repeated


def _with_parties(changes: Changes, paid: Any, entity: Entity) -> Changes:
    for field, other in zip(("party", "other"), PARTIES[entity], strict=True):
        names = paid[JOIN_KEYS[other]]
        hashes = hash_column(names) & np.uint64(0xFFFFFFFF)
        empty = np.asarray(joined(pc.equal(names.fill_null(""), "")).to_numpy(zero_copy_only=False), np.bool_)
        changes[field] = np.where(empty, 0, hashes)
    return changes
