"""HTTP load from sockets and ``epoll``, without an event loop, so that the client adds little to a latency.

Latencies count from the moment a request was sent, however late that was (which is kept too), to the moment at which
the kernel had the answer, by its own stamp: what the client does meanwhile is not the server's. Between requests it
leaves the processor to whom it shares it with, and has the kernel wake it to the microsecond: its usual 50 would be a
fifth of a latency.
"""

import ctypes
import select
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np

SO_TIMESTAMPNS: Final = 35
"""Linux: an answer comes with when the kernel had it, seconds and nanoseconds since 1970."""

PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30
SLACK_NS: Final = 1
IDLE_S: Final = 0.01
"""The longest that the client waits for an answer before it looks whether a request is due."""


@dataclass
class Load:
    """What came of a load: times in seconds, statuses, requests that found no free connection.

    ``sent`` is when each request of an open loop was sent, on ``time.perf_counter``, and ``late`` how much later than
    due: the client's own doing.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    held: int = 0
    marks: list[tuple[int, float]] = field(default_factory=list)
    """Of an open loop that is watched: answers so far, and what the watcher said, at regular times."""


class _Connections:
    """Keep-alive connections, each with at most one request on its way."""

    def __init__(self, port: int, count: int) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._sent: dict[int, float] = {}
        self._partial: dict[int, bytes] = {}
        self.idle: deque[int] = deque()
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._sockets[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)
            self.idle.append(connection.fileno())

    def send(self, request: bytes) -> float:
        """Send on the connection that is idle for longest; return when, on ``time.perf_counter``."""
        number = self.idle.popleft()
        now = time.perf_counter()
        self._sent[number] = time.time()
        self._sockets[number].sendall(request)
        return now

    def receive(self, load: Load, within_s: float = IDLE_S) -> None:
        """Take the answers that are there, or the first to come ``within_s``."""
        select.select([self._poll], [], [], max(0.0, min(within_s, IDLE_S)))  # epoll itself knows only milliseconds
        for number, _ in self._poll.poll(0.0):
            data, stamps, _, _ = self._sockets[number].recvmsg(65_536, 64)
            assert data, "the scorer closed a connection"
            answer = self._partial.pop(number, b"") + data
            head, blank, body = answer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]) if blank else 1
            if len(body) < length:
                self._partial[number] = answer
                continue
            load.latencies.append(_stamp(stamps) - self._sent.pop(number))
            load.statuses[int(answer[9:12])] += 1
            self.idle.append(number)

    def close(self) -> None:
        for connection in self._sockets.values():
            connection.close()
        self._poll.close()


def _stamp(stamps: Sequence[tuple[int, int, bytes]]) -> float:
    """Return when the kernel had what came, seconds since 1970; now, where it does not say."""
    for level, kind, content in stamps:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack_from("qq", content)
            return float(seconds + nanoseconds / 1e9)
    return time.time()


@contextmanager
def _exact_timers() -> Iterator[None]:
    """Have the kernel wake this thread when it asked to be, without its usual slack."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = libc.prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)
    libc.prctl(PR_SET_TIMERSLACK, SLACK_NS, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_TIMERSLACK, before, 0, 0, 0)


def closed_loop(port: int, requests: Sequence[bytes], *, connections: int, count: int) -> Load:
    """Send ``count`` requests, each connection its next one when the last was answered."""
    load, clients, sent = Load(), _Connections(port, connections), 0
    begun = time.perf_counter()
    while len(load.latencies) < count:
        while clients.idle and sent < count:
            clients.send(requests[sent % len(requests)])
            sent += 1
        clients.receive(load)
    load.seconds = time.perf_counter() - begun
    clients.close()
    return load


def open_loop(
    port: int,
    requests: Sequence[bytes],
    *,
    rate: float,
    seconds: float,
    seed: int,
    connections: int = 256,
    watch: Callable[[], float] | None = None,
    watch_s: float = 0.25,
) -> Load:
    """Send at ``rate`` per second (Poisson) for ``seconds``, whatever the answers do; ``watch`` is asked meanwhile."""
    load, clients = Load(), _Connections(port, connections)
    offsets = np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate, int(rate * seconds)))
    begun = time.perf_counter() + 0.05
    sent, due, marked = 0, (begun + offsets).tolist(), begun
    with _exact_timers():
        while len(load.latencies) < len(due):
            if watch is not None and time.perf_counter() >= marked:
                load.marks.append((len(load.latencies), watch()))
                marked += watch_s
            while sent < len(due) and due[sent] <= time.perf_counter():
                if not clients.idle:
                    load.held += 1
                    break
                load.sent.append(clients.send(requests[sent % len(requests)]))
                load.late.append(load.sent[-1] - due[sent])
                sent += 1
            clients.receive(load, due[sent] - time.perf_counter() if sent < len(due) and clients.idle else IDLE_S)
    load.seconds = time.perf_counter() - begun
    clients.close()
    return load


def one_by_one(port: int, requests: Sequence[bytes], *, between: Callable[[], None], connections: int = 256) -> Load:
    """Send each request when the one before was answered and ``between`` has returned, connections taking turns."""
    load, clients = Load(), _Connections(port, connections)
    for number, request in enumerate(requests):
        between()
        clients.send(request)
        while len(load.latencies) <= number:
            clients.receive(load)
    between()
    clients.close()
    return load
