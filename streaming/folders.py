"""A folder of whole objects, on a disk or in a bucket: what the dead letters and the logs are written to.

An object appears whole or not at all, and writing one under the same name replaces it.
"""

import os
from pathlib import Path
from typing import Any, Protocol

from fraud.errors import StoreUnavailable


class Folder(Protocol):
    """Objects by name; names use ``/``."""

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole; raise :class:`StoreUnavailable` when that failed."""

    def get(self, name: str) -> bytes:
        """Return an object's bytes."""

    def names(self, prefix: str) -> list[str]:
        """Return the names that start with ``prefix``, sorted."""

    def remove(self, name: str) -> None:
        """Delete an object; deleting what is not there does nothing."""


class DiskFolder:
    """A directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, data: bytes) -> None:
        """Write beside and rename, so that a kill leaves no half object."""
        path = self.root / name
        try:
            write_whole(path, data)
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be written: {error.strerror}") from error

    def get(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self.root / name).read_bytes()

    def names(self, prefix: str) -> list[str]:
        """Return the files whose path below the root starts with ``prefix``, sorted; half-written ones are not seen."""
        found = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        return sorted(name for name in found if name.startswith(prefix) and not name.endswith(".part"))

    def remove(self, name: str) -> None:
        """Delete a file."""
        (self.root / name).unlink(missing_ok=True)


class BucketFolder:
    """A prefix of an S3 bucket.

    Parameters
    ----------
    client
        A boto3 S3 client.
    bucket
        Name of the bucket.
    prefix
        Put before every name; empty or ending in ``/``.
    """

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    def put(self, name: str, data: bytes) -> None:
        """Put an object."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data)
        except (BotoCoreError, ClientError) as error:
            raise StoreUnavailable(f"s3://{self._bucket}/{self._prefix}{name}: {type(error).__name__}") from error

    def get(self, name: str) -> bytes:
        """Get an object."""
        data: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
        return data

    def names(self, prefix: str) -> list[str]:
        """List objects, page by page."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        return sorted(item["Key"].removeprefix(self._prefix) for page in pages for item in page.get("Contents", ()))

    def remove(self, name: str) -> None:
        """Delete an object."""
        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is either the old one or the new one after a kill or a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
