"""What Kinesis delivers, from either door: Lambda's event or ``GetRecords``; and what makes it poison.

A poison record can never be applied, however often it is delivered: it is not a stream record, or it speaks of the
future. It is kept whole (:mod:`streaming.deadletters`) and blocks nobody.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fraud.errors import InvalidTransaction
from fraud.record import EntityChange, RecordReader
from fraud.tiles import FUTURE_TOLERANCE_MS


@dataclass(frozen=True, slots=True)
class Arrival:
    """One record as Kinesis delivered it.

    Parameters
    ----------
    data
        The bytes that were put.
    sequence_number
        Grows within a shard.
    partition_key
        Chose the shard.
    shard
        Shard id, such as ``shardId-000000000000``.
    arrival_ms
        When Kinesis took it (its approximate arrival timestamp), epoch ms.
    """

    data: bytes
    sequence_number: str
    partition_key: str
    shard: str
    arrival_ms: int


def arrival_from_lambda(record: Mapping[str, Any]) -> Arrival:
    """Return the arrival in one element of ``Records`` of Lambda's Kinesis event.

    Bytes that are no base64 are kept as they came: they will be refused as a record, and kept whole.
    """
    kinesis = record["kinesis"]
    text = str(kinesis["data"])
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = text.encode()
    shard = str(record.get("eventID", "")).partition(":")[0]
    arrival_ms = round(float(kinesis["approximateArrivalTimestamp"]) * 1000)
    return Arrival(data, str(kinesis["sequenceNumber"]), str(kinesis["partitionKey"]), shard, arrival_ms)


def arrival_from_read(record: Mapping[str, Any], shard: str) -> Arrival:
    """Return the arrival in one element of ``Records`` of boto3's ``get_records`` of ``shard``."""
    arrival_ms = round(record["ApproximateArrivalTimestamp"].timestamp() * 1000)
    return Arrival(record["Data"], record["SequenceNumber"], record["PartitionKey"], shard, arrival_ms)


def read_arrival(arrival: Arrival, reader: RecordReader) -> EntityChange:
    """Return what the record that arrived does.

    Parameters
    ----------
    reader
        One for all arrivals of a batch.

    Raises
    ------
    InvalidTransaction
        It is poison; field and reason say why.
    """
    change = reader.read(arrival.data)
    ahead = change.time_ms - arrival.arrival_ms
    if ahead > FUTURE_TOLERANCE_MS:
        raise InvalidTransaction(
            "event_time_ms", f"lies in the future, {ahead} ms after its arrival, not at most {FUTURE_TOLERANCE_MS}"
        )
    return change
