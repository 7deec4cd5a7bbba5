"""Puts records back on the stream that Lambda gave up on: it keeps the whole invocation under ``aws/lambda/``.

An object that is none stays where it is, is named, and stops no other. What our own code refused lies under
``dead-letters/`` instead and goes back with ``python -m streaming replay``.
"""

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.errors import MissingPrerequisite
from infra.stream import FAILED

BATCH: Final = 500
"""Most records of one request to Kinesis."""

ATTEMPTS: Final = 5

_NO_INVOCATION: Final = (
    KeyError,
    TypeError,
    ValueError,  # JSON, text and base64 that are none
    RecursionError,
    EOFError,  # a gzip that ends early
    gzip.BadGzipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Redriven:
    """Objects and records put back; ``left`` says of each object that is no invocation where it is and why."""

    objects: int
    records: int
    left: tuple[str, ...] = ()


def redrive(s3: Any, kinesis: Any, *, bucket: str, stream: str, advance: Callable[[int], None]) -> Redriven:
    """Put every record of failed invocations back, and delete each object once all its records are on the stream.

    A kill in between, or a full shard, puts some back twice, which changes nothing.

    Raises
    ------
    MissingPrerequisite
        The stream keeps refusing records; the object stays.
    """
    objects = records = 0
    left: list[str] = []
    for key in _keys(s3, bucket):
        try:
            entries = _records(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        except _NO_INVOCATION as error:
            left.append(f"s3://{bucket}/{key}: {type(error).__name__}, {error}")
            continue
        for start in range(0, len(entries), BATCH):
            _put(kinesis, stream, entries[start : start + BATCH])
        s3.delete_object(Bucket=bucket, Key=key)
        objects += 1
        records += len(entries)
        advance(len(entries))
    return Redriven(objects, records, tuple(left))


def _keys(s3: Any, bucket: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=FAILED):
        for item in page.get("Contents", ()):
            yield item["Key"]


def _records(body: bytes) -> list[dict[str, Any]]:
    """Return the records of one invocation, which Lambda keeps as text within JSON."""
    content = json.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
    payload = content["payload"]
    invocation = json.loads(payload) if isinstance(payload, str) else payload
    return [_entry(item["kinesis"]) for item in invocation["Records"]]


def _entry(record: Mapping[str, Any]) -> dict[str, Any]:
    data, key = base64.b64decode(record["data"], validate=True), record["partitionKey"]
    if not (isinstance(key, str) and 1 <= len(key) <= 256):
        raise ValueError("a partition key is no text of 1 to 256 characters")
    return {"Data": data, "PartitionKey": key}


def _put(kinesis: Any, stream: str, entries: list[dict[str, Any]]) -> None:
    """Put records; those from the first refused one on are put again, so that a key's last record comes last."""
    for _ in range(ATTEMPTS):
        results = kinesis.put_records(StreamName=stream, Records=entries)["Records"]
        refused = next((index for index, result in enumerate(results) if "ErrorCode" in result), None)
        if refused is None:
            return
        entries = entries[refused:]
    raise MissingPrerequisite(f"{stream} keeps refusing records; run the command again when it is quieter")
