"""Columns reach the online store as the bytes that Feast's own messages have."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from stores.layout import decode_timestamp, encode_moment, encode_timestamp
from tests.support.feast_views import view_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
NOON = datetime(2026, 3, 1, 12, 0, 0, 5, UTC)
LATER = datetime(2026, 3, 2, tzinfo=UTC)
NOON_MS, LATER_MS = (int(time.timestamp() * 1000) for time in (NOON, LATER))
COLUMNS: dict[str, Any] = {
    "i": pa.array([1, -5, None, 1], pa.int64()),
    "f": pa.array([0.5, None, -1e300, float("nan")]),
    "z": pa.array([0.0, -0.0, 0.0, None]),
    "s": pa.array(["x", "", None, "é"]),
    "b": pa.array([b"\x00\x01", None, b"", b"y" * 300], pa.binary()),
    "t": pa.array([True, False, None, True]),
    "n": pa.array([1.5, None, 2.5, 0.0], pa.float32()),
    "a": pa.array([[1, 2], [], None, [3]], pa.list_(pa.int64())),
}


def table_of(keys: dict[str, Any]) -> Any:
    times = pa.array([NOON, LATER, NOON, LATER], pa.timestamp("us", "UTC"))
    return pa.table({**keys, **COLUMNS, "event_timestamp": times})


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize(
    "keys",
    [
        {"card_id": pa.array(["c1", "c2", "", "é"])},
        {"card_id": pa.array([7, -7, 0, 2**40])},
        {"merchant_id": pa.array(["m1", "m1", "m2", "m2"]), "card_id": pa.array(["c1", "c2", "c1", "c2"])},
    ],
)
def test_encoded_columns_are_feasts_own_rows_byte_for_byte(keys: dict[str, Any], chunks: int) -> None:
    from feast import ValueType
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.types import Array, Bool, Bytes, Float32, Float64, Int64, String
    from feast.utils import _convert_arrow_to_proto

    from stores.encoded_columns import encode_columns

    dtypes = {
        "i": Int64,
        "f": Float64,
        "z": Float64,
        "s": String,
        "b": Bytes,
        "t": Bool,
        "n": Float32,
        "a": Array(Int64),
    }
    view = view_of(
        dtypes, keys={name: Int64 if pa.types.is_integer(some.type) else String for name, some in keys.items()}
    )
    table = table_of(keys)
    whole = table if chunks == 1 else pa.concat_tables([table.slice(0, 1), table.slice(1)])
    ours = encode_columns(whole, view, "event_timestamp", 3)
    kinds = {
        name: ValueType.INT64 if pa.types.is_integer(some.type) else ValueType.STRING for name, some in keys.items()
    }
    theirs = _convert_arrow_to_proto(table, view, kinds)
    assert list(ours.keys) == [serialize_entity_key(key, 3) for key, _, _, _ in theirs]
    assert [decode_timestamp(time) for time in ours.times] == [NOON_MS, LATER_MS] * 2
    assert list(ours.times)[:2] == [encode_moment(NOON_MS * 1000 + 5), encode_timestamp(LATER_MS)]
    assert list(ours.features) == list(dtypes)
    for name, column in ours.features.items():
        assert list(column) == [values[name].SerializeToString() for _, values, _, _ in theirs], name
