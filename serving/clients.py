"""Connections of clients: when a request's bytes came, how many connections there may be, who is too slow for one.

Uvicorn's protocol parses and answers; this one knows since when a request has been waiting. Under load that is longer
than we have known of it, so the kernel is asked when the last bytes came in, once per request and for a microsecond.
"""

import asyncio
import logging
import socket
import struct
import time
from typing import ClassVar, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.answers import encode, error_of
from serving.metrics import Metrics
from serving.whole_answers import WholeAnswers

SLOW_REQUEST_S: Final = 10.0
"""A connection whose request is not whole after this long is dropped."""

ARRIVED: Final = "arrived"
"""Key of the ASGI scope: when the request's last byte came, seconds on ``time.perf_counter``."""

TICK_MS: Final = 10
"""The kernel counts in ticks of up to this long; a shorter wait than one is taken as none."""

_LAST_DATA: Final = 52
"""Place in ``struct tcp_info`` of ``tcpi_last_data_recv``, milliseconds since the last bytes came."""

_BUSY: Final = encode(error_of("too_many_connections", "connection", "this scorer has as many as it takes"))
_NO_HTTP: Final = encode(error_of("invalid_http", "request", "is not HTTP/1.1"))


class ClientConnection(HttpToolsProtocol):
    """One connection; :func:`client_connections` makes a class of it that knows its metrics and limit."""

    metrics: ClassVar[Metrics]
    most: ClassVar[int]
    _socket: socket.socket | None = None
    _whole: WholeAnswers
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Take a connection, or say that there are too many and close it."""
        super().connection_made(transport)
        self._whole = WholeAnswers(transport)
        self.transport = cast(asyncio.Transport, self._whole)  # is one in all that uvicorn uses
        if len(self.connections) > self.most:
            self._refused = True
            self.metrics.connections_refused.add()
            self._answer_and_close(b"503 Service Unavailable\r\nretry-after: 1", _BUSY)
            return
        found = transport.get_extra_info("socket")
        if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
            self._socket = socket.socket(found.family, socket.SOCK_STREAM, 0, found.fileno())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; its file is the transport's to close."""
        if self._socket is not None:
            self._socket.detach()
            self._socket = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the connection was refused."""
        if not self._refused:
            super().data_received(data)

    def on_message_complete(self) -> None:
        """Note when the request was whole."""
        self._note_arrival()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Let an answer without a body go."""
        self._whole.flush()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's words
        """Answer what is no HTTP with a typed refusal, and close."""
        self._refused = True
        self.metrics.requests_unreadable.add()
        self._answer_and_close(b"400 Bad Request", _NO_HTTP)

    def _note_arrival(self) -> None:
        waited_ms = 0
        if self._socket is not None:
            try:
                info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA + 4)
                waited_ms = struct.unpack_from("I", info, _LAST_DATA)[0]
            except (OSError, struct.error):  # a kernel that does not say: then it came when we read it
                waited_ms = 0
        self.scope[ARRIVED] = time.perf_counter() - (waited_ms / 1e3 if waited_ms > TICK_MS else 0.0)  # type: ignore[typeddict-unknown-key]

    def _answer_and_close(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)
        self.transport.close()


def client_connections(metrics: Metrics, most: int) -> type[ClientConnection]:
    """Return the class of a server's connections, of which it takes ``most``."""
    return type("ClientConnection", (ClientConnection,), {"metrics": metrics, "most": most})


class Throttle(logging.Filter):
    """Lets each message of a library through once in ``pause_s`` seconds: anybody can make it warn."""

    def __init__(self, pause_s: float = 10.0) -> None:
        super().__init__()
        self._pause_s = pause_s
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is let through."""
        now, message = time.monotonic(), str(record.msg)
        if now - self._last.get(message, -self._pause_s) < self._pause_s:
            return False
        self._last[message] = now
        return True


async def drop_slow_clients(server: uvicorn.Server, metrics: Metrics) -> None:
    """Drop connections that have not sent a whole request for a long time; costs other requests nothing."""
    since: dict[HttpToolsProtocol, tuple[RequestResponseCycle | None, float]] = {}
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(1.0)
        connections = [c for c in server.server_state.connections if isinstance(c, HttpToolsProtocol)]
        waiting = {c: c.cycle for c in connections if _awaits_client(c)}
        before, since = since, {}
        for connection, cycle in waiting.items():
            known = before.get(connection)
            since[connection] = known if known is not None and known[0] is cycle else (cycle, loop.time())
        for connection, (_, first) in since.items():
            if loop.time() - first > SLOW_REQUEST_S:
                connection.transport.abort()
                metrics.clients_dropped.add()


def _awaits_client(connection: HttpToolsProtocol) -> bool:
    """Return whether a connection has begun a request and not finished sending it, or has sent nothing at all."""
    cycle: RequestResponseCycle | None = connection.cycle
    if connection.transport.is_closing():
        return False
    if cycle is None:
        return True
    if cycle.response_complete:
        return connection.timeout_keep_alive_task is None  # it sent something after the last answer
    return bool(cycle.more_body)
