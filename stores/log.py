"""The transaction log as histories: what happened to every card, device, ip and merchant, for questions at any time.

A *lake* is a folder, or a prefix of a bucket, with ``transactions/dt=YYYY-MM-DD/*.parquet`` and, when there are any,
``labels.parquet``. A fraud report (a label that says fraud) is a change too: it happens to each entity of its
transaction at the time it became known. The log may hold a transaction twice; it counts once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pds

from fraud import ring
from fraud.history import History, Questions, sort_history
from fraud.known import KnownHistory, sort_known
from fraud.velocity import Changes, country_code
from fraud.windows import ENTITIES, JOIN_KEYS, PARTIES, Entity, reach_ms
from stores.columns import (
    MOMENT,
    IntArray,
    KeyNumbers,
    find_keys,
    floats,
    hash_column,
    hash_strings,
    integers,
    joined,
    microseconds,
    milliseconds,
)
from stores.errors import UnsupportedRequest
from stores.files import Location, Span, count_days, read_batches, read_files

REACH_MS: Final = reach_ms()
"""How far before a question's time a window may reach: the longest window, and its tile."""

TRANSACTIONS: Final = "transactions"
LABELS: Final = "labels.parquet"

_TIME: Final = "event_timestamp"
_CREATED: Final = "created_timestamp"
LOG_SCHEMA: Final = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        *(pa.field(key, pa.string(), nullable=key not in {"card_id", "merchant_id"}) for key in JOIN_KEYS.values()),
        pa.field("amount_minor", pa.int64(), nullable=False),
        pa.field(_TIME, MOMENT, nullable=False),
        pa.field("country", pa.string(), nullable=False),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("authorised", pa.bool_()),
        pa.field(_CREATED, MOMENT, nullable=False),
    ]
)
"""The columns of the log that windows are made from, as they must be; others may lie beside them."""

LABELS_SCHEMA: Final = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("is_fraud", pa.bool_()),
        pa.field(_CREATED, MOMENT, nullable=False),
    ]
)
"""The columns of the labels that fraud reports are made from."""

CHANGE_COLUMNS: Final = tuple(name for name in LOG_SCHEMA.names if name != _CREATED)
"""The columns of the log that windows are made from when it does not matter when a row arrived."""


@dataclass(frozen=True)
class Log:
    """Transactions and fraud reports, column-wise.

    Parameters
    ----------
    keys
        The distinct join keys of each kind of entity, an Arrow string array; a key's number is its place.
    transactions, reports
        Records of :data:`fraud.ring.ENTRY` without ``party`` and ``other``.
    transaction_keys, report_keys
        The key numbers of each record, -1 where it has none.
    arrived_us
        When each transaction and then each report arrived, epoch microseconds; null when the log was loaded without.
    """

    keys: Mapping[Entity, Any]
    transactions: Changes
    transaction_keys: Mapping[Entity, IntArray]
    reports: Changes
    report_keys: Mapping[Entity, IntArray]
    arrived_us: IntArray | None = None

    def history(self, entity: Entity) -> History:
        """Return what happened to every ``entity``, sorted; transactions that lie in the log twice count once."""
        key, changes = self._changes(entity)
        return sort_history(entity, key, changes, len(self.keys[entity]))

    def known_history(self, entity: Entity) -> KnownHistory:
        """Return what happened to every ``entity`` and when it arrived.

        Raises
        ------
        UnsupportedRequest
            The log was loaded without arrivals.
        """
        if self.arrived_us is None:
            raise UnsupportedRequest("the log was loaded without arrivals; load it with arrivals=True")
        key, changes = self._changes(entity)
        return sort_known(entity, key, changes, self.arrived_us, len(self.keys[entity]))

    def _changes(self, entity: Entity) -> tuple[IntArray, Changes]:
        changes = np.concatenate((self.transactions, self.reports))
        count = len(self.transactions)
        party, other = PARTIES[entity]
        changes["party"][:count] = self._hashes(party)
        changes["other"][:count] = self._hashes(other)
        return np.concatenate((self.transaction_keys[entity], self.report_keys[entity])), changes

    def numbers(self, entity: Entity, keys: Any) -> IntArray:
        """Return the number of each join key in an Arrow string column; -1 for null, empty and never seen."""
        return find_keys(self.keys[entity], keys)

    def questions(self, entity: Entity, *, key: Any, as_of_ms: IntArray, party: Any, place: "Places") -> Questions:
        """Return the questions that transactions about to be scored ask of their ``entity``.

        Parameters
        ----------
        key
            Join key of each, an Arrow string column; null or empty where there is none.
        as_of_ms
            Event time of each.
        party
            The counterpart of each: its first in :data:`fraud.windows.PARTIES`; an Arrow string column.
        place
            Where each happened.
        """
        hashes = (hash_column(party) & np.uint64(0xFFFFFFFF)).astype(np.int64)
        return Questions(self.numbers(entity, key), as_of_ms, hashes, place.latitude, place.longitude)

    def _hashes(self, entity: Entity) -> npt.NDArray[np.uint32]:
        """Return the hash that a ring keeps of each transaction's ``entity``; 0 where it has none."""
        hashes = np.append(hash_strings(self.keys[entity]), np.uint64(0)).astype(np.uint32)
        return hashes[self.transaction_keys[entity]]


@dataclass(frozen=True)
class Places:
    """Places in 1e-5 degrees, ``NOWHERE`` where unknown; shape ``(n,)`` each."""

    latitude: IntArray
    longitude: IntArray


def places(latitude: Any, longitude: Any) -> Places:
    """Return Arrow columns of degrees as places; rounding is that of a single transaction, half to even."""
    return Places(_rounded(latitude), _rounded(longitude))


def _rounded(column: Any) -> IntArray:
    degrees = floats(column)
    return np.where(np.isnan(degrees), ring.NOWHERE, np.rint(np.nan_to_num(degrees) * 1e5)).astype(np.int64)


def load_log(lake: Location, *, first_ms: int | None = None, last_ms: int | None = None, arrivals: bool = False) -> Log:
    """Return what questions asked from ``first_ms`` to ``last_ms`` may see.

    Only the days from ``first_ms - REACH_MS`` on are read, and nothing at or after ``last_ms``: a question never sees
    its own time. Null is no bound; a state needs the whole past. Created times are read when ``arrivals`` are wanted.

    Raises
    ------
    UnreadableSource
        Files or columns are missing or broken, or hold nulls where the schema has none.

    Examples
    --------
    >>> from stores.files import Location
    >>> load_log(Location("build/demo/lake"), first_ms=1_770_000_000_000)  # doctest: +SKIP
    """
    span = _reach(first_ms, last_ms)
    columns = (*CHANGE_COLUMNS, _CREATED) if arrivals else CHANGE_COLUMNS
    source = lake.within(TRANSACTIONS)
    numbers = {entity: KeyNumbers() for entity in ENTITIES}
    changes, arrived = [], []
    for table in read_batches(source, columns, _TIME, span, declared=LOG_SCHEMA):
        changes.append(transaction_changes(table))
        arrived.append(microseconds(table[_CREATED]) if arrivals else np.empty(0, np.int64))
        for entity, column in JOIN_KEYS.items():
            numbers[entity].add(table[column])
    reports = _read_reports(lake, span.first_us, span.last_us)
    if arrivals:
        arrived.append(microseconds(reports[_CREATED]))
    count = sum(map(len, changes))
    keys, of_transactions, of_reports = {}, {}, {}
    for entity, column in JOIN_KEYS.items():
        numbers[entity].add(reports[column])
        keys[entity], both = numbers[entity].finish()
        of_transactions[entity], of_reports[entity] = both[:count], both[count:]
    when = np.concatenate(arrived) if arrivals else None
    return Log(keys, np.concatenate(changes), of_transactions, report_changes(reports), of_reports, when)


def log_days(lake: Location, *, first_ms: int | None = None, last_ms: int | None = None) -> dict[str, int]:
    """Return the transactions of each day that questions asked from ``first_ms`` to ``last_ms`` may see, by ISO day.

    Null is no bound. Days are in order; there are none where the log is not kept by day.

    Raises
    ------
    UnreadableSource
        A file is missing, broken or lacks a column, or a whole day is missing between two busy ones.
    """
    return count_days(lake.within(TRANSACTIONS), CHANGE_COLUMNS, _TIME, _reach(first_ms, last_ms), declared=LOG_SCHEMA)


def _reach(first_ms: int | None, last_ms: int | None) -> Span:
    first = None if first_ms is None else (first_ms - REACH_MS) * 1000
    return Span(first, None if last_ms is None else last_ms * 1000 - 1, by_day=True)


def transaction_changes(table: Any) -> Changes:
    """Return the changes that rows of the log make, but for their parties."""
    changes = np.zeros(table.num_rows, ring.ENTRY)
    changes["time"] = milliseconds(table[_TIME])
    changes["id"] = hash_strings(joined(table["transaction_id"]))
    changes["amount"] = integers(table["amount_minor"])
    where = places(table["latitude"], table["longitude"])
    changes["latitude"], changes["longitude"] = where.latitude, where.longitude
    countries = joined(table["country"]).dictionary_encode()
    codes = np.array([country_code(text) for text in countries.dictionary.to_pylist()], np.uint16)
    changes["country"] = codes[integers(countries.indices)] if len(codes) else 0
    declined = pc.fill_null(pc.invert(table["authorised"]), fill_value=False)
    changes["flags"] = integers(declined) * ring.DECLINED
    return changes


def report_changes(reports: Any) -> Changes:
    """Return the changes that fraud reports make: each at the time it became known."""
    changes = np.zeros(reports.num_rows, ring.ENTRY)
    changes["time"] = milliseconds(reports[_CREATED])
    changes["id"] = hash_strings(joined(reports["transaction_id"]))
    changes["latitude"] = changes["longitude"] = ring.NOWHERE
    changes["flags"] = ring.REPORT
    return changes


def _read_reports(lake: Location, first_us: int | None, last_us: int | None) -> Any:
    """Return the fraud reports that became known in a span, with the join keys of their transactions."""
    labels = lake.within(LABELS)
    names = ("transaction_id", *JOIN_KEYS.values())
    if not labels.exists():
        return pa.table(
            {name: pa.array([], pa.string()) for name in names} | {_CREATED: pa.array([], pa.timestamp("us"))}
        )
    span = Span(first_us, last_us)
    reports = read_files(
        labels, LABELS_SCHEMA.names, _CREATED, span, pds.field("is_fraud"), declared=LABELS_SCHEMA
    ).drop_columns(["is_fraud"])
    wanted = pds.field("transaction_id").isin(joined(reports["transaction_id"]).unique())
    owners = read_files(
        lake.within(TRANSACTIONS), names, _TIME, Span(None, last_us, by_day=True), wanted, declared=LOG_SCHEMA
    )
    first = pc.index_in(reports["transaction_id"], value_set=joined(owners["transaction_id"]))
    if first.null_count:
        reports = reports.filter(pc.is_valid(first))  # a report about a payment this log has never had is nobody's
        first = first.drop_null()
    taken = owners.select(list(JOIN_KEYS.values())).take(first)
    for name in JOIN_KEYS.values():
        reports = reports.append_column(name, taken[name])
    return reports
