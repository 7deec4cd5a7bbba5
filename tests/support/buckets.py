"""A bucket on loopback that keeps S3's conditions to the letter, one request at a time, and can be made to fail.

moto checks a condition and writes afterwards, so two writers at once may both win there; on S3 they may not, nor here.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.support.loopback import serve_http

QUOTE = {'"': "&quot;"}
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class FakeBucket:
    """One bucket named ``lists``.

    Parameters
    ----------
    endpoint
        Its address.
    objects
        Bytes by key; changing them is what another writer does.
    asked
        Method, path and status of every request.
    fail
        Status that every request gets, 0 for none; ``-1`` ends the connection without an answer.
    hides
        Whether a missing object is said to be forbidden, as to whoever may not list the whole bucket.
    wait_s
        Pause before each piece of an answer.
    before_write
        Called before a condition is checked, for a writer that comes in between.
    """

    endpoint: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    fail: int = 0
    hides: bool = False
    wait_s: float = 0.0
    sent: int = 0
    before_write: Callable[[], None] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> Answer:
        """Return status, headers and body."""
        parts = urlsplit(target)
        _, bucket, key = unquote(parts.path).split("/", 2)
        if self.fail > 0 or bucket != "lists":
            return _said(self.fail, "InternalError") if self.fail > 0 else _said(404, "NoSuchBucket")
        if "list-type=2" in parts.query:
            return 200, {}, self._listing(parse_qs(parts.query)["prefix"][0])
        if method == "PUT":
            return self._put(key, headers, body)
        return self._get(key, headers)

    def _get(self, key: str, headers: Any) -> Answer:
        if key not in self.objects:
            return _said(403, "AccessDenied") if self.hides else _said(404, "NoSuchKey")
        etag = tag(self.objects[key])
        if headers.get("if-none-match") == etag:
            return 304, {"etag": etag}, b""
        return 200, {"etag": etag}, self.objects[key]

    def _put(self, key: str, headers: Any, body: bytes) -> Answer:
        if self.before_write is not None:
            self.before_write()
        held = self.objects.get(key)
        if headers.get("if-match") is not None:
            if held is None:
                return _said(404, "NoSuchKey")
            if tag(held) != headers["if-match"]:
                return _said(412, "PreconditionFailed")
        elif headers.get("if-none-match") == "*" and held is not None:
            return _said(412, "PreconditionFailed")
        self.objects[key] = body
        return 200, {"etag": tag(body)}, b""

    def _listing(self, prefix: str) -> bytes:
        below = sorted(key for key in self.objects if key.startswith(prefix) and "/" not in key[len(prefix) :])
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><ETag>{escape(tag(self.objects[key]), QUOTE)}</ETag>"
            f"<Size>{len(self.objects[key])}</Size></Contents>"
            for key in below[:1000]
        )
        more = str(len(below) > 1000).lower()
        space = "http://s3.amazonaws.com/doc/2006-03-01/"
        text = f'<ListBucketResult xmlns="{space}">{items}<IsTruncated>{more}</IsTruncated></ListBucketResult>'
        return text.encode()


def tag(content: bytes) -> str:
    """Return the tag of an object with that content."""
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _said(status: int, code: str) -> Answer:
    return status, {}, f"<Error><Code>{code}</Code></Error>".encode()


@contextmanager
def start_bucket() -> Iterator[FakeBucket]:
    """Serve an empty bucket."""
    bucket = FakeBucket()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._do("GET")

        def do_PUT(self) -> None:
            self._do("PUT")

        def _do(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            assert self.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=test/")
            if bucket.fail < 0:
                self.close_connection = True
                return
            with bucket.lock:
                status, headers, content = bucket.answer(method, self.path, self.headers, body)
                bucket.asked.append((method, self.path, status))
            time.sleep(bucket.wait_s)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            bucket.sent += len(content)

    with serve_http(Handler) as port:
        bucket.endpoint = f"http://127.0.0.1:{port}"
        yield bucket
