"""Velocity states in Redis: many entities read in one round trip, and written in one, each only over what was read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import redis

from fraud.errors import StoreUnavailable
from fraud.settings import Settings
from fraud.velocity import newest_time_ms
from fraud.windows import ENTITIES, Entity
from stores.guards import SWAP_STATE, state_fields, state_view
from stores.layout import decode_value, entity_key

Key = tuple[Entity, str]

TIMEOUT_S: Final = 2.0
"""Longest wait for the store, per round trip of a batch."""

_SWAP_SHA: Final = hashlib.sha1(SWAP_STATE.encode(), usedforsecurity=False).hexdigest().encode()


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
        See :func:`connect`; threads may share it.
    project
        Feast project, the end of every key.
    """

    def __init__(self, client: "redis.Redis[bytes]", *, project: str) -> None:
        self._client = client
        self._project = project
        self._views = {entity: state_view(entity) for entity in ENTITIES}

    def read(self, keys: Sequence[Key]) -> list[Held]:
        """Read in one round trip."""
        views = self._views
        commands = [("HMGET", self._key(key), views[key[0]].state, views[key[0]].revision) for key in keys]
        return [_held(reply) for reply in self._round_trip(commands)]

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Write in one round trip, two when the server had lost the script."""
        done = [False] * len(swaps)
        commands = [self._command(swap) for swap in swaps]
        todo = list(range(len(swaps)))
        for _ in range(2):
            replies = self._round_trip([commands[place] for place in todo], forgiving=True)
            for place, reply in zip(todo, replies, strict=True):
                done[place] = reply == 1
            todo = [place for place, reply in zip(todo, replies, strict=True) if isinstance(reply, Exception)]
            if not todo:
                return done
            self._round_trip([("SCRIPT LOAD", SWAP_STATE)])
        raise StoreUnavailable("the store forgets the script that guards its writes as soon as it is loaded")

    def _key(self, key: Key) -> bytes:
        return entity_key(f"{key[0]}_id", key[1], self._project)

    def _command(self, swap: Swap) -> tuple[Any, ...]:
        entity = swap.key[0]
        view = self._views[entity]
        fields = state_fields(view, swap.state, swap.revision, newest_time_ms(entity, swap.state))
        return ("EVALSHA", _SWAP_SHA, 1, self._key(swap.key), view.revision, swap.read.stored, *fields)

    def _round_trip(self, commands: Sequence[tuple[Any, ...]], *, forgiving: bool = False) -> list[Any]:
        """Return the replies; ``forgiving`` leaves a missing script among them, any other error is raised."""
        pipeline: Any = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        except redis.RedisError as error:
            raise StoreUnavailable(f"the online store did not answer ({type(error).__name__})") from None
        for reply in replies:
            if isinstance(reply, Exception) and not (forgiving and isinstance(reply, redis.exceptions.NoScriptError)):
                # The server's text may repeat a key: only the kind of error is told.
                raise StoreUnavailable(f"the online store refused a command ({type(reply).__name__})")
        return replies


def _held(reply: Sequence[bytes | None]) -> Held:
    state, stored = decode_value(reply[0]), reply[1] or b""
    revision = decode_value(stored)
    return Held(state if isinstance(state, bytes) else b"", revision if isinstance(revision, int) else 0, stored)
