"""Feast's own layout in Redis, written and read without Feast.

One hash per entity key. Its key is Feast's serialised entity key (version 3) followed by the project; a feature is the
field ``murmur3_32("{view}:{feature}")`` holding a serialised ``feast.types.Value``; ``_ts:{view}`` holds the view's
event time as a serialised ``google.protobuf.Timestamp``. Whatever is written here, ``get_online_features`` reads, and
the other way round: a test holds both directions against Feast itself.
"""

import math
import struct
from collections.abc import Sequence
from typing import Final, Literal

import mmh3

from fraud.errors import InvalidState
from stores.value_types import Held, decode_elements, read_varint, signed

Value = bytes | str | int | float | None
"""A scalar: what a model's matrix, or a state, is made of."""

KeyKind = Literal["string", "bytes", "int32", "int64"]
_KEY_TYPES: Final[dict[KeyKind, int]] = {"bytes": 1, "string": 2, "int32": 3, "int64": 4}
"""Numbers of feast.types.ValueType."""

_STRING: Final = 2  # feast.types.ValueType.STRING
_PAIR: Final = struct.Struct("<II")
_COUNT: Final = struct.Struct("<I")
_DOUBLE: Final = struct.Struct("<d")
_FLOAT: Final = struct.Struct("<f")

# Tags of feast.types.Value: (field number << 3) | wire type.
_BYTES_TAG: Final = 0x0A
_TEXT_TAG: Final = 0x12
_INT32_TAG: Final = 0x18
_INT64_TAG: Final = 0x20
DOUBLE_TAG: Final = 0x29
"""What a number with a fraction begins with; eight bytes follow."""
_FLOAT_TAG: Final = 0x35
_BOOL_TAG: Final = 0x38
_TIME_TAG: Final = 0x40
_LAST_SCALAR_TAG: Final = 0x47
_WRAP: Final = 1 << 64


def entity_key(join_key: str, value: str, project: str) -> bytes:
    """Return the Redis key of one entity with one join key of type string."""
    name, text = join_key.encode(), value.encode()
    return b"".join(
        (_COUNT.pack(1), _PAIR.pack(_STRING, len(name)), name, _PAIR.pack(_STRING, len(text)), text, project.encode())
    )


def serialised_key(keys: Sequence[tuple[str, KeyKind]], values: Sequence[str | bytes | int], project: str) -> bytes:
    """Return the Redis key of one entity with any number of join keys, given in the order of their names.

    Examples
    --------
    >>> serialised_key([("card_id", "string")], ["c1"], "p") == entity_key("card_id", "c1", "p")
    True
    """
    parts = [_COUNT.pack(len(keys))]
    for name, _ in keys:
        parts += [_PAIR.pack(_STRING, len(name.encode())), name.encode()]
    for (_, kind), value in zip(keys, values, strict=True):
        held = _key_bytes(kind, value)
        parts += [_PAIR.pack(_KEY_TYPES[kind], len(held)), held]
    return b"".join((*parts, project.encode()))


def _key_bytes(kind: KeyKind, value: str | bytes | int) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(4 if kind == "int32" else 8, "little", signed=True)
    return value.encode() if isinstance(value, str) else value


def entity_keys(join_key: str, values: Sequence[bytes], project: str) -> list[bytes]:
    """Return :func:`entity_key` of many values, encoded already.

    Examples
    --------
    >>> entity_keys("card_id", [b"c1", b""], "p") == [entity_key("card_id", value, "p") for value in ("c1", "")]
    True
    """
    before, after = entity_key(join_key, "", "")[: -_COUNT.size], project.encode()
    lengths = [_COUNT.pack(length) for length in range(1 + max(map(len, values), default=0))]
    return [before + lengths[len(value)] + value + after for value in values]


def feature_field(view: str, feature: str) -> bytes:
    """Return the hash field, 4 bytes, in which a view's feature is kept."""
    return _COUNT.pack(mmh3.hash(f"{view}:{feature}", signed=False))


def timestamp_field(view: str) -> bytes:
    """Return the hash field in which a view's event time is kept."""
    return f"_ts:{view}".encode()


def encode_value(value: Value) -> bytes:
    """Return a serialised ``feast.types.Value``; null is empty bytes."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return bytes([_BYTES_TAG]) + _varint(len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return bytes([_TEXT_TAG]) + _varint(len(text)) + text
    if isinstance(value, bool):
        return bytes([_BOOL_TAG, value])
    if isinstance(value, int):
        return bytes([_INT64_TAG]) + _varint(value % _WRAP)
    return bytes([DOUBLE_TAG]) + _DOUBLE.pack(value)


def decode_value(data: bytes | None) -> Value:
    """Return what a serialised ``feast.types.Value`` of a scalar type holds; absent and empty are null, and so is NaN.

    A time is its epoch seconds.

    Raises
    ------
    InvalidState
        A list, map or another type that no state and no model takes.
    """
    if not data:
        return None
    tag = data[0]
    if tag == DOUBLE_TAG:
        number: float = _DOUBLE.unpack_from(data, 1)[0]
        return None if math.isnan(number) else number
    if tag == _FLOAT_TAG:
        number = _FLOAT.unpack_from(data, 1)[0]
        return None if math.isnan(number) else number
    if tag in (_INT64_TAG, _INT32_TAG, _TIME_TAG):
        return signed(read_varint(data, 1)[0])
    if tag == _BOOL_TAG:
        return bool(data[1])
    if tag in (_BYTES_TAG, _TEXT_TAG):
        length, start = read_varint(data, 1)
        held = data[start : start + length]
        return held if tag == _BYTES_TAG else held.decode()
    raise InvalidState(f"feature value with protobuf tag {tag:#x} is not a scalar")


def decode_any(data: bytes | None) -> Held:
    """Return what :func:`decode_value` does, and lists and sets of scalars too.

    Raises
    ------
    InvalidState
        A map or another type that no view here has.
    """
    return decode_value(data) if not data or data[0] <= _LAST_SCALAR_TAG else decode_elements(data)


def encode_timestamp(time_ms: int) -> bytes:
    """Return a serialised ``google.protobuf.Timestamp`` of epoch milliseconds."""
    return encode_moment(time_ms * 1000)


def encode_moment(time_us: int) -> bytes:
    """Return a serialised ``google.protobuf.Timestamp`` of epoch microseconds."""
    seconds, rest = divmod(time_us, 1_000_000)
    out = b"\x08" + _varint(seconds % _WRAP) if seconds else b""
    return out + b"\x10" + _varint(rest * 1000) if rest else out


def decode_timestamp(data: bytes | None) -> int | None:
    """Return the epoch milliseconds of a serialised ``google.protobuf.Timestamp``, rounded down; absent is null."""
    if data is None:
        return None
    seconds = nanos = place = 0
    while place < len(data):
        number, place_after = read_varint(data, place + 1)
        if data[place] == 0x08:
            seconds = signed(number)
        elif data[place] == 0x10:
            nanos = number
        place = place_after
    return seconds * 1000 + nanos // 1_000_000


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
