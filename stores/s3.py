"""Objects of one S3 bucket, read and written on conditions by one thread, without boto3 and without endless waits.

An object that has not changed costs a small question and no download; one that somebody else has changed meanwhile is
not written over. Bounded are each wait, the whole answer in time, and its size. The connection is closed between looks:
S3 drops idle ones, and a new one finds S3 where it is by now.
"""

import http.client
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

from fraud.errors import TollgateError
from stores.credentials import Renewed, find_credentials
from stores.signing import Signer, service_host

WAIT_S: Final = 3.0
"""Longest wait for a connection, and for each piece of an answer."""

ANSWER_S: Final = 30.0
"""Longest time for one answer."""

MOST_LISTED: Final = 1000
"""Objects of a folder; as many stand in one answer of S3's."""

_PIECE: Final = 1 << 18
_WORDS: Final = 4 << 20
"""Most bytes of an answer that is no object: a listing, or why not."""

_CODE: Final = re.compile(rb"<Code>(\w{1,64})</Code>")
_LOST_RACE: Final = frozenset({http.client.PRECONDITION_FAILED, http.client.CONFLICT, http.client.NOT_FOUND})


class S3Unavailable(TollgateError):
    """S3 did not answer, not in time, or not with what was asked for."""

    code = "s3_unavailable"
    retryable = True


class ObjectTooLarge(TollgateError):
    """An object, or a folder, holds more than is read; ``etag`` is the object's tag."""

    code = "object_too_large"

    def __init__(self, message: str, etag: str = "") -> None:
        super().__init__(message)
        self.etag = etag


@dataclass(frozen=True)
class Found:
    """An object's bytes, and the tag that changes whenever they do."""

    content: bytes
    etag: str


@dataclass(frozen=True)
class Listed:
    """An object of a folder."""

    key: str
    etag: str
    size: int


class Bucket:
    """One bucket, asked by one thread.

    Parameters
    ----------
    name
        Of the bucket.
    region
        Where it lies.
    endpoint
        Another address than Amazon's; empty for Amazon's.
    environ
        Where credentials are found.
    """

    def __init__(self, name: str, region: str, endpoint: str, *, environ: Mapping[str, str]) -> None:
        self.name = name
        host = service_host("s3", region)
        # A certificate of Amazon's covers one label before the service's name.
        in_host = not endpoint and "." not in name
        parts = urlsplit(endpoint or f"https://{f'{name}.' if in_host else ''}{host}")
        self._before = "" if in_host else f"/{name}"
        self._signer = Signer("s3", region, parts.netloc)
        self._credentials = Renewed(lambda: find_credentials(environ))
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=WAIT_S)

    def read(self, key: str, *, most_bytes: int, unless: str = "") -> Found | None:
        """Return an object; null when there is none.

        Parameters
        ----------
        most_bytes
            More is not read.
        unless
            The tag of what is known already: an object that still has it is answered with this tag and no bytes.

        Raises
        ------
        S3Unavailable
            It cannot be read now.
        ObjectTooLarge
            It is larger than ``most_bytes``.
        NoCredentials
            There are none now.
        """
        conditions = {"if-none-match": unless} if unless else {}
        status, answer, content = self._ask("GET", self._address(key), b"", conditions, most_bytes)
        if status == http.client.NOT_MODIFIED:
            return Found(b"", unless)
        if status == http.client.NOT_FOUND and _code(content) == "NoSuchKey":
            return None
        if status != http.client.OK:
            raise self._refused(status, content)
        return Found(content, answer.headers.get("etag", ""))

    def write(self, key: str, content: bytes, *, over: str) -> bool:
        """Write an object whole; return false, with nothing written, when somebody else was faster.

        Parameters
        ----------
        over
            The tag of the object that this one takes the place of; empty when there must be none.

        Raises
        ------
        S3Unavailable
            It was not written, or the answer was lost and it may have been.
        NoCredentials
            There are none now.
        """
        conditions = {"content-type": "application/json", **({"if-match": over} if over else {"if-none-match": "*"})}
        status, _, said = self._ask("PUT", self._address(key), content, conditions, _WORDS)
        if status in _LOST_RACE and _code(said) != "NoSuchBucket":
            return False
        if status != http.client.OK:
            raise self._refused(status, said)
        return True

    def folder(self, prefix: str) -> list[Listed]:
        """Return the objects right below a prefix, in the order of their keys.

        Raises
        ------
        S3Unavailable
            They cannot be listed now.
        ObjectTooLarge
            They are more than ``MOST_LISTED``.
        NoCredentials
            There are none now.
        """
        query = f"delimiter=%2F&list-type=2&max-keys={MOST_LISTED}&prefix={quote(prefix, safe='')}"
        status, _, content = self._ask("GET", f"{self._before}/?{query}", b"", {}, _WORDS)
        if status != http.client.OK:
            raise self._refused(status, content)
        try:
            listing = ET.fromstring(content)  # noqa: S314  # S3's own answer, of bounded size
            found = [
                Listed(item.findtext("{*}Key", ""), item.findtext("{*}ETag", ""), int(item.findtext("{*}Size", "")))
                for item in listing.findall("{*}Contents")
            ]
        except (ET.ParseError, ValueError):
            raise S3Unavailable(f"s3://{self.name}/{prefix} cannot be listed: the answer is no listing") from None
        if listing.findtext("{*}IsTruncated", "false") == "true":
            raise ObjectTooLarge(f"s3://{self.name}/{prefix} holds more than {MOST_LISTED} objects")
        return found

    def close(self) -> None:
        """End the connection; the next question makes another."""
        self._connection.close()

    def _address(self, key: str) -> str:
        return f"{self._before}/{quote(key, safe='/~')}"

    def _ask(
        self, method: str, address: str, body: bytes, conditions: Mapping[str, str], most_bytes: int
    ) -> tuple[int, http.client.HTTPResponse, bytes]:
        credentials = self._credentials.get()
        headers = self._signer.object_headers(
            credentials, method, address, body, conditions=conditions, now_s=time.time()
        )
        try:
            self._connection.request(method, address, body or None, headers)
            answer = self._connection.getresponse()
            return answer.status, answer, _read(answer, most_bytes if answer.status == http.client.OK else _WORDS)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise S3Unavailable(f"S3 did not answer for bucket {self.name} ({type(error).__name__})") from None
        except ObjectTooLarge:
            self._connection.close()
            raise

    def _refused(self, status: int, content: bytes) -> S3Unavailable:
        self._connection.close()
        return S3Unavailable(f"S3 answered {status} {_code(content)} for bucket {self.name}")


def _code(content: bytes) -> str:
    """Return S3's own word for what is wrong; empty without one."""
    found = _CODE.search(content)
    return found.group(1).decode() if found else ""


def _read(answer: http.client.HTTPResponse, most_bytes: int) -> bytes:
    until, size = time.monotonic() + ANSWER_S, 0
    pieces: list[bytes] = []
    while size + (answer.length or 0) <= most_bytes:
        piece = answer.read1(_PIECE)
        if not piece:
            if answer.length:
                raise http.client.IncompleteRead(b"", answer.length)
            answer.close()  # `read1` leaves it open at its end, and the connection busy
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if time.monotonic() > until:
            raise TimeoutError
    raise ObjectTooLarge(f"an object is larger than {most_bytes} bytes", answer.headers.get("etag", ""))
