"""What travels on the stream: one record per entity, so that each entity has one ordered writer.

A record is JSON: ``{"schema": 1, "entity": "card", "key": "c0001", "kind": "transaction", "transaction": {...}}`` or,
for a fraud report, ``"kind": "report", "report": {"transaction_id": ..., "known_ms": ...}``. Its partition key is
``{entity}:{key}``.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from fraud.errors import InvalidTransaction
from fraud.transaction import Transaction, check_identifier, check_time, check_transaction, masked
from fraud.velocity import Changes, entity_key, report_change, transaction_change, transaction_changes
from fraud.windows import ENTITIES, JOIN_KEYS, Entity

SCHEMA: Final = 1


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fraud report: which transaction, and when it became known (epoch ms)."""

    transaction_id: str
    known_ms: int


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One thing that happened to one entity."""

    schema: int
    entity: Entity
    key: str
    kind: Literal["transaction", "report"]
    transaction: Transaction | None = None
    report: Report | None = None

    @property
    def partition_key(self) -> str:
        """Kinesis partition key: all records of one entity go through one shard in order."""
        return f"{self.entity}:{self.key}"

    @property
    def transaction_id(self) -> str:
        """Id of the transaction the record speaks of."""
        if self.transaction is not None:
            return self.transaction.transaction_id
        return self.report.transaction_id if self.report is not None else ""

    def change(self) -> Changes:
        """Return what the record changes in its entity's state, shape ``(1,)``."""
        if self.transaction is not None:
            return transaction_change(self.entity, self.transaction)
        if self.report is not None:
            return report_change(self.report.transaction_id, self.report.known_ms)
        raise InvalidTransaction("kind", f"a record of kind {self.kind!r} carries none")


class EntityChange(msgspec.Struct, frozen=True, gc=False):
    """What a record does to its entity, ready to be applied.

    Parameters
    ----------
    entity, key, kind
        As in the :class:`Record`.
    transaction_id, time_ms
        The transaction it speaks of, and when it counts: event time, or when a report became known (epoch ms).
    place
        Where :meth:`RecordReader.changes` finds what it changes.
    transaction
        Null for a report.
    """

    entity: Entity
    key: str
    kind: Literal["transaction", "report"]
    transaction_id: str
    time_ms: int
    place: int
    transaction: Transaction | None


class _Version(msgspec.Struct, frozen=True):
    """The one field that every version of a record has."""

    schema: int


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """A record whose transaction is left as it came."""

    schema: int
    entity: Entity
    key: str
    kind: Literal["transaction", "report"]
    transaction: msgspec.Raw = msgspec.Raw(b"")
    report: Report | None = None


_versions = msgspec.json.Decoder(_Version)
_decoder = msgspec.json.Decoder(Record)
_encoder = msgspec.json.Encoder()
_envelopes = msgspec.json.Decoder(_Envelope)
_transactions = msgspec.json.Decoder(Transaction)


def records_of(transaction: Transaction) -> Iterator[Record]:
    """Yield one record per entity that the transaction has."""
    for entity in ENTITIES:
        key = entity_key(entity, transaction)
        if key:
            yield Record(schema=SCHEMA, entity=entity, key=key, kind="transaction", transaction=transaction)


def encode_record(record: Record) -> bytes:
    """Return the bytes that go on the stream."""
    return _encoder.encode(record)


def parse_record(data: bytes, *, currency: str) -> Record:
    """Return the record in ``data``.

    Raises
    ------
    InvalidTransaction
        Unparsable, of an unknown schema, of another currency, out of range, or its key is not its transaction's.
    """
    try:
        record = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _check_version(data)
        raise InvalidTransaction("body", f"not a stream record ({masked(str(error))})") from None
    _check_schema(record.schema)
    if (record.transaction is None) == (record.kind == "transaction") or (record.report is None) == (
        record.kind == "report"
    ):
        raise InvalidTransaction("kind", f"a record of kind {record.kind!r} carries something else")
    if record.transaction is not None:
        check_transaction(record.transaction, currency=currency)
        if entity_key(record.entity, record.transaction) != record.key:
            raise InvalidTransaction("key", f"is not the {record.entity} of its transaction")
    if record.report is not None:
        check_identifier("key", record.key)
        check_identifier("transaction_id", record.report.transaction_id)
        check_time("known_ms", record.report.known_ms)
    return record


def _check_version(data: bytes) -> None:
    """Raise :class:`InvalidTransaction` when ``data`` is a record of another schema: then nothing else is amiss."""
    try:
        schema = _versions.decode(data).schema
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    _check_schema(schema)


def _check_schema(schema: int) -> None:
    if schema != SCHEMA:
        raise InvalidTransaction("schema", f"{masked(str(schema))} is not {SCHEMA}")


class RecordReader:
    """Reads the records of one batch; a transaction that several of them carry is decoded and checked once.

    What is accepted and why something is refused is :func:`parse_record`'s word: whatever is not plainly in order is
    given to it.

    Parameters
    ----------
    currency
        The deployment's one currency.
    """

    def __init__(self, *, currency: str) -> None:
        self._currency = currency
        self._known: dict[bytes, tuple[Transaction, int]] = {}
        self._carried: list[Transaction | Report] = []
        self._changes: dict[Entity, Changes] = {}

    def read(self, data: bytes) -> EntityChange:
        """Return what the record in ``data`` does.

        Raises
        ------
        InvalidTransaction
            As :func:`parse_record`.
        """
        try:
            outer = _envelopes.decode(data)
            raw = bytes(outer.transaction)
            known = self._known.get(raw) or self._learn(raw)
        except (InvalidTransaction, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._read_slowly(data)
        transaction, place = known
        entity, key = outer.entity, outer.key
        plain = outer.schema == SCHEMA and outer.kind == "transaction" and outer.report is None
        if not plain or key != getattr(transaction, JOIN_KEYS[entity]):
            return self._read_slowly(data)
        name, time_ms = transaction.transaction_id, transaction.event_time_ms
        return EntityChange(entity, key, "transaction", name, time_ms, place, transaction)

    def changes(self, entity: Entity, places: Sequence[int]) -> Changes:
        """Return the changes of one kind of entity, by their places, once every record of the batch is read."""
        if not self._changes:
            self._changes = _columns(self._carried)
        return self._changes[entity][places]

    def _learn(self, raw: bytes) -> tuple[Transaction, int]:
        transaction = _transactions.decode(raw)
        check_transaction(transaction, currency=self._currency)
        known = self._known[raw] = transaction, self._carry(transaction)
        return known

    def _carry(self, carried: Transaction | Report) -> int:
        self._carried.append(carried)
        return len(self._carried) - 1

    def _read_slowly(self, data: bytes) -> EntityChange:
        record = parse_record(data, currency=self._currency)
        carried = record.transaction or record.report
        if carried is None:
            raise InvalidTransaction("kind", f"a record of kind {record.kind!r} carries none")
        time_ms = carried.known_ms if isinstance(carried, Report) else carried.event_time_ms
        place = self._carry(carried)
        name, paid = carried.transaction_id, record.transaction
        return EntityChange(record.entity, record.key, record.kind, name, time_ms, place, paid)


def _columns(carried: Sequence[Transaction | Report]) -> dict[Entity, Changes]:
    """Return the changes of each kind of entity, one for each thing carried."""
    paid = [item for item in carried if type(item) is Transaction]  # isinstance asks the metaclass, which takes long
    changes = transaction_changes(paid)
    if len(paid) == len(carried):
        return changes
    reports = np.array([isinstance(item, Report) for item in carried])
    known = [report_change(item.transaction_id, item.known_ms) for item in carried if isinstance(item, Report)]
    out = {}
    for entity, some in changes.items():
        out[entity] = np.empty(len(carried), some.dtype)
        out[entity][~reports], out[entity][reports] = some, np.concatenate(known)
    return out
