"""A Redis cluster as the scorer sees it: one pipelined read per node touched, all at once, under one deadline.

Each node has a connection and a breaker of its own, so that a lost node costs the entities that live on it and no
others. The map of slots is asked for at the start, when a node says that a key has moved, and when a node is lost.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping, Sequence
from typing import Final

from fraud.errors import StoreUnavailable
from serving.logs import note, warn
from serving.metrics import Gauge, Metrics
from serving.redis_store import BREAKER_ABOUT, STATES, RedisStore
from serving.store import Reply
from stores.access import Access
from stores.plan import CompiledReader
from stores.slots import ASKING, HOPS, MAP_COMMAND, SLOTS, Address, Moved, read_map, read_moved, slot_of

PAUSE_S: Final = 0.1
"""Between two times that the map of slots is asked for; it doubles while nobody answers."""

LONGEST_PAUSE_S: Final = 1.0
REVIEW_S: Final = 5.0
"""The map is asked for so often without a reason: nodes that came back elsewhere say nothing of it."""


class RedisClusterStore:
    """Reads from the nodes of a cluster within ``timeout_ms``."""

    def __init__(self, access: Access, metrics: Metrics, *, timeout_ms: float) -> None:
        self._access = access
        self._metrics = metrics
        self._timeout_ms = timeout_ms
        self._seed = Address(access.host, access.port)
        self._nodes: dict[Address, RedisStore] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._map: dict[int, Address] = {}
        self._wanted = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None
        metrics.gauges.append(
            Gauge(
                "tollgate_store_breaker",
                BREAKER_ABOUT,
                lambda: {(str(address),): STATES[node.state] for address, node in self._nodes.items()},
                ("node",),
            )
        )

    async def start(self) -> None:
        """Learn the map and connect to every node; a cluster that is away only means a degraded start."""
        seed = self._node(self._seed)
        await self._started()
        if seed.state == "closed":
            await self._learn()
            await self._started()
        if not self._map:
            warn("store_lost", reason="no_map_of_slots")
        self._refreshing = asyncio.get_running_loop().create_task(self._refresh())

    async def close(self) -> None:
        """Disconnect for good."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self._started()
        for node in self._nodes.values():
            await node.close()

    def answered(self) -> None:
        """Do nothing: each node's answers were noted as they came, or a slow node would hide behind a quick one."""

    def failed(self) -> None:
        """Note that a read was answered with nothing but errors: the map may be out of date."""
        self._wanted.set()

    def fetch(self, reader: CompiledReader, keys: Mapping[str, str]) -> Coroutine[None, None, list[Reply]]:
        """Read what a plan reads; an entity whose node is away has an error in its place.

        Raises
        ------
        StoreUnavailable
            At once when no map is known.
        """
        if not self._map:
            self._wanted.set()
            self._metrics.store_refusals.add()
            raise StoreUnavailable("the online store has told no map of its slots")
        return self._read(reader.packed(keys))

    async def _read(self, asked: Sequence[tuple[bytes, bytes]]) -> list[Reply]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_ms / 1000.0
        replies: list[Reply] = [StoreUnavailable("nobody serves this key")] * len(asked)
        places: dict[Address, list[int]] = {}
        for index, (key, _) in enumerate(asked):
            address = self._map.get(slot_of(key))
            if address is not None:
                places.setdefault(address, []).append(index)
        waiting = [(address, some, self._send(address, asked, some)) for address, some in places.items()]
        moved: list[tuple[int, Moved]] = []
        for address, some, future in waiting:  # all have been sent and each has its own deadline
            try:
                got = await future if future is not None else [StoreUnavailable("a node is away")] * len(some)
            except StoreUnavailable as error:
                got = [error] * len(some)
            else:
                moved += self._note(address, some, got)
            for index, reply in zip(some, got, strict=True):
                replies[index] = reply
        if moved:
            await self._follow(replies, asked, moved, deadline)
        return replies

    def _note(self, address: Address, some: Sequence[int], got: Sequence[Reply]) -> list[tuple[int, Moved]]:
        """Note whether a node answered well; return which keys it says have moved."""
        found = [(index, read_moved(reply, address)) for index, reply in zip(some, got, strict=True)]
        moved = [(index, elsewhere) for index, elsewhere in found if elsewhere is not None]
        errors = sum(isinstance(reply, Exception) for reply in got)
        if errors == len(got) and not moved:
            self._node(address).failed()
        else:
            self._node(address).answered()
        return moved

    def _send(
        self, address: Address, asked: Sequence[tuple[bytes, bytes]], some: Sequence[int]
    ) -> asyncio.Future[list[Reply]] | None:
        """Send a node its part; null when it is away."""
        with contextlib.suppress(StoreUnavailable):
            return self._node(address).send(b"".join([asked[index][1] for index in some]), len(some))
        self._wanted.set()
        return None

    async def _follow(
        self,
        replies: list[Reply],
        asked: Sequence[tuple[bytes, bytes]],
        moved: Sequence[tuple[int, Moved]],
        deadline: float,
    ) -> None:
        """Ask for keys that have moved where they are now, as long as there is time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await asyncio.gather(*(self._follow_one(replies, asked[index][1], index, at) for index, at in moved))

    async def _follow_one(self, replies: list[Reply], command: bytes, index: int, at: Moved) -> None:
        for _ in range(HOPS):
            self._metrics.store_redirects.add(("moved" if at.from_now_on else "ask",))
            if at.from_now_on:
                self._map[at.slot] = at.address
                self._wanted.set()
            node = self._node(at.address)
            await self._connected(node)
            try:
                if at.from_now_on:
                    (replies[index],) = await node.send(command, 1)
                else:
                    _, replies[index] = await node.send(ASKING + command, 2)
            except StoreUnavailable as error:
                replies[index] = error
                return
            following = read_moved(replies[index], at.address)
            if following is None:
                return
            at = following

    def _node(self, address: Address) -> RedisStore:
        """Return a node, with a connection to it under way when it is new."""
        node = self._nodes.get(address)
        if node is None:
            node = RedisStore(self._access, self._metrics, timeout_ms=self._timeout_ms, address=address)
            self._nodes[address] = node
            task = asyncio.get_running_loop().create_task(node.start(), name=str(address))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        return node

    async def _connected(self, node: RedisStore) -> None:
        """Wait for the connection of a node met just now."""
        for task in [task for task in self._starting if task.get_name() == str(node.address)]:
            await asyncio.shield(task)

    async def _started(self) -> None:
        await asyncio.gather(*self._starting, return_exceptions=True)

    async def _refresh(self) -> None:
        """Ask for the map whenever somebody wants it, and now and then."""
        pause = PAUSE_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REVIEW_S if self._map else pause):
                    await self._wanted.wait()
            self._wanted.clear()
            learnt = await self._learn()
            pause = PAUSE_S if learnt else min(LONGEST_PAUSE_S, 2 * pause)
            await asyncio.sleep(pause)

    async def _learn(self) -> bool:
        """Take the map from whichever node answers first; return whether one did."""
        for address, node in list(self._nodes.items()):
            try:
                (reply,) = await node.read([MAP_COMMAND])
                found = read_map(reply, address)
            except (StoreUnavailable, ValueError):
                continue
            if found != self._map:
                note("store_map_learnt", nodes=len(set(found.values())), slots=len(found), of=SLOTS)
            self._map = found
            wanted = {*found.values(), self._seed}
            for each in wanted:
                self._node(each)
            for gone in set(self._nodes) - wanted:
                await self._nodes.pop(gone).close()
            return True
        return False
