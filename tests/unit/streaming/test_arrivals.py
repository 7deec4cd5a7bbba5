"""Which arrivals are poison, and that both doors deliver the same."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from fraud.errors import InvalidTransaction
from fraud.record import Record, RecordReader, Report, encode_record, records_of
from fraud.tiles import FUTURE_TOLERANCE_MS, LATENESS_MS
from streaming.arrivals import (
    Arrival,
    arrival_from_lambda,
    arrival_from_read,
    read_arrival,
)
from tests.support.payments import START, arrivals, payment


def body(**changes: Any) -> bytes:
    """A card's record of one payment, with fields of the record or the transaction replaced; None removes."""
    record = json.loads(encode_record(next(records_of(payment(1, card="c1")))))
    for name, value in changes.items():
        where = record if name in ("schema", "entity", "key", "kind", "report") else record["transaction"]
        if value is None:
            del where[name]
        else:
            where[name] = value
    return json.dumps(record).encode()


def arrived(data: bytes, arrival_ms: int = START + 1_000) -> Arrival:
    return Arrival(data, "1", "card:c1", "shardId-000000000000", arrival_ms)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "body"),
        (b"\xff\xfe", "body"),
        (b"[]", "body"),
        (body(schema=2), "schema"),
        (body(key=None), "body"),
        (body(key="c2"), "key"),
        (body(card_id=None), "body"),
        (body(amount_minor=-5), "amount_minor"),
        (body(currency="USD"), "currency"),
        (body(event_time_ms=START // 1000), "event_time_ms"),
        (body(kind="report"), "kind"),
        (body(surprise=1), "body"),
    ],
)
def test_poison_is_refused_with_its_field(data: bytes, field: str) -> None:
    with pytest.raises(InvalidTransaction) as caught:
        read_arrival(arrived(data), RecordReader(currency="EUR"))
    assert caught.value.field == field


@pytest.mark.parametrize("data", [body(schema=2), body(schema=2, surprise=1), b'{"schema": 2, "what": [1, 2]}'])
def test_record_of_another_schema_is_told_so_whatever_else_is_new_in_it(data: bytes) -> None:
    with pytest.raises(InvalidTransaction, match=r"^schema: 2 is not 1$"):
        read_arrival(arrived(data), RecordReader(currency="EUR"))


def test_sender_may_not_run_ahead_by_as_much_as_others_may_come_late() -> None:
    assert FUTURE_TOLERANCE_MS * 6 <= LATENESS_MS


def test_future_is_measured_against_the_arrival() -> None:
    data = body(event_time_ms=START)
    assert read_arrival(arrived(data, START - FUTURE_TOLERANCE_MS), RecordReader(currency="EUR")).key == "c1"
    with pytest.raises(InvalidTransaction, match=r"lies in the future, 5001 ms after its arrival"):
        read_arrival(arrived(data, START - FUTURE_TOLERANCE_MS - 1), RecordReader(currency="EUR"))


@pytest.mark.parametrize("known_ms", [-1, 2**70, START // 1000])
def test_report_of_an_impossible_time_is_refused(known_ms: int) -> None:
    report = Record(schema=1, entity="card", key="c1", kind="report", report=Report("t1", known_ms))
    with pytest.raises(InvalidTransaction):
        read_arrival(arrived(encode_record(report)), RecordReader(currency="EUR"))


@pytest.mark.parametrize(("key", "transaction_id"), [("", "t1"), ("c1", ""), ("c" * 129, "t1"), ("c1", "a\nb")])
def test_report_without_identifiers_is_refused(key: str, transaction_id: str) -> None:
    report = Record(schema=1, entity="card", key=key, kind="report", report=Report(transaction_id, START))
    with pytest.raises(InvalidTransaction):
        read_arrival(arrived(encode_record(report)), RecordReader(currency="EUR"))


def test_both_doors_deliver_the_same() -> None:
    sent = arrivals([payment(3)])[0]
    event = {
        "eventID": f"{sent.shard}:{sent.sequence_number}",
        "kinesis": {
            "data": base64.b64encode(sent.data).decode(),
            "sequenceNumber": sent.sequence_number,
            "partitionKey": sent.partition_key,
            "approximateArrivalTimestamp": sent.arrival_ms / 1000,
        },
    }
    read = {
        "Data": sent.data,
        "SequenceNumber": sent.sequence_number,
        "PartitionKey": sent.partition_key,
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(sent.arrival_ms / 1000, UTC),
    }
    assert arrival_from_lambda(event) == sent
    assert arrival_from_read(read, sent.shard) == sent


def test_data_that_is_no_base64_is_kept_as_it_came() -> None:
    kinesis = {"data": "%%%", "sequenceNumber": "1", "partitionKey": "k", "approximateArrivalTimestamp": 1.0}
    assert arrival_from_lambda({"eventID": "s:1", "kinesis": kinesis}).data == b"%%%"
