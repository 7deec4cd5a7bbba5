"""Velocity states in Redis: many entities read in one round trip, and written in one, each only over what was read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import hiredis
import redis

from fraud.errors import StoreUnavailable
from fraud.settings import Settings
from fraud.velocity import newest_time_ms
from fraud.windows import ENTITIES, Entity
from stores.guards import SWAP_STATE
from streaming.commands import StateCommands, read_number, state_value
from streaming.wire import Reply, Wires, pack

Key = tuple[Entity, str]

TIMEOUT_S: Final = 2.0
"""Longest wait for the store, per round trip of a batch."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the store holds of one entity: state, revision, and the revision's bytes as stored (empty for none)."""

    state: bytes
    revision: int
    stored: bytes


@dataclass(frozen=True, slots=True)
class Swap:
    """A state to write over the one that was ``read``."""

    key: Key
    read: Held
    state: bytes
    revision: int


class States(Protocol):
    """Where velocity states are kept."""

    def read(self, keys: Sequence[Key]) -> list[Held]:
        """Return what is held of each entity; raise :class:`StoreUnavailable` when the store does not answer."""

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Write each state unless another writer came first; return which were written."""

    def close(self) -> None:
        """End its connections."""


def connect(settings: Settings) -> "redis.Redis[bytes]":
    """Return a client that waits ``TIMEOUT_S`` and never retries by itself: the worker decides about that."""
    return redis.Redis(
        host=settings.redis_host,
        port=settings.redis_port,
        password=settings.redis_password.value or None,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=None,
    )


class RedisStates:
    """States in Feast's layout in Redis.

    Parameters
    ----------
    client
        See :func:`connect`; it says where the store is and how long to wait. Threads may share the states.
    project
        Feast project, the end of every key.
    """

    def __init__(self, client: "redis.Redis[bytes]", *, project: str) -> None:
        self._client = client
        self._wires = Wires(client.connection_pool.connection_kwargs)
        self._commands = {entity: StateCommands(entity, project) for entity in ENTITIES}

    def read(self, keys: Sequence[Key]) -> list[Held]:
        """Read in one round trip."""
        commands = self._commands
        asked = [commands[entity].read(name) for entity, name in keys]
        return [_held(reply) for reply in self._round_trip(asked, len(asked))]

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Write in one round trip, two when the server had lost the script."""
        done = [False] * len(swaps)
        commands = [self._command(swap) for swap in swaps]
        todo = list(range(len(swaps)))
        for _ in range(2):
            replies = self._round_trip([part for place in todo for part in commands[place]], len(todo), forgiving=True)
            for place, reply in zip(todo, replies, strict=True):
                done[place] = reply == 1
            todo = [place for place, reply in zip(todo, replies, strict=True) if isinstance(reply, Exception)]
            if not todo:
                return done
            self._round_trip([pack(("SCRIPT", "LOAD", SWAP_STATE))], 1)
        raise StoreUnavailable("the store forgets the script that guards its writes as soon as it is loaded")

    def close(self) -> None:
        """End its connections."""
        self._wires.close()
        self._client.close()

    def _command(self, swap: Swap) -> tuple[bytes, bytes, bytes]:
        entity, name = swap.key
        newest_ms = newest_time_ms(entity, swap.state)
        return self._commands[entity].swap(name, swap.read.stored, swap.state, swap.revision, newest_ms)

    def _round_trip(self, parts: Sequence[bytes], count: int, *, forgiving: bool = False) -> list[Reply]:
        """Return the replies to ``count`` commands; ``forgiving`` leaves a missing script among them."""
        replies = self._wires.ask(b"".join(parts), count)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                # The server's text may repeat a key: only the kind of error is told.
                kind = str(reply).split(" ", 1)[0]
                if not (forgiving and kind == "NOSCRIPT"):
                    raise StoreUnavailable(f"the online store refused a command ({kind[:20]})")
        return replies


def _held(reply: Sequence[bytes | None]) -> Held:
    stored = reply[1] or b""
    revision = read_number(stored)
    return Held(state_value(reply[0] or b""), revision if isinstance(revision, int) else 0, stored)
