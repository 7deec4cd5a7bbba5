"""The offline log: every accepted transaction, once, as Parquet partitioned by the day of its event time.

Transactions *land* first, at least once, as ``landing/part-{name}.parquet``; a landed part is written before the
checkpoint moves. *Compacting* merges what landed into ``transactions/dt=YYYY-MM-DD/part-0.parquet``, one row per
transaction, sorted by (event time, id), and only then removes it: a kill at any point is repaired by the next run.
"""

import io
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud.errors import StoreUnavailable
from fraud.transaction import Transaction
from streaming.applied import parquet_bytes
from streaming.folders import Folder

LANDING: Final = "landing/"
_LANDED: Final = f"{LANDING}part-"
_LOCK: Final = f"{LANDING}lock"
TRANSACTIONS: Final = "transactions/"
_TIME: Final = pa.timestamp("us", tz="UTC")

TRANSACTION_LOG: Final = pa.schema(
    [
        pa.field("transaction_id", pa.string()),
        pa.field("card_id", pa.string()),
        pa.field("merchant_id", pa.string()),
        pa.field("device_id", pa.string()),
        pa.field("ip", pa.string()),
        pa.field("amount_minor", pa.int64()),
        pa.field("currency", pa.string()),
        pa.field("event_timestamp", _TIME),
        pa.field("created_timestamp", _TIME),
        pa.field("channel", pa.string()),
        pa.field("merchant_category", pa.int32()),
        pa.field("country", pa.string()),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("authorised", pa.bool_()),
    ]
)
"""Schema of the transaction log; ``created_timestamp`` is when Kinesis took it, never before the event."""


_IDENTITY: Final = ["transaction_id", "event_timestamp"]
_REPETITIVE: Final = ("card_id", "merchant_id", "currency", "channel", "merchant_category", "country")


class TransactionLog:
    """Lands accepted transactions, buffered until :meth:`flush`; threads may share it."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._rows: list[tuple[Transaction, int]] = []
        self._number = 0

    def accept(self, transactions: Iterable[tuple[Transaction, int]]) -> None:
        """Buffer transactions with their arrival in epoch ms; the same one may come again."""
        with self._lock:
            self._rows.extend(transactions)

    def flush(self, name: str) -> int:
        """Land the buffered rows as one part; return how many. One thread at a time.

        Parameters
        ----------
        name
            Of the part; an earlier one of the same name must hold nothing else.

        Raises
        ------
        StoreUnavailable
            The folder did not take them; they stay buffered.
        """
        with self._lock:
            rows, self._rows = self._rows, []
        if not rows:
            return 0
        table = _table(rows)
        try:
            self._folder.put(
                f"{_LANDED}{name}-{self._number:06d}.parquet", parquet_bytes(table, repetitive=_REPETITIVE)
            )
        except StoreUnavailable:
            with self._lock:
                self._rows = rows + self._rows
            raise
        self._number += 1
        return int(table.num_rows)


def compact(folder: Folder) -> int:
    """Merge what landed into the log; return how many transactions the touched days hold.

    Any number of workers may land meanwhile.

    Raises
    ------
    FolderBusy
        Another run is at work: one at a time.
    """
    with folder.locked(_LOCK):
        landed = folder.names(_LANDED)
        return _compact(folder, landed) if landed else 0


def _compact(folder: Folder, landed: Sequence[str]) -> int:
    new = pa.concat_tables([_read(folder, name) for name in landed])
    days = pc.strftime(new["event_timestamp"], format="%Y-%m-%d")
    rows = 0
    for day in sorted(set(days.to_pylist())):
        name = f"{TRANSACTIONS}dt={day}/part-0.parquet"
        fresh = new.filter(pc.equal(days, day))
        held = [_read(folder, name)] if name in folder.names(name) else []
        merged = unique_transactions(pa.concat_tables([*held, fresh]))
        folder.put(name, parquet_bytes(merged))
        rows += merged.num_rows
    for name in landed:
        folder.remove(name)
    return rows


def unique_transactions(table: pa.Table) -> pa.Table:
    """Return one row per transaction, sorted by (event time, id).

    A transaction is its id and its event time, as in the states: an id that comes with another time is another one, in
    the log as in every count. The earliest arrival wins; the issuer's answer is the last one known.
    """
    ordered = table.sort_by([("created_timestamp", "ascending"), ("transaction_id", "ascending")])
    first = pc.ScalarAggregateOptions(skip_nulls=False)
    names = [name for name in TRANSACTION_LOG.names if name not in (*_IDENTITY, "authorised")]
    wanted: list[Any] = [(name, "first", first) for name in names]
    grouped = ordered.group_by(_IDENTITY, use_threads=False).aggregate([*wanted, ("authorised", "last")])
    renamed = {f"{name}_first": name for name in names} | {"authorised_last": "authorised"}
    grouped = grouped.rename_columns([renamed.get(name, name) for name in grouped.column_names])
    chosen = grouped.select(TRANSACTION_LOG.names).cast(TRANSACTION_LOG)
    return chosen.sort_by([("event_timestamp", "ascending"), ("transaction_id", "ascending")])


def _read(folder: Folder, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(folder.get(name)), schema=TRANSACTION_LOG)


def _table(rows: Sequence[tuple[Transaction, int]]) -> pa.Table:
    unique: dict[tuple[str, int, bool | None], tuple[Transaction, int]] = {}
    for transaction, arrival_ms in rows:
        told = transaction.transaction_id, transaction.event_time_ms, transaction.authorised
        unique.setdefault(told, (transaction, arrival_ms))
    kept = [transaction for transaction, _ in unique.values()]
    columns: dict[str, Any] = dict(
        zip(Transaction.__struct_fields__, zip(*map(msgspec.structs.astuple, kept), strict=True), strict=True)
    )
    times_ms = columns["event_time_ms"]
    columns["event_timestamp"] = _moments(times_ms)
    columns["created_timestamp"] = _moments(
        [max(time_ms, arrival_ms) for time_ms, (_, arrival_ms) in zip(times_ms, unique.values(), strict=True)]
    )
    return pa.table({name: columns[name] for name in TRANSACTION_LOG.names}, schema=TRANSACTION_LOG)


def _moments(times_ms: Sequence[int]) -> pa.Array:
    return pa.array(times_ms, pa.timestamp("ms", tz="UTC")).cast(_TIME)
