"""HTTP load over keep-alive connections: closed loop for throughput, open loop for honest latency.

The open loop sends at times drawn beforehand (Poisson) and measures from the time a request was due, so that a stall of
the server is counted once for every request it delayed.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Load:
    """What came of a load: latencies in seconds, statuses, the time it took, and when the last request was due."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    due_s: float = 0.0

    def percentiles_us(self) -> dict[str, float]:
        """Return p50, p95, p99 and p99.9 in microseconds."""
        cuts = np.quantile(self.latencies, [0.5, 0.95, 0.99, 0.999]) * 1e6
        return dict(zip(("p50", "p95", "p99", "p999"), (round(float(cut)) for cut in cuts), strict=True))


class _Client(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    def __init__(self) -> None:
        self.transport: asyncio.WriteTransport | None = None
        self.answered: asyncio.Future[int] | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank or self.answered is None:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self._buffer = b""
            self.answered.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_exception(exc or ConnectionResetError())

    async def send(self, request: bytes) -> int:
        self.answered = asyncio.get_running_loop().create_future()
        assert self.transport is not None
        self.transport.write(request)
        return await self.answered


def http_request(body: bytes, *, query: str = "", path: str = "/invocations") -> bytes:
    """Return the bytes of one invocation."""
    head = f"POST {path}{query} HTTP/1.1\r\nhost: scorer\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def closed_loop(port: int, requests: Sequence[bytes], *, connections: int, count: int) -> Load:
    """Send ``count`` requests, each connection its next one when the last was answered."""
    load = Load()
    left = iter(range(count))
    begun = time.perf_counter()

    async def worker() -> None:
        client = await _connect(port)
        for number in left:
            sent = time.perf_counter()
            load.statuses[await client.send(requests[number % len(requests)])] += 1
            load.latencies.append(time.perf_counter() - sent)
        _close(client)

    await asyncio.gather(*(worker() for _ in range(connections)))
    load.seconds = time.perf_counter() - begun
    return load


async def open_loop(port: int, requests: Sequence[bytes], *, rate: float, seconds: float, seed: int = 1) -> Load:
    """Send at ``rate`` per second for ``seconds``, whatever the answers do."""
    load = Load()
    due = np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate, int(rate * seconds)))
    idle: deque[_Client] = deque([await _connect(port) for _ in range(16)])
    begun = time.perf_counter() + 0.1

    async def one(request: bytes, at: float) -> None:
        client = _open_one(idle) or await _connect(port)
        load.statuses[await client.send(request)] += 1
        load.latencies.append(time.perf_counter() - at)
        idle.append(client)

    async with asyncio.TaskGroup() as tasks:
        for number, offset in enumerate(due):
            at = begun + float(offset)
            while (wait := at - time.perf_counter()) > 0:  # noqa: ASYNC110  # waits for a time, finer than a timer
                await asyncio.sleep(wait if wait > 0.002 else 0)
            tasks.create_task(one(requests[number % len(requests)], at))
    load.seconds = time.perf_counter() - begun
    load.due_s = float(due[-1])
    for client in idle:
        _close(client)
    return load


def _open_one(idle: deque[_Client]) -> _Client | None:
    """Return the connection used last, unless its server has closed it: some do after seconds, at slow rates."""
    while idle:
        client = idle.pop()
        if client.transport is not None and not client.transport.is_closing():
            return client
    return None


async def _connect(port: int) -> _Client:
    _, client = await asyncio.get_running_loop().create_connection(_Client, "127.0.0.1", port)
    return client


def _close(client: _Client) -> None:
    if client.transport is not None:
        client.transport.close()
