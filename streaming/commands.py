"""The two commands that move velocity states, as bytes that travel: templates per kind of entity, filled per state.

What they say is :mod:`stores.layout` and :mod:`stores.guards`; all that is the same for every state of a kind is packed
once.
"""

import functools
import hashlib
import struct
from typing import Final

from fraud.windows import JOIN_KEYS, Entity
from stores.guards import SWAP_STATE, state_view
from stores.layout import decode_value, encode_timestamp, encode_value, entity_key

SWAP_SHA: Final = hashlib.sha1(SWAP_STATE.encode(), usedforsecurity=False).hexdigest()

_LENGTH: Final = struct.Struct("<I")
_KEPT: Final = 1 << 14


class StateCommands:
    """Packs the commands of one kind of entity.

    Parameters
    ----------
    entity
        Whose states.
    project
        Feast project, the end of every key.
    lifetime_s
        After which Redis forgets an entity that nobody writes; 0 for never.
    """

    def __init__(self, entity: Entity, project: str, lifetime_s: int = 0) -> None:
        view = state_view(entity)
        nameless = entity_key(JOIN_KEYS[entity], "", project)
        self._end = project.encode()
        self._start = nameless[: len(nameless) - len(self._end) - _LENGTH.size]
        fields = _literal(view.state) + _literal(view.revision)
        self._read = b"*4\r\n" + _literal(b"HMGET") + _HOLE + fields
        self._swap = b"".join(
            (
                b"*13\r\n" + _literal(b"EVALSHA") + _literal(SWAP_SHA.encode()) + _literal(b"1") + _HOLE,
                _literal(view.revision) + _HOLE + _literal(b"%d" % lifetime_s),
                _literal(view.state) + b"$%d\r\n%b",
            )
        )
        self._rest = b"\r\n" + _literal(view.revision) + _HOLE + _literal(view.time) + _HOLE
        self.key = functools.lru_cache(_KEPT)(self._key)

    def _key(self, name: str) -> bytes:
        """Return the Redis key of an entity: :func:`stores.layout.entity_key`, cheaper."""
        text = name.encode()
        return self._start + _LENGTH.pack(len(text)) + text + self._end

    def read(self, name: str) -> bytes:
        """Return the command that reads state and revision."""
        key = self.key(name)
        return self._read % (len(key), key)

    def swap(self, name: str, stored: bytes, state: bytes, revision: int, newest_ms: int) -> tuple[bytes, bytes, bytes]:
        """Return the command that writes a state unless the revision is no longer ``stored`` (its bytes, or empty).

        In three pieces, the state as it is in the middle.
        """
        key, head, number, moment = self.key(name), _state_head(len(state)), _number(revision), _moment(newest_ms)
        first = self._swap % (len(key), key, len(stored), stored, len(head) + len(state), head)
        return first, state, self._rest % (len(number), number, len(moment), moment)


def state_value(data: bytes) -> bytes:
    """Return the state in a stored value, as :func:`stores.layout.decode_value`; empty where none is held."""
    for size in (3, 2, 4):  # most states have 128 bytes to 16 kB
        if len(data) > size and data[:size] == _state_head(len(data) - size):
            return data[size:]
    value = decode_value(data)
    return value if isinstance(value, bytes) else b""


_HOLE: Final = b"$%d\r\n%b\r\n"


def _literal(argument: bytes) -> bytes:
    """Return an argument as it travels, fit to stand in a template."""
    return (b"$%d\r\n%b\r\n" % (len(argument), argument)).replace(b"%", b"%%")


@functools.lru_cache(_KEPT)
def _state_head(length: int) -> bytes:
    """Return what :func:`encode_value` puts before a state of so many bytes."""
    return encode_value(bytes(length))[: -length or None]


_number: Final = functools.lru_cache(_KEPT)(encode_value)
read_number: Final = functools.lru_cache(_KEPT)(decode_value)
_moment_part: Final = functools.lru_cache(_KEPT)(encode_timestamp)


def _moment(time_ms: int) -> bytes:
    """Return :func:`encode_timestamp`: whole seconds and the rest are two fields of one message, each seen often."""
    rest_ms = time_ms % 1000
    return _moment_part(time_ms - rest_ms) + _moment_part(rest_ms)
