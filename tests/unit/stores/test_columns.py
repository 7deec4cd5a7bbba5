"""Arrow columns as flat arrays."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.hashing import hash64
from stores.columns import find_keys, hash_column, hash_strings, microseconds, milliseconds, number_keys


@given(st.lists(st.text(max_size=12), max_size=30), st.integers(0, 5))
@settings(deadline=None)
def test_a_column_hashes_as_its_strings_do(texts: list[str], skipped: int) -> None:
    array = pa.array(texts, pa.string()).slice(min(skipped, len(texts)))
    expected = [hash64(text) for text in texts[skipped:]]
    assert hash_strings(array).tolist() == expected
    assert hash_column(pa.chunked_array([array, array])).tolist() == expected * 2


def test_null_hashes_as_the_empty_string() -> None:
    assert hash_column(pa.array([None, ""], pa.string())).tolist() == [hash64("")] * 2


def test_strings_of_all_columns_share_one_numbering_and_nothing_is_nobody() -> None:
    keys, (first, second) = number_keys([pa.array(["b", None, "a"]), pa.chunked_array([["a"], ["", "b"]])])
    assert [keys[number].as_py() if number >= 0 else None for number in first] == ["b", None, "a"]
    assert [keys[number].as_py() if number >= 0 else None for number in second] == ["a", None, "b"]
    assert find_keys(keys, pa.array(["a", "x", None, ""])).tolist() == [first[2], -1, -1, -1]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_a_time_is_the_same_in_every_unit_and_zone_and_utc_without_one(unit: str, zone: str | None) -> None:
    time = pa.array(np.array([1_770_000_000], "datetime64[s]")).cast(pa.timestamp(unit))
    column = time if zone is None else time.cast(pa.timestamp(unit, "UTC")).cast(pa.timestamp(unit, zone))
    assert milliseconds(column).tolist() == [1_770_000_000_000]


def test_a_finer_fraction_never_moves_a_time_forward() -> None:
    column = pa.array([1_770_000_000_999_999_999], pa.int64()).cast(pa.timestamp("ns", "UTC"))
    assert microseconds(column).tolist() == [1_770_000_000_999_999]
    assert milliseconds(column).tolist() == [1_770_000_000_999]
