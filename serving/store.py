"""The online store as the scorer sees it: one pipelined read per request, a deadline, and a breaker in front.

A store that is slow costs at most the deadline, one that is gone costs microseconds: :meth:`OnlineStore.read` then
raises at once, and a background task reconnects and probes with a growing pause.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final, cast

import hiredis

from fraud.errors import StoreUnavailable
from fraud.settings import Settings
from serving.breaker import Breaker
from serving.connection import Connection, Reply
from serving.logs import note, warn
from serving.metrics import Gauge, Metrics

CONNECT_TIMEOUT_S: Final = 1.0
GRACE_S: Final = 0.001
"""After a deadline the event loop first takes in what has already arrived: being busy ourselves is no timeout."""
pack: Final = cast(Callable[[tuple[bytes, ...]], bytes], hiredis.pack_command)
_STATES: Final = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


class OnlineStore:
    """Reads from Redis within ``settings.store_timeout_ms``."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._timeout_s = settings.store_timeout_ms / 1000.0
        self._breaker = Breaker()
        self._connection: Connection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._mending: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        about = "State of the circuit breaker: 0 closed, 1 half open, 2 open."
        metrics.gauges.append(Gauge("tollgate_store_breaker", about, lambda: {(): _STATES[self._breaker.state]}))

    async def start(self) -> None:
        """Connect; a store that is away only means a degraded start."""
        self._loop = asyncio.get_running_loop()
        if not await self._probe():
            self._give_up("unreachable_at_start")

    async def close(self) -> None:
        """Disconnect for good."""
        self._closed = True
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.gather(self._mending, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        if self._connection is not None:
            self._connection.abort()

    def read(self, commands: Sequence[tuple[bytes, ...]]) -> asyncio.Future[list[Reply]]:
        """Send ``commands`` in one write; see :meth:`send`."""
        return self.send(b"".join(map(pack, commands)), len(commands))

    def send(self, payload: bytes, wanted: int) -> asyncio.Future[list[Reply]]:
        """Send packed commands in one write; the future gives the ``wanted`` replies, errors in their place.

        Raises
        ------
        StoreUnavailable
            At once when the breaker is open; from the future when the answer does not come in time.
        """
        connection = self._connection
        if connection is None or self._loop is None or self._breaker.state != "closed":
            self._metrics.store_refusals.add()
            raise StoreUnavailable("the online store is away")
        deadline = self._loop.time() + self._timeout_s
        future = connection.send(payload, wanted, deadline)
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._due)
        return future

    def answered(self) -> None:
        """Note that a read was answered: failures in a row start again at none."""
        self._breaker.answered()

    def failed(self) -> None:
        """Note that a read was answered with nothing but errors, as by a store that is loading."""
        if self._breaker.failed():
            self._give_up("only_errors")

    def _due(self) -> None:
        if self._loop is not None:
            self._timer = self._loop.call_later(GRACE_S, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._loop is None or self._connection is None:
            return
        expired = self._connection.expire(self._loop.time())
        if expired:
            self._metrics.store_timeouts.add(count=expired)
            if any([self._breaker.failed() for _ in range(expired)]):  # noqa: C419  # every one counts
                self._give_up("too_slow")
                return
        deadline = self._connection.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._due)

    def _lost(self, connection: Connection) -> None:
        if connection is self._connection and not self._closed:
            self._connection = None
            self._give_up("connection_lost")

    def _give_up(self, reason: str) -> None:
        """Open the breaker, drop the connection and start mending."""
        self._breaker.trip()
        self._metrics.store_losses.add()
        warn("store_lost", reason=reason)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        if self._loop is not None and (self._mending is None or self._mending.done()) and not self._closed:
            self._mending = self._loop.create_task(self._mend())

    async def _mend(self) -> None:
        while True:
            pause = self._breaker.next_pause_s()
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # many scorers must not probe in step
            self._breaker.probing()
            answered = await self._probe()
            self._metrics.store_probes.add(("answered" if answered else "failed",))
            if answered:
                note("store_found")
                return
            self._breaker.trip()

    async def _probe(self) -> bool:
        """Open a connection, authenticate and ping, each in time; keep the connection when all went well."""
        loop = asyncio.get_running_loop()
        connection: Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self._lost), self._settings.redis_host, self._settings.redis_port
                )
            commands: list[tuple[bytes, ...]] = [(b"PING",)]
            if self._settings.redis_password.value:
                commands.insert(0, (b"AUTH", self._settings.redis_password.value.encode()))
            payload = b"".join(map(pack, commands))
            async with asyncio.timeout(self._timeout_s):
                replies = await connection.send(payload, len(commands), loop.time() + self._timeout_s)
        except (OSError, TimeoutError, StoreUnavailable):
            replies = None
        if replies is None or any(isinstance(reply, hiredis.ReplyError) for reply in replies):
            if replies is not None:
                warn("store_refused_us", said=str(replies[-1])[:80])
            if connection is not None:
                connection.abort()
            return False
        self._connection = connection
        self._breaker.answered()
        return True
