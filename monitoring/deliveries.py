"""A stream as bad as the contract allows: late within the stated lateness, reordered, repeated, rewound by an hour.

Every transaction is one record for each entity it has, and every fraud report likewise, delivered when it became known.
Records of one transaction come independently: their entities lie on different shards.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.record import SCHEMA, Record, Report, encode_record
from fraud.tiles import LATENESS_MS
from fraud.transaction import Transaction
from fraud.windows import ENTITIES, HOUR, JOIN_KEYS

IntArray = npt.NDArray[np.int64]

SLOTS: Final = (1, 4, 16, 64)
"""How many requests are answered between two deliveries: mostly few, sometimes so many that the stream falls behind."""


@dataclass(frozen=True)
class Turbulence:
    """How bad the stream is.

    Parameters
    ----------
    delayed
        Share of the records that come late, by up to ``longest_ms``; the others come within a second.
    longest_ms
        Below the stated lateness.
    repeated
        Share of the records that come once more, within the hour.
    rewind_every
        Slots between two rewinds by an hour.
    rewind_most
        Most records delivered again by one rewind.
    """

    delayed: float = 0.3
    longest_ms: int = LATENESS_MS - 1_000
    repeated: float = 0.1
    rewind_every: int = 150
    rewind_most: int = 2_000


@dataclass(frozen=True)
class Deliveries:
    """Records in the order in which they are delivered: equally long columns.

    Parameters
    ----------
    due_ms
        When each is delivered, ascending.
    row
        Of ``transactions``, whose record it is or of whom the report speaks.
    entity
        Place in ``ENTITIES``.
    known_ms
        When the report became known; -1 for the transaction itself.
    transactions
        What happened, in order of time and id.
    repeats
        How many of the rows are repeats.
    """

    due_ms: IntArray
    row: IntArray
    entity: IntArray
    known_ms: IntArray
    transactions: list[Transaction]
    repeats: int

    def batch(self, start: int, stop: int) -> list[tuple[bytes, str, str, int]]:
        """Return the records ``start:stop`` as the stream's feed takes them: data, key, sequence number, arrival."""
        return [(*self._encoded(place), str(place), int(self.due_ms[place])) for place in range(start, stop)]

    def _encoded(self, place: int) -> tuple[bytes, str]:
        transaction = self.transactions[self.row[place]]
        entity, known = ENTITIES[self.entity[place]], int(self.known_ms[place])
        key = str(getattr(transaction, JOIN_KEYS[entity]))
        if known < 0:
            record = Record(schema=SCHEMA, entity=entity, key=key, kind="transaction", transaction=transaction)
        else:
            report = Report(transaction.transaction_id, known)
            record = Record(schema=SCHEMA, entity=entity, key=key, kind="report", report=report)
        return encode_record(record), record.partition_key


@dataclass(frozen=True)
class Slot:
    """Requests ``first:last`` are answered once the deliveries up to ``until`` were applied."""

    first: int
    last: int
    until: int


def transactions_of(log: pa.Table) -> list[Transaction]:
    """Return the rows of a transaction log as transactions, the issuer's answer included."""
    names = [name for name in Transaction.__struct_fields__ if name != "event_time_ms"]
    columns = {name: log[name].to_pylist() for name in names}
    columns["event_time_ms"] = (log["event_timestamp"].cast(pa.int64()).to_numpy() // 1000).tolist()
    rows = zip(*columns.values(), strict=True)
    return [Transaction(**dict(zip(columns, row, strict=True))) for row in rows]


def deliveries_of(log: pa.Table, labels: pa.Table | None, *, seed: int, turbulence: Turbulence) -> Deliveries:
    """Return the stream of a lake.

    Parameters
    ----------
    log
        Transactions in order of time and id.
    labels
        Statements; those that say fraud are reported. Null for none.
    """
    dice = np.random.default_rng(seed)
    time_ms = log["event_timestamp"].cast(pa.int64()).to_numpy() // 1000
    reported, known_ms = _reports(log, labels, last_ms=int(time_ms[-1]))
    row = np.concatenate([np.arange(len(time_ms)), reported])
    moment = np.concatenate([time_ms, known_ms])
    known = np.concatenate([np.full(len(time_ms), -1), known_ms])
    has = [pc.and_(pc.is_valid(log[JOIN_KEYS[name]]), pc.not_equal(log[JOIN_KEYS[name]], "")) for name in ENTITIES]
    owned = np.stack([pc.fill_null(column, fill_value=False).to_numpy() for column in has])
    entity = np.repeat(np.arange(len(ENTITIES)), len(row))
    sent = np.concatenate([owned[number][row] for number in range(len(ENTITIES))])
    row, moment, known = (np.tile(column, len(ENTITIES))[sent] for column in (row, moment, known))
    entity = entity[sent]
    late = dice.random(len(row)) < turbulence.delayed
    due = moment + np.where(late, dice.integers(0, turbulence.longest_ms, len(row)), dice.integers(0, 1_000, len(row)))
    again = np.flatnonzero(dice.random(len(row)) < turbulence.repeated)
    due = np.concatenate([due, due[again] + dice.integers(0, HOUR, len(again))])
    order = np.lexsort((dice.random(len(due)), due))
    row, entity, known = (np.concatenate([column, column[again]])[order] for column in (row, entity, known))
    return Deliveries(due[order], row, entity, known, transactions_of(log), len(again))


def _reports(log: pa.Table, labels: pa.Table | None, *, last_ms: int) -> tuple[IntArray, IntArray]:
    """Return the row of each fraud report that becomes known by ``last_ms``, and when."""
    if labels is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    said = labels.filter(labels["is_fraud"])
    place = pc.index_in(said["transaction_id"].combine_chunks(), log["transaction_id"].combine_chunks())
    known: IntArray = said["created_timestamp"].cast(pa.int64()).to_numpy() // 1000
    rows = pc.fill_null(place, -1).to_numpy().astype(np.int64)
    wanted = (rows >= 0) & (known <= last_ms)
    return rows[wanted], known[wanted]


def slots_of(deliveries: Deliveries, time_ms: IntArray, edges: IntArray, *, seed: int) -> Iterator[Slot]:
    """Yield the slots in which requests are answered, in order.

    A request is answered once everything that was due by the first request of its slot has been delivered, and nothing
    later: never before its time, often behind it.

    Parameters
    ----------
    time_ms
        Of the requests, ascending.
    edges
        Moments that no slot may straddle, ascending: when profiles are published.
    """
    dice: Any = np.random.default_rng(seed + 1)
    cuts = np.searchsorted(time_ms, edges)
    first = 0
    while first < len(time_ms):
        last = min(first + int(dice.choice(SLOTS)), len(time_ms))
        edge = int(np.searchsorted(cuts, first, side="right"))
        if edge < len(cuts):
            last = min(last, max(first + 1, int(cuts[edge])))
        yield Slot(first, last, int(np.searchsorted(deliveries.due_ms, time_ms[first], side="right")))
        first = last
