"""Lists and sets as Feast's own protobuf writes them, and what is refused."""

from typing import Any

import pytest
from feast.protos.feast.types import Value_pb2

from fraud.errors import InvalidState
from stores.layout import decode_any, decode_value

NUMBERS = [0, 1, -1, 127, 128, 2**31 - 1, -(2**31)]
HELD: dict[str, list[Any]] = {
    "bytes": [b"", b"\0", bytes(200)],
    "string": ["", "a", "köln", "x" * 200],
    "int32": NUMBERS,
    "int64": [*NUMBERS, 2**63 - 1, -(2**63)],
    "double": [0.0, -0.5, 1e308],
    "float": [0.0, -0.5, 2.0**100],
    "bool": [True, False],
    "unix_timestamp": [0, 1_770_000_000, -5],
}


def made(field: str, values: list[Any]) -> bytes:
    value = Value_pb2.Value()
    part = getattr(value, field)
    part.SetInParent()
    part.val.extend(values)
    return bytes(value.SerializeToString())


@pytest.mark.parametrize("kind", HELD)
def test_lists_and_sets_hold_what_was_put_in(kind: str) -> None:
    assert decode_any(made(f"{kind}_list_val", HELD[kind])) == HELD[kind]
    assert decode_any(made(f"{kind}_list_val", [])) == []
    assert decode_any(made(f"{kind}_set_val", HELD[kind])) == frozenset(HELD[kind])


@pytest.mark.parametrize("kind", HELD)
def test_scalars_are_those_of_the_scalar_decoder(kind: str) -> None:
    for held in HELD[kind]:
        data = Value_pb2.Value(**{f"{kind}_val": held}).SerializeToString()
        assert decode_any(data) == decode_value(data) == held


def test_nothing_is_null() -> None:
    null = Value_pb2.Value(null_val=Value_pb2.NULL)
    assert [decode_any(data) for data in (None, b"", null.SerializeToString())] == [None, None, None]


def test_maps_and_lists_that_are_none_are_refused() -> None:
    a_map = Value_pb2.Value()
    a_map.map_val.val["key"].int64_val = 1
    for data in (
        a_map.SerializeToString(),
        Value_pb2.Value(decimal_val="1.5").SerializeToString(),
        b"\x62\x02\x08\x05",
    ):
        with pytest.raises(InvalidState, match="protobuf tag"):
            decode_any(data)
    with pytest.raises(InvalidState, match="not a scalar"):
        decode_value(made("int64_list_val", [1]))
