"""Serialised ``feast.types.Value``: lists and sets of scalars, and the protobuf they are written in.

They are read as Feast's own client gives them, but for times, which stay epoch seconds. A
model's matrix holds no list: reading one is for whoever asks the plan, and for the proof that it reads what Feast does.
Maps, JSON, decimals and UUIDs are refused by their number: no view here has one.
"""

import struct
from collections.abc import Callable
from typing import Final

from fraud.errors import InvalidState

Scalar = bytes | str | int | float
Held = Scalar | list[Scalar] | frozenset[Scalar] | None

_SIGN: Final = 1 << 63
_WRAP: Final = 1 << 64
_NULL: Final = 19
_FIRST_LIST: Final = 11
_FIRST_SET: Final = 22
_BYTES_TAG: Final = 0x0A
_KINDS: Final = ("bytes", "text", "whole", "whole", "double", "float", "truth", "whole")
"""Of the elements of lists 11 to 18, and in the same order of sets 22 to 29."""


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it."""
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return number, place
        shift += 7


def signed(number: int) -> int:
    """Return a 64-bit number with its sign."""
    return number - _WRAP if number & _SIGN else number


def decode_elements(data: bytes) -> Held:
    """Return the list or set of scalars that a value holds, or null when it says so.

    Raises
    ------
    InvalidState
        A map or another type that no view here uses.
    """
    tag, place = read_varint(data, 0)
    number = tag >> 3
    if number == _NULL:
        return None
    for first, kind in ((_FIRST_LIST, list), (_FIRST_SET, frozenset)):
        if first <= number < first + len(_KINDS):
            length, start = read_varint(data, place)
            elements = _elements(data[start : start + length], _KINDS[number - first])
            return kind(elements) if kind is frozenset else elements
    raise InvalidState(f"feature value with protobuf tag {tag:#x} is neither a scalar nor a list of scalars")


def _elements(data: bytes, kind: str) -> list[Scalar]:
    out: list[Scalar] = []
    place = 0
    while place < len(data):
        if data[place] != _BYTES_TAG:
            raise InvalidState(f"a list of scalars has an element with protobuf tag {data[place]:#x}")
        length, place = read_varint(data, place + 1)
        part, place = data[place : place + length], place + length
        out += [part] if kind == "bytes" else [part.decode()] if kind == "text" else _PACKED[kind](part)
    return out


def _whole(part: bytes) -> list[Scalar]:
    out: list[Scalar] = []
    place = 0
    while place < len(part):
        number, place = read_varint(part, place)
        out.append(signed(number))
    return out


_PACKED: Final[dict[str, Callable[[bytes], list[Scalar]]]] = {
    "whole": _whole,
    "truth": lambda part: [bool(number) for number in _whole(part)],
    "double": lambda part: list(struct.unpack(f"<{len(part) // 8}d", part)),
    "float": lambda part: list(struct.unpack(f"<{len(part) // 4}f", part)),
}
