"""Where the keys of a Redis cluster live: hash slots, the map of slots to nodes, and what a node says of a key moved.

Feast's keys carry no hash tag, so a card's key is anywhere; one that happens to hold braces is tagged, as the server
sees it.
"""

from binascii import crc_hqx
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import hiredis

SLOTS: Final = 16384
MAP_COMMAND: Final = (b"CLUSTER", b"SLOTS")
ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"
HOPS: Final = 4
"""Times that one command follows a key that has moved."""


class Address(NamedTuple):
    """Host and port of a node."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Moved:
    """What a node says of a key that is not its own: ask there, for this once or from now on."""

    slot: int
    address: Address
    from_now_on: bool


def slot_of(key: bytes) -> int:
    """Return the hash slot of a key: CRC-16 (XMODEM) of it, or of what stands between its first braces.

    Examples
    --------
    >>> slot_of(b"123456789"), slot_of(b"{user1000}.following") == slot_of(b"user1000"), slot_of(b"a{}b")
    (12739, True, 13694)
    """
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def read_map(reply: Any, asked: Address) -> dict[int, Address]:
    """Return the primary of each slot that is served, from the reply to :data:`MAP_COMMAND`.

    Parameters
    ----------
    asked
        The node that was asked; it leaves its own host out when it does not know it.

    Raises
    ------
    ValueError
        The reply is no such map.
    """
    found: dict[int, Address] = {}
    try:
        for first, last, primary, *_ in reply:
            address = Address(_host(primary, asked), int(primary[1]))
            found.update(dict.fromkeys(range(first, last + 1), address))
    except (TypeError, IndexError, ValueError):
        raise ValueError("the node gave no map of slots") from None
    return found


def _host(primary: Sequence[Any], asked: Address) -> str:
    """Return a node's name, which its certificate carries, where it tells one; else its address."""
    more = primary[3] if len(primary) > 3 else ()
    told: Mapping[bytes, bytes] = dict(zip(more[::2], more[1::2], strict=False))
    name = told.get(b"hostname") or primary[0]
    return name.decode() if name else asked.host


def read_moved(reply: Any, asked: Address) -> Moved | None:
    """Return where a reply says that its key is; null for any other reply.

    Examples
    --------
    >>> read_moved(hiredis.ReplyError("MOVED 3999 10.0.0.2:6381"), Address("10.0.0.1", 6379))
    Moved(slot=3999, address=Address(host='10.0.0.2', port=6381), from_now_on=True)
    >>> read_moved(hiredis.ReplyError("ASK 3999 :6381"), Address("10.0.0.1", 6379)).address.host
    '10.0.0.1'
    >>> read_moved(hiredis.ReplyError("LOADING"), Address("10.0.0.1", 6379))
    """
    if not isinstance(reply, hiredis.ReplyError):
        return None
    words = str(reply).split(" ")
    if len(words) != 3 or words[0] not in ("MOVED", "ASK"):
        return None
    host, _, port = words[2].rpartition(":")
    try:
        return Moved(int(words[1]), Address(host or asked.host, int(port)), words[0] == "MOVED")
    except ValueError:
        return None
