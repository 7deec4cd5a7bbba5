"""Stream records: one per entity, whole, and only what belongs to its key."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from fraud.errors import InvalidTransaction
from fraud.record import Record, RecordReader, Report, encode_record, parse_record, records_of
from fraud.transaction import Transaction
from fraud.velocity import report_change, transaction_change
from fraud.windows import ENTITIES

NOW = 1_770_000_000_000
CARD_NUMBER = "4111111111111111"
PAYMENT = Transaction(
    transaction_id="t1",
    card_id="c1",
    merchant_id="m1",
    device_id="d1",
    ip="i1",
    amount_minor=4_000,
    currency="EUR",
    event_time_ms=NOW,
    channel="online",
    merchant_category=5411,
    country="DE",
)
REPORT = Record(schema=1, entity="card", key="c1", kind="report", report=Report("t1", NOW))


def parse(data: bytes) -> Record:
    return parse_record(data, currency="EUR")


def as_json(record: Record) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(encode_record(record))
    return decoded


def refusal(spoilt: dict[str, Any]) -> InvalidTransaction:
    with pytest.raises(InvalidTransaction) as caught:
        parse(json.dumps(spoilt).encode())
    return caught.value


def test_transaction_is_told_to_each_of_its_entities() -> None:
    records = list(records_of(PAYMENT))
    assert [record.partition_key for record in records] == ["card:c1", "device:d1", "ip:i1", "merchant:m1"]
    assert {record.transaction_id for record in records} == {"t1"}


def test_transaction_without_device_and_address_has_no_record_of_them() -> None:
    records = records_of(msgspec.structs.replace(PAYMENT, device_id=None, ip=None))
    assert [record.entity for record in records] == ["card", "merchant"]


def test_transaction_record_comes_back_unchanged() -> None:
    for record in records_of(PAYMENT):
        assert parse(encode_record(record)) == record
        assert np.array_equal(record.change(), transaction_change(record.entity, PAYMENT))


@pytest.mark.parametrize("entity", ENTITIES)
def test_report_comes_back_unchanged_and_counts_when_it_became_known(entity: Any) -> None:
    record = msgspec.structs.replace(REPORT, entity=entity)
    again = parse(encode_record(record))
    assert again == record
    assert again.transaction_id == "t1"
    assert again.partition_key == f"{entity}:c1"
    assert np.array_equal(again.change(), report_change("t1", NOW))


def test_encoded_record_is_the_documented_json() -> None:
    assert encode_record(REPORT) == (
        b'{"schema":1,"entity":"card","key":"c1","kind":"report","report":{"transaction_id":"t1","known_ms":1770000000000}}'
    )


@pytest.mark.parametrize("schema", [0, 2, -1, int(CARD_NUMBER)])
def test_other_schema_is_refused(schema: int) -> None:
    error = refusal(as_json(REPORT) | {"schema": schema})
    assert error.field == "schema"
    assert "is not 1" in error.reason
    assert CARD_NUMBER not in str(error)


@pytest.mark.parametrize("entity", ENTITIES)
def test_key_of_another_entity_is_refused(entity: str) -> None:
    record = next(record for record in records_of(PAYMENT) if record.entity == entity)
    error = refusal(as_json(record) | {"key": "x9"})
    assert (error.field, error.reason) == ("key", f"is not the {entity} of its transaction")


def test_device_record_of_a_transaction_without_a_device_is_refused() -> None:
    record = Record(
        schema=1,
        entity="device",
        key="d1",
        kind="transaction",
        transaction=msgspec.structs.replace(PAYMENT, device_id=None),
    )
    assert refusal(as_json(record)).field == "key"


def test_kind_and_content_must_agree() -> None:
    paid = as_json(next(iter(records_of(PAYMENT))))
    reported = as_json(REPORT)
    for spoilt in (
        paid | {"kind": "report"},
        reported | {"kind": "transaction"},
        paid | {"report": reported["report"]},
        reported | {"report": None},
        paid | {"transaction": None},
    ):
        assert refusal(spoilt).field == "kind"


def test_record_built_with_nothing_in_it_changes_nothing() -> None:
    empty = Record(schema=1, entity="card", key="c1", kind="report")
    assert empty.transaction_id == ""
    with pytest.raises(InvalidTransaction, match="carries none"):
        empty.change()


def test_transaction_inside_is_checked_as_at_the_door() -> None:
    paid = as_json(next(iter(records_of(PAYMENT))))
    assert refusal(paid | {"transaction": paid["transaction"] | {"currency": "USD"}}).field == "currency"
    assert refusal(paid | {"transaction": paid["transaction"] | {"amount_minor": 0}}).field == "amount_minor"


@pytest.mark.parametrize("known_ms", [0, -1, 1_770_000_000, 1_770_000_000_000_000, 10**30])
def test_report_known_at_an_impossible_time_is_refused(known_ms: int) -> None:
    error = refusal(as_json(REPORT) | {"report": {"transaction_id": "t1", "known_ms": known_ms}})
    assert error.field in {"known_ms", "body"}


@pytest.mark.parametrize("token", ["", "x" * 129, "a\nb", CARD_NUMBER])
def test_report_on_no_token_is_refused(token: str) -> None:
    assert refusal(as_json(REPORT) | {"key": token}).field == "key"
    error = refusal(as_json(REPORT) | {"report": {"transaction_id": token, "known_ms": NOW}})
    assert error.field == "transaction_id"
    assert CARD_NUMBER not in str(error)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"schema":1,"entity":"card","key":"\xff","kind":"report"}'],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidTransaction, match="not a stream record"):
        parse(data)


@pytest.mark.parametrize("field", ["entity", "kind", CARD_NUMBER])
def test_card_number_is_not_repeated(field: str) -> None:
    assert CARD_NUMBER not in str(refusal(as_json(REPORT) | {field: CARD_NUMBER}))


def test_reader_finds_the_changes_of_every_record_in_a_batch() -> None:
    records = [*records_of(PAYMENT), REPORT, *records_of(PAYMENT)]
    reader = RecordReader(currency="EUR")
    read = [reader.read(encode_record(record)) for record in records]
    for record, found in zip(records, read, strict=True):
        (change,) = reader.changes(found.entity, [found.place])
        assert change.tobytes() == record.change().tobytes()
        assert (found.entity, found.key, found.kind) == (record.entity, record.key, record.kind)
        assert (found.transaction, found.transaction_id) == (record.transaction, record.transaction_id)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"schema": 2},
        {"key": "c2"},
        {"kind": "report"},
        {"surprise": 1},
        {"transaction": None},
        {"transaction": {"amount_minor": -1}},
        {"transaction": {"card_id": CARD_NUMBER}},
        {"transaction": {"surprise": 1}},
        {"report": {"transaction_id": "t1", "known_ms": NOW}},
    ],
)
def test_reader_refuses_what_a_single_record_is_refused_for(spoilt: dict[str, Any]) -> None:
    record = as_json(next(records_of(PAYMENT)))
    inner = spoilt.get("transaction")
    record |= {**spoilt, "transaction": record["transaction"] | inner} if inner else spoilt
    alone = refusal(record)
    reader = RecordReader(currency="EUR")
    reader.read(encode_record(next(records_of(PAYMENT))))
    with pytest.raises(InvalidTransaction) as caught:
        reader.read(json.dumps(record).encode())
    assert (caught.value.field, str(caught.value)) == (alone.field, str(alone))
