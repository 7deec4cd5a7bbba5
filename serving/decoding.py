"""Decoding values whose type the plan knows: what :func:`stores.layout.decode_value` gives, several times faster.

Each function looks at the one tag it expects and leaves everything else, another type or a long number, to the general
decoder; so a value that nobody expects is told as before.
"""

import functools
import math
import struct
from typing import Final

from fraud.errors import InvalidState
from stores.layout import decode_timestamp, decode_value

_DOUBLE: Final = struct.Struct("<d")
_BYTES_TAG: Final = 0x0A
_INT64_TAG: Final = 0x20
_DOUBLE_TAG: Final = 0x29
_DOUBLE_SIZE: Final = 9
_MORE: Final = 0x80

UNREADABLE: Final = (InvalidState, IndexError, TypeError, ValueError, struct.error)
"""What decoding raises on bytes that are no value: none of it may cost the customer an answer."""


def decode_state(data: bytes | None) -> bytes:
    """Return the bytes that a value holds; empty when it is absent or holds something else."""
    if not data:
        return b""
    if data[0] == _BYTES_TAG and len(data) > 2:
        low, high = data[1], data[2]
        if low < _MORE:
            return data[2 : 2 + low]
        if high < _MORE:
            return data[3 : 3 + (low & 0x7F | high << 7)]
    held = decode_value(data)
    return held if isinstance(held, bytes) else b""


def decode_number(data: bytes | None) -> float:
    """Return the number that a value holds; NaN when it is absent or holds something else."""
    if not data:
        return math.nan
    if data[0] == _DOUBLE_TAG and len(data) == _DOUBLE_SIZE:
        number: float = _DOUBLE.unpack_from(data, 1)[0]
        return number
    if data[0] == _INT64_TAG and len(data) == 2:
        return float(data[1])
    if data[0] == _INT64_TAG and len(data) == 3:
        return float(data[1] & 0x7F | data[2] << 7)
    held = decode_value(data)
    return float(held) if isinstance(held, int | float) else math.nan


def decode_text(data: bytes | None) -> str | None:
    """Return the text that a value holds; null when it is absent, empty or something else."""
    if not data:
        return None
    held = decode_value(data)
    return held if isinstance(held, str) and held else None


def decode_revision(data: bytes | None) -> int:
    """Return the whole number that a value holds; 0 when it holds none."""
    try:
        held = decode_value(data)
    except UNREADABLE:
        return 0
    return held if isinstance(held, int) else 0


@functools.lru_cache(maxsize=4096)
def decode_profile_time(data: bytes | None) -> int | None:
    """Return the epoch ms of a profile view's event time: one materialisation stamps all its profiles alike."""
    return decode_timestamp(data)


def decode_time(data: bytes | None) -> int | None:
    """Return the epoch ms of an event time; null also for bytes that are none."""
    if data is None:
        return None
    try:
        if (
            len(data) > 5 and data[0] == 8 and data[4] >= _MORE > data[5] and data[1] & data[2] & data[3] >= _MORE
        ):  # 5 bytes of seconds
            seconds = data[1] & 127 | (data[2] & 127) << 7 | (data[3] & 127) << 14 | (data[4] & 127) << 21
            seconds |= data[5] << 28
            nanos = shift = 0
            for byte in data[7:]:
                nanos |= (byte & 127) << shift
                shift += 7
            return seconds * 1000 + nanos // 1_000_000
        return decode_timestamp(data)
    except UNREADABLE:
        return None
