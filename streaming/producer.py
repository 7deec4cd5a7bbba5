"""Putting transactions on the stream: one record per entity, in large requests, in order per entity."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fraud.errors import StoreUnavailable
from fraud.record import Record, encode_record, records_of
from fraud.transaction import Transaction

MOST_RECORDS: Final = 500
MOST_BYTES: Final = 5_000_000
"""Limits of one request, keys included."""

ATTEMPTS: Final = 10
_BACKOFF_S: Final = 0.05


class StreamUnavailable(StoreUnavailable):
    """The stream kept refusing records."""

    code = "stream_unavailable"


@dataclass(frozen=True)
class Entry:
    """The bytes of one record and the key that chooses its shard."""

    data: bytes
    partition_key: str


@dataclass(frozen=True)
class Published:
    """What :func:`publish` did: records put, how many of them again after a partial failure, requests made."""

    records: int
    again: int
    requests: int


def publish(
    client: Any,
    stream: str,
    items: Iterable[Transaction | Record | Entry],
    *,
    pause: Callable[[float], None] = time.sleep,
) -> Published:
    """Put every item on ``stream``; returns once all are taken.

    A request may be taken in part. Then each key's records are put again from its first refused one on: the stream ends
    with every key's records in order, and the early copies are repeats, which change nothing.

    Parameters
    ----------
    client
        A boto3 Kinesis client.
    stream
        Name of the stream.
    items
        Transactions (one record per entity each), records, or bytes as they are.
    pause
        Waits between attempts.

    Raises
    ------
    StreamUnavailable
        A record was refused ``ATTEMPTS`` times.
    """
    records = again = requests = 0
    for batch in _batches(_entries(items)):
        left: Sequence[Entry] = batch
        for attempt in range(ATTEMPTS):
            left = _put(client, stream, left)
            requests += 1
            if not left:
                break
            again += len(left)
            pause(min(_BACKOFF_S * 2**attempt, 2.0))
        else:
            raise StreamUnavailable(f"stream {stream!r} refused {len(left)} records {ATTEMPTS} times; is it throttled?")
        records += len(batch)
    return Published(records, again, requests)


def create_stream(client: Any, stream: str, shards: int, *, wait_s: float = 30.0) -> None:
    """Create ``stream`` unless it exists, and wait until it can be written.

    Raises
    ------
    StreamUnavailable
        It is not active after ``wait_s`` seconds.
    """
    with contextlib.suppress(client.exceptions.ResourceInUseException):  # it exists
        client.create_stream(StreamName=stream, ShardCount=shards)
    deadline = time.monotonic() + wait_s
    while client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
        if time.monotonic() > deadline:
            raise StreamUnavailable(f"stream {stream!r} is not active after {wait_s:g} s")
        time.sleep(0.1)


def _entries(items: Iterable[Transaction | Record | Entry]) -> Iterator[Entry]:
    for item in items:
        if isinstance(item, Entry):
            yield item
            continue
        for record in records_of(item) if isinstance(item, Transaction) else (item,):
            yield Entry(encode_record(record), record.partition_key)


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        length = len(entry.data) + len(entry.partition_key.encode())
        if batch and (len(batch) == MOST_RECORDS or size + length > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += length
    if batch:
        yield batch


def _put(client: Any, stream: str, entries: Sequence[Entry]) -> list[Entry]:
    """Put one request; return what has to be put again, in order."""
    asked = [{"Data": entry.data, "PartitionKey": entry.partition_key} for entry in entries]
    answer = client.put_records(StreamName=stream, Records=asked)
    if not answer.get("FailedRecordCount"):
        return []
    refused: set[str] = set()
    left = []
    for entry, reply in zip(entries, answer["Records"], strict=True):
        if "ErrorCode" in reply:
            refused.add(entry.partition_key)
        if entry.partition_key in refused:
            left.append(entry)
    return left
