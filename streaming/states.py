"""Velocity states in Redis: many entities read in one round trip, and written in one, each only over what was read."""

from collections.abc import Sequence
from typing import Final, Protocol

import hiredis
import msgspec

from fraud.errors import StoreUnavailable
from fraud.settings import Settings
from fraud.velocity import newest_time_ms
from fraud.windows import ENTITIES, Entity
from stores.access import redis_access
from stores.cluster_wires import ClusterWires, open_wires
from stores.guards import SWAP_STATE
from stores.wire import Parts, Reply, Wires, pack
from streaming.commands import StateCommands, read_number, state_value

Key = tuple[Entity, str]

TIMEOUT_S: Final = 2.0
"""Longest wait for the store, per round trip of a batch."""


class Held(msgspec.Struct, frozen=True, gc=False):
    """What the store holds of one entity: state, revision, and the revision's bytes as stored (empty for none)."""

    state: bytes
    revision: int
    stored: bytes


class Swap(msgspec.Struct, frozen=True, gc=False):
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


def connect(settings: Settings) -> Wires | ClusterWires:
    """Return connections that wait ``TIMEOUT_S`` and never retry by themselves: the worker decides about that.

    Raises
    ------
    InvalidSetting
        A file that the settings name cannot be used.
    SecretUnreadable, NoCredentials
        The password is kept where this process cannot read it.
    """
    return open_wires(redis_access(settings), TIMEOUT_S)


class RedisStates:
    """States in Feast's layout in Redis.

    Parameters
    ----------
    wires
        See :func:`connect`. Threads may share the states.
    project
        Feast project, the end of every key.
    lifetime_s
        After which Redis forgets an entity that nobody writes; 0 for never.
    """

    def __init__(self, wires: Wires | ClusterWires, *, project: str, lifetime_s: int = 0) -> None:
        self._wires = wires
        self._commands = {entity: StateCommands(entity, project, lifetime_s) for entity in ENTITIES}

    def read(self, keys: Sequence[Key]) -> list[Held]:
        """Read in one round trip."""
        commands = self._commands
        asked = [(commands[entity].read(name),) for entity, name in keys]
        return [_held(reply) for reply in self._round_trip(keys, asked)]

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Write in one round trip, two when the server had lost the script."""
        done = [False] * len(swaps)
        commands = [self._command(swap) for swap in swaps]
        todo = list(range(len(swaps)))
        for _ in range(2):
            keys = [swaps[place].key for place in todo]
            replies = self._round_trip(keys, [commands[place] for place in todo], forgiving=True)
            for place, reply in zip(todo, replies, strict=True):
                done[place] = reply == 1
            todo = [place for place, reply in zip(todo, replies, strict=True) if isinstance(reply, Exception)]
            if not todo:
                return done
            self._wires.tell_all(pack((b"SCRIPT", b"LOAD", SWAP_STATE.encode())))
        raise StoreUnavailable("the store forgets the script that guards its writes as soon as it is loaded")

    def close(self) -> None:
        """End its connections."""
        self._wires.close()

    def _command(self, swap: Swap) -> Parts:
        entity, name = swap.key
        newest_ms = newest_time_ms(entity, swap.state)
        return self._commands[entity].swap(name, swap.read.stored, swap.state, swap.revision, newest_ms)

    def _round_trip(self, keys: Sequence[Key], asked: Sequence[Parts], *, forgiving: bool = False) -> list[Reply]:
        """Return the replies to commands, each on its key; ``forgiving`` leaves a missing script among them."""
        replies = self._wires.ask([self._commands[entity].key(name) for entity, name in keys], asked)
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
