"""Open-loop load that does not lie: every request has a time it is due, and its latency counts from there.

Bytes are made beforehand, one timer sends what is due, connections are plain protocols: a request costs the generator
some ten microseconds, and how late it was itself is measured and told. A request that finds no idle connection waits,
and its waiting counts.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud.tiers import TIERS

CONNECTIONS = 64
MOST_CONNECTIONS = 512
TICK_S = 0.0005
PATIENCE_S = 30.0
_TIER = b'"tier":"'


@dataclass(frozen=True)
class Sent:
    """What became of each request, in the order in which they were due; equally long arrays.

    Parameters
    ----------
    due, latency, lateness
        Seconds since the start; answer minus due (NaN without an answer); sending minus due.
    status
        HTTP status; 0 without an answer.
    tier
        Place in ``TIERS`` of the model that the answer says scored it; -1 without one.
    """

    due: npt.NDArray[np.float64]
    latency: npt.NDArray[np.float64]
    lateness: npt.NDArray[np.float64]
    status: npt.NDArray[np.int64]
    tier: npt.NDArray[np.int64]

    @property
    def degraded(self) -> npt.NDArray[np.bool_]:
        """Whether another tier than the full one scored it."""
        return self.tier > 0


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    def __init__(self, driver: "Driver") -> None:
        self._driver = driver
        self._buffer = b""
        self.transport: asyncio.WriteTransport | None = None
        self.number = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head >= 0:
            at = buffer.find(b"content-length: ") + 16
            length = int(buffer[at : buffer.index(b"\r\n", at)])
            if len(buffer) >= head + 4 + length:
                self._buffer = b""
                self._driver.answered(self, int(buffer[9:12]), _tier_of(buffer))
                return
        self._buffer = buffer

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self.transport = None
        self._driver.lost(self)


def _tier_of(answer: bytes) -> int:
    at = answer.find(_TIER)
    if at < 0:
        return -1
    begin = at + len(_TIER)
    return TIERS.index(answer[begin : answer.index(b'"', begin)].decode())


class Driver:
    """Sends each request when it is due."""

    def __init__(self, port: int, requests: Sequence[bytes], due: Sequence[float], which: Sequence[int]) -> None:
        self._port = port
        self._requests = requests
        self._due = list(due)
        self._which = list(which)
        count = len(self._due)
        self._latency = [float("nan")] * count
        self._lateness = [0.0] * count
        self._status = [0] * count
        self._tier = [-1] * count
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[int] = deque()
        self._open = 0
        self._left = count
        self._begun = 0.0
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self, begun: float) -> Sent:
        """Send everything, from the moment ``begun`` on ``time.perf_counter``; return when all are answered."""
        self._begun = begun
        await asyncio.gather(*(self._connect() for _ in range(CONNECTIONS)))
        next_ = 0
        while next_ < len(self._due):
            now = time.perf_counter() - self._begun
            while next_ < len(self._due) and self._due[next_] <= now:
                self._lateness[next_] = now - self._due[next_]
                self._send(next_)
                next_ += 1
            await asyncio.sleep(TICK_S)
        until = time.perf_counter() + PATIENCE_S
        while self._left and time.perf_counter() < until:  # noqa: ASYNC110  # the last answers, not worth an event
            await asyncio.sleep(0.01)
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.close()
        return Sent(
            np.array(self._due),
            np.array(self._latency),
            np.array(self._lateness),
            np.array(self._status, np.int64),
            np.array(self._tier, np.int64),
        )

    def answered(self, connection: _Connection, status: int, tier: int) -> None:
        """Note an answer; give the connection its next request."""
        number = connection.number
        self._latency[number] = time.perf_counter() - self._begun - self._due[number]
        self._status[number] = status
        self._tier[number] = tier
        self._left -= 1
        connection.number = -1
        if self._waiting:
            self._put(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        """Note that a connection is gone, and with it the request on its way."""
        self._open -= 1
        if connection.number >= 0:
            self._left -= 1

    def _send(self, number: int) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None:
                self._put(connection, number)
                return
        self._waiting.append(number)
        if self._open + len(self._opening) < MOST_CONNECTIONS:
            task = asyncio.get_running_loop().create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _put(self, connection: _Connection, number: int) -> None:
        if connection.transport is not None:
            connection.number = number
            connection.transport.write(self._requests[self._which[number]])

    async def _connect(self) -> None:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self), "127.0.0.1", self._port
        )
        self._open += 1
        if self._waiting:
            self._put(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)
