"""One Redis node as the scorer sees it: one pipelined read per request, a deadline, and a breaker in front.

A store that is slow costs at most the deadline, one that is gone costs microseconds: :meth:`RedisStore.send` then
raises at once, and a background task reconnects and probes with a growing pause. So does one whose certificate is not
its own, or that refuses our credentials: the log says which.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import hiredis

from fraud.errors import StoreUnavailable
from serving.breaker import Breaker, State
from serving.connection import Connection, Reply
from serving.logs import Seldom, warn
from serving.mending import mend
from serving.metrics import Gauge, Metrics
from stores.access import Access
from stores.plan import CompiledReader
from stores.slots import Address
from stores.wire import pack, why

CONNECT_TIMEOUT_S: Final = 1.0
"""For the connection, TLS included."""

GRACE_S: Final = 0.001
"""After a deadline the event loop first takes in what has already arrived: being busy ourselves is no timeout."""

BREAKER_ABOUT: Final = "State of the circuit breaker: 0 closed, 1 half open, 2 open."
STATES: Final[dict[State, float]] = {"closed": 0.0, "half_open": 1.0, "open": 2.0}
_PASSWORD_REFUSED: Final = frozenset({"credentials_refused", "credentials_missing"})
_REFUSALS: Final = {"WRONGPASS": "credentials_refused", "NOAUTH": "credentials_missing", "NOPERM": "not_permitted"}


class RedisStore:
    """Reads from one node within ``timeout_ms``.

    Parameters
    ----------
    access
        Credentials, TLS and, unless ``address`` is another, the node.
    address
        The node, when it is one of a cluster; its breaker is then shown by the cluster.
    """

    def __init__(self, access: Access, metrics: Metrics, *, timeout_ms: float, address: Address | None = None) -> None:
        self.address = address or Address(access.host, access.port)
        self._access = access
        self._metrics = metrics
        self._timeout_s = timeout_ms / 1000.0
        self._breaker = Breaker()
        self._seldom = Seldom()
        self._connection: Connection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._mending: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        if address is None:
            metrics.gauges.append(Gauge("tollgate_store_breaker", BREAKER_ABOUT, lambda: {(): STATES[self.state]}))

    @property
    def state(self) -> State:
        """State of the circuit breaker."""
        return self._breaker.state

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

    def fetch(self, reader: CompiledReader, keys: Mapping[str, str]) -> asyncio.Future[list[Reply]]:
        """Read what a plan reads; see :meth:`send`."""
        return self.send(reader.payload(keys), len(reader.plan.entities))

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
            self._mending = self._loop.create_task(mend(self._breaker, self._metrics, self._probe))

    async def _probe(self) -> bool:
        """Open a connection, authenticate and ping, each in time; keep the connection when all went well."""
        loop = asyncio.get_running_loop()
        connection: Connection | None = None
        refusal = ""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self._lost),
                    *self.address,
                    ssl=self._access.tls,
                    server_hostname=None if self._access.tls is None else self.address.host,
                )
            async with asyncio.timeout(self._timeout_s):  # a store as slow as before is not back
                refusal = await self._greet(connection, loop.time() + self._timeout_s)
        except StoreUnavailable:
            refusal = "connection_lost"
        except OSError as error:
            refusal = why(error)
        if refusal or connection is None:
            self._seldom.warn("store_refused_us", reason=refusal, node=str(self.address))
            if connection is not None:
                connection.abort()
            if refusal in _PASSWORD_REFUSED:
                await loop.run_in_executor(None, self._access.refused)
            return False
        self._connection = connection
        self._breaker.answered()
        return True

    async def _greet(self, connection: Connection, deadline: float) -> str:
        """Authenticate and ping; return why that was refused, empty when it was not."""
        authentication = self._access.authentication()
        commands = [*([authentication] if authentication else []), (b"PING",)]
        replies = await connection.send(b"".join(map(pack, commands)), len(commands), deadline)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                kind = str(reply).split(" ", 1)[0][:20]  # the rest may repeat who we are
                return _REFUSALS.get(kind, kind)
        return ""
