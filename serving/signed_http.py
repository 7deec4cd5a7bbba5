"""Signed JSON requests to one AWS service on the event loop, over connections that are kept.

A connection carries one request at a time. Credentials are renewed by a task of their own, in a thread, long before
they expire: no request waits for them.
"""

import asyncio
import contextlib
import ssl
import time
from collections import deque
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httptools

from fraud.errors import StoreUnavailable
from serving.logs import warn
from stores.credentials import RETRY_S, NoCredentials, Renewed
from stores.signing import Signer, service_host

CONNECT_TIMEOUT_S: Final = 2.0
KEPT: Final = 4
"""Connections opened at the start, so that the first requests find them."""

MOST: Final = 128
"""Requests under way; more are refused at once."""

CONTENT_TYPE: Final = "application/x-amz-json-1.0"


class Answer(NamedTuple):
    """Status and body."""

    status: int
    body: bytes


class _Lost(StoreUnavailable):
    """A connection ended before the answer came."""


class _Connection(asyncio.Protocol):
    """One connection; answers one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._waiting: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def usable(self) -> bool:
        """Whether it is open and nobody waits for an answer."""
        return self._transport is not None and not self._transport.is_closing() and self._waiting is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is one in all but name

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        self._waiting = self._loop.create_future()
        self._parts.clear()
        if self._transport is None:
            self._fail()
        else:
            self._transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        waiting, self._waiting = self._waiting, None
        answer = Answer(self._parser.get_status_code(), b"".join(self._parts))
        if not self._parser.should_keep_alive():
            self.abort()
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._transport = None
        self._fail()

    def _fail(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(_Lost("the connection was lost"))


class SignedEndpoint:
    """Where the requests of one service go.

    Parameters
    ----------
    service
        Such as ``dynamodb``.
    region
        Such as ``eu-west-1``.
    endpoint
        Another address than Amazon's; empty for Amazon's.
    credentials
        Who signs; renewed here.
    """

    def __init__(self, service: str, region: str, endpoint: str, credentials: Renewed) -> None:
        parts = urlsplit(endpoint or f"https://{service_host(service, region)}")
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._signer = Signer(service, region, parts.netloc)
        self._credentials = credentials
        self._idle: deque[_Connection] = deque()
        self._under_way = 0
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Get credentials and open a few connections; what fails now is tried again later."""
        due_s = await self._renew()
        self._renewing = asyncio.get_running_loop().create_task(self._keep_renewed(due_s))
        with contextlib.suppress(OSError):
            opened = await asyncio.gather(*(self._connect() for _ in range(KEPT)))
            self._idle.extend(opened)

    async def close(self) -> None:
        """Drop every connection."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        while self._idle:
            self._idle.pop().abort()

    async def post(self, target: str, body: bytes) -> Answer:
        """Send a request; whoever calls bounds the time, and a request given up costs its connection.

        Raises
        ------
        StoreUnavailable
            There are no credentials or no connection, or it was lost twice.
        """
        try:
            return await self._post(target, body)
        except _Lost:
            return await self._post(target, body)  # a kept connection may have ended just as it was used

    async def _post(self, target: str, body: bytes) -> Answer:
        credentials = self._credentials.current
        if credentials is None:
            raise StoreUnavailable("there are no AWS credentials")
        headers = self._signer.headers(credentials, body, target=target, content_type=CONTENT_TYPE, now_s=time.time())
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST / HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n"
        if self._under_way >= MOST:
            raise StoreUnavailable(f"{MOST} requests are waiting already")
        self._under_way += 1
        try:
            connection = await self._take()
            try:
                answer = await connection.send(head.encode() + body)
            except BaseException:
                connection.abort()
                raise
        finally:
            self._under_way -= 1
        if connection.usable:
            self._idle.append(connection)
        return answer

    async def _take(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()  # the one used last is the likeliest to be alive
            if connection.usable:
                return connection
        try:
            return await self._connect()
        except OSError as error:
            raise StoreUnavailable(f"no connection ({type(error).__name__})") from None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await loop.create_connection(
                lambda: _Connection(loop),
                self._host,
                self._port,
                ssl=self._tls,
                server_hostname=self._host if self._tls else None,
            )
        return connection

    async def _renew(self) -> float | None:
        """Renew the credentials; return when that is due again, null for never."""
        try:
            return await asyncio.get_running_loop().run_in_executor(None, self._credentials.renew)
        except NoCredentials as error:
            warn("credentials_not_renewed", reason=str(error))
            return RETRY_S

    async def _keep_renewed(self, due_s: float | None) -> None:
        while due_s is not None:
            await asyncio.sleep(due_s)
            due_s = await self._renew()
