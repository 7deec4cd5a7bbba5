"""What travels on the stream: one record per entity, so that each entity has one ordered writer.

A record is JSON: ``{"schema": 1, "entity": "card", "key": "c0001", "kind": "transaction", "transaction": {...}}`` or,
for a fraud report, ``"kind": "report", "report": {"transaction_id": ..., "known_ms": ...}``. Its partition key is
``{entity}:{key}``.
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from fraud.errors import InvalidTransaction
from fraud.transaction import Transaction, check_identifier, check_time, check_transaction, masked
from fraud.velocity import Changes, entity_key, report_change, transaction_change
from fraud.windows import ENTITIES, Entity

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


_decoder = msgspec.json.Decoder(Record)
_encoder = msgspec.json.Encoder()


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
        raise InvalidTransaction("body", f"not a stream record ({masked(str(error))})") from None
    if record.schema != SCHEMA:
        raise InvalidTransaction("schema", f"{masked(str(record.schema))} is not {SCHEMA}")
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
