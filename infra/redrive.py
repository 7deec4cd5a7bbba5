"""Puts records back on the stream that Lambda gave up on: it keeps the whole invocation under ``aws/lambda/``.

What our own code refused lies under ``dead-letters/`` instead and goes back with ``python -m streaming replay``.
"""

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from infra.errors import MissingPrerequisite
from infra.stream import FAILED

BATCH: Final = 500
"""Most records of one request to Kinesis."""

ATTEMPTS: Final = 5


@dataclass(frozen=True)
class Redriven:
    """Objects and records put back."""

    objects: int
    records: int


def redrive(s3: Any, kinesis: Any, *, bucket: str, stream: str, advance: Callable[[int], None]) -> Redriven:
    """Put every record of failed invocations back, and delete each object once all its records are on the stream.

    A kill in between, or a full shard, puts some back twice, which changes nothing.

    Raises
    ------
    MissingPrerequisite
        The stream keeps refusing records; the object stays.
    """
    objects = records = 0
    for key in _keys(s3, bucket):
        entries = _records(s3.get_object(Bucket=bucket, Key=key)["Body"].read(), key)
        for start in range(0, len(entries), BATCH):
            _put(kinesis, stream, entries[start : start + BATCH])
        s3.delete_object(Bucket=bucket, Key=key)
        objects += 1
        records += len(entries)
        advance(len(entries))
    return Redriven(objects, records)


def _keys(s3: Any, bucket: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=FAILED):
        for item in page.get("Contents", ()):
            yield item["Key"]


def _records(body: bytes, key: str) -> list[dict[str, Any]]:
    """Return the records of one invocation, which Lambda keeps as text within JSON."""
    try:
        content = json.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        payload = content["payload"]
        invocation = json.loads(payload) if isinstance(payload, str) else payload
        return [
            {"Data": base64.b64decode(item["kinesis"]["data"]), "PartitionKey": item["kinesis"]["partitionKey"]}
            for item in invocation["Records"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise MissingPrerequisite(f"{key} is no failed invocation as Lambda keeps it ({error!r})") from None


def _put(kinesis: Any, stream: str, entries: list[dict[str, Any]]) -> None:
    """Put records; those from the first refused one on are put again, so that a key's last record comes last."""
    for _ in range(ATTEMPTS):
        results = kinesis.put_records(StreamName=stream, Records=entries)["Records"]
        refused = next((index for index, result in enumerate(results) if "ErrorCode" in result), None)
        if refused is None:
            return
        entries = entries[refused:]
    raise MissingPrerequisite(f"{stream} keeps refusing records; run the command again when it is quieter")
