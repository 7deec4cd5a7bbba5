"""Rows reach the online store as the bytes that Feast's own messages have."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from tests.support.feast_views import view_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_encoded_rows_are_feasts_own_rows_byte_for_byte() -> None:
    from feast import ValueType
    from feast.types import Array, Bool, Bytes, Float32, Float64, Int64, String
    from feast.utils import _convert_arrow_to_proto

    from stores.compute_engine import encoded_rows

    kinds = {"i": Int64, "f": Float64, "s": String, "b": Bytes, "t": Bool, "n": Float32, "a": Array(Int64)}
    view = view_of(kinds)
    table = pa.table(
        {
            "card_id": ["c1", "c2", ""],
            "i": pa.array([1, -5, None], pa.int64()),
            "f": [0.5, None, -1e300],
            "s": ["x", "", None],
            "b": pa.array([b"\x00\x01", None, b""], pa.binary()),
            "t": [True, False, None],
            "n": pa.array([1.5, None, 2.5], pa.float32()),
            "a": pa.array([[1, 2], [], None], pa.list_(pa.int64())),
            "event_timestamp": pa.array([NOON] * 3, pa.timestamp("us", "UTC")),
        }
    )
    ours = list(encoded_rows(table, view, "event_timestamp"))
    theirs = _convert_arrow_to_proto(table, view, {"card_id": ValueType.STRING})
    assert len(ours) == len(theirs) == 3
    for (key, values, time, created), (their_key, their_values, their_time, _) in zip(ours, theirs, strict=True):
        assert key.SerializeToString() == their_key.SerializeToString()
        assert {n: v.SerializeToString() for n, v in values.items()} == {
            n: v.SerializeToString() for n, v in their_values.items()
        }
        assert (time.replace(tzinfo=None), created) == (their_time, None)  # Feast drops the zone; stores take it as UTC


def test_a_revision_is_told_from_other_values() -> None:
    from stores.compute_engine import EncodedValue

    assert (EncodedValue(7).WhichOneof("val"), EncodedValue(7).int64_val) == ("int64_val", 7)
    assert EncodedValue(None).WhichOneof("val") is None
    assert [EncodedValue(value).WhichOneof("val") for value in (b"x", True, 1.0)] == ["other"] * 3
