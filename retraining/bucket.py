"""What the registry on AWS keeps in its bucket: archives, verdicts, the list of events, and its lock.

Events are objects with numbers for names, each written only if nobody wrote it before, so that two writers never take
the same number and nothing is ever changed. The lock is an object of the same kind; who died with it in hand loses it
after ``LOCK_LIFE_S``.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from retraining.errors import RegistryBusy, RegistryUnreachable

PREFIX: Final = "models"
LOCK_LIFE_S: Final = 6 * 3600.0
"""Longer than any iteration: a pipeline's steps are stopped after two hours each."""

_TAKEN: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_ABSENT: Final = frozenset({"NoSuchKey", "404"})


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turn AWS's silence or refusal into one fact.

    Raises
    ------
    RegistryUnreachable
        AWS did not answer, or answered with an error.
    """
    try:
        yield
    except ClientError as error:
        said = error.response["Error"]
        raise RegistryUnreachable(f"{what}: {said.get('Code')}: {said.get('Message')}") from None
    except BotoCoreError as error:
        raise RegistryUnreachable(f"{what}: {error}; the champion stays, the same command may be run again") from None


class ModelBucket:
    """The registry's objects under one prefix."""

    def __init__(self, s3: Any, bucket: str, group: str) -> None:
        self._s3 = s3
        self.bucket = bucket
        self._prefix = f"{PREFIX}/{group}"

    def address(self, version: str, name: str) -> str:
        """Return the address of a version's file."""
        return f"s3://{self.bucket}/{self._key(version, name)}"

    def keep(self, version: str, name: str, content: bytes) -> None:
        """Write a version's file."""
        with reaching(self.address(version, name)):
            self._s3.put_object(Bucket=self.bucket, Key=self._key(version, name), Body=content)

    def read(self, address: str) -> bytes:
        """Return what lies at an address of this or another bucket."""
        bucket, _, key = address.removeprefix("s3://").partition("/")
        with reaching(address):
            content: bytes = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            return content

    def note(self, event: dict[str, Any]) -> None:
        """Append an event.

        Raises
        ------
        RegistryBusy
            Somebody else appended one at the same moment.
        """
        key = f"{self._prefix}/events/{len(self._names()):08d}.json"
        if not self._put_new(key, json.dumps(event).encode()):
            raise RegistryBusy(f"s3://{self.bucket}/{key} was just written by somebody else; run the command again")

    def events(self) -> list[dict[str, Any]]:
        """Return every event, oldest first."""
        return [json.loads(self.read(f"s3://{self.bucket}/{key}")) for key in self._names()]

    @contextmanager
    def locked(self, who: str) -> Iterator[None]:
        """Hold the lock while the block runs.

        Raises
        ------
        RegistryBusy
            Somebody else holds it.
        """
        key = f"{self._prefix}/lock"
        if not self._put_new(key, who.encode()) and not self._take_over(key, who):
            holder = self.read(f"s3://{self.bucket}/{key}").decode()
            raise RegistryBusy(
                f"{holder} is at work in s3://{self.bucket}/{self._prefix}; nothing was started, try again when it has "
                f"ended, or after {LOCK_LIFE_S / 3600:g} hours if it died"
            )
        try:
            yield
        finally:
            with reaching(key):
                self._s3.delete_object(Bucket=self.bucket, Key=key)

    def _take_over(self, key: str, who: str) -> bool:
        """Replace a lock whose holder is dead; return whether it is ours."""
        with reaching(key):
            try:
                held = self._s3.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if error.response["Error"]["Code"] in _ABSENT:
                    return self._put_new(key, who.encode())
                raise
        age_s = (datetime.now(UTC) - held["LastModified"]).total_seconds()
        return age_s > LOCK_LIFE_S and self._put(key, who.encode(), IfMatch=held["ETag"])

    def _names(self) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2")
        with reaching(f"s3://{self.bucket}/{self._prefix}/events"):
            found = pages.paginate(Bucket=self.bucket, Prefix=f"{self._prefix}/events/")
            return sorted(item["Key"] for page in found for item in page.get("Contents", []))

    def _put_new(self, key: str, content: bytes) -> bool:
        return self._put(key, content, IfNoneMatch="*")

    def _put(self, key: str, content: bytes, **condition: str) -> bool:
        """Write an object under a condition; return whether it held."""
        with reaching(f"s3://{self.bucket}/{key}"):
            try:
                self._s3.put_object(Bucket=self.bucket, Key=key, Body=content, **condition)
            except ClientError as error:
                if error.response["Error"]["Code"] in _TAKEN:
                    return False
                raise
        return True

    def _key(self, version: str, name: str) -> str:
        return f"{self._prefix}/{version}/{name}"
