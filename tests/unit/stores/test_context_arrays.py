"""Whole columns of context hold the bits of Feast's row by row."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.features import CONTEXT_FEATURES, context_columns
from fraud.transaction import CHANNELS
from stores.context_arrays import context_arrays

NAMES = [feature.name for feature in CONTEXT_FEATURES]
TYPES = {
    "event_time_ms": pa.int64(),
    "amount_minor": pa.int64(),
    "channel": pa.string(),
    "merchant_category": pa.int64(),
    "country": pa.string(),
    "device_token": pa.string(),
    "card_home_country": pa.string(),
    "card_amount_median_30d": pa.float64(),
    "merchant_amount_median_30d": pa.float64(),
}
countries = st.sampled_from([None, "", "DE", "FR"])
medians = st.none() | st.sampled_from([0.0, -0.0, -1.0, math.inf, 5e-324]) | st.floats(0, 1e12)
rows = st.tuples(
    st.none() | st.integers(-(2**40), 2**42),
    st.none() | st.integers(0, 2**62),
    st.sampled_from([None, "", "telex", *CHANNELS]),
    st.none() | st.integers(0, 9999),
    countries,
    st.sampled_from([None, "", "d1"]),
    countries,
    medians,
    medians,
)


def by_row(columns: dict[str, list[Any]]) -> list[Any]:
    """Feast's answer, each value's bits; a NaN is null."""
    found = context_columns(columns)
    return [[None if math.isnan(value) else np.float64(value).tobytes() for value in found[name]] for name in NAMES]


@given(st.lists(rows, min_size=1, max_size=12))
@settings(max_examples=300, deadline=None)
def test_columns_hold_the_bits_of_rows(asked: list[tuple[Any, ...]]) -> None:
    columns = {name: list(values) for name, values in zip(TYPES, zip(*asked, strict=True), strict=True)}
    table = pa.table({name: pa.array(values, TYPES[name]) for name, values in columns.items()})
    found = context_arrays(table, NAMES)
    assert list(found) == NAMES
    assert {name: found[name].type for name in NAMES} == {
        feature.name: pa.int64() if feature.whole else pa.float64() for feature in CONTEXT_FEATURES
    }
    bits = [[None if v is None else np.float64(v).tobytes() for v in found[name].to_pylist()] for name in NAMES]
    assert bits == by_row(columns)


def test_only_what_is_wanted_is_there_and_no_rows_give_typed_columns() -> None:
    empty = pa.table({name: pa.array([], kind) for name, kind in TYPES.items()})
    found = context_arrays(empty, ["transaction_hour", "transaction_foreign"])
    assert {name: (len(array), array.type) for name, array in found.items()} == {
        "transaction_hour": (0, pa.int64()),
        "transaction_foreign": (0, pa.float64()),
    }


def test_columns_in_several_chunks_are_one_column() -> None:
    columns = {name: pa.array([None], kind) for name, kind in TYPES.items()} | {"country": pa.array(["DE"])}
    one = pa.table(columns)
    other = one.set_column(one.column_names.index("channel"), "channel", pa.array(["app"]))
    found = context_arrays(pa.concat_tables([one, other]), ["transaction_channel"])
    assert found["transaction_channel"].to_pylist() == [CHANNELS.index(CHANNELS[0]), CHANNELS.index("app")]
