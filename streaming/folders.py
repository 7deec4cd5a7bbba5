"""A folder of whole objects, on a disk or in a bucket: what the dead letters and the logs are written to.

An object appears whole or not at all, and writing one under the same name replaces it.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from fraud.errors import StoreUnavailable, TollgateError

LOCK_LIFE_S: Final = 3_600
"""A lock in a bucket is nobody's after so long: its holder died. On a disk the kernel frees it at once."""


class FolderBusy(TollgateError):
    """Somebody else is at work on these objects."""

    code = "folder_busy"
    retryable = True


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

    def locked(self, name: str) -> AbstractContextManager[None]:
        """Hold the lock of that name while the block runs; raise :class:`FolderBusy` when somebody else does."""


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

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold a lock that the kernel frees when we die; its file stays, empty."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderBusy(f"another process holds {path}; run the command again when it has ended") from None
            yield


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

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold a lock that is an object, put only where there is none; one older than ``LOCK_LIFE_S`` is replaced."""
        who = f"process {os.getpid()} on {socket.gethostname()}".encode()
        if not self._put_if(name, who, IfNoneMatch="*") and not self._take_over(name, who):
            raise FolderBusy(
                f"another process holds s3://{self._bucket}/{self._prefix}{name}; run the command again when it has "
                f"ended, or after {LOCK_LIFE_S // 3600} hour if it died"
            )
        try:
            yield
        finally:
            self.remove(name)

    def _take_over(self, name: str, who: bytes) -> bool:
        from botocore.exceptions import ClientError

        try:
            held = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
        except ClientError:
            return self._put_if(name, who, IfNoneMatch="*")  # it was just given back
        age_s = (datetime.now(UTC) - held["LastModified"]).total_seconds()
        return age_s > LOCK_LIFE_S and self._put_if(name, who, IfMatch=held["ETag"])

    def _put_if(self, name: str, data: bytes, **condition: str) -> bool:
        """Put an object under a condition; return whether it held."""
        from botocore.exceptions import ClientError

        try:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data, **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
                return False
            raise
        return True


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is either the old one or the new one after a kill or a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
