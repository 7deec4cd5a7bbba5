"""The quick look lets no row by that the rule for live payments refuses."""

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tests.support.lakes import log_row, random_payments
from training.row_rules import broken_rules, card_numbers, doubtful
from training.transaction_log import TRANSACTIONS_SCHEMA

TOKEN = st.one_of(
    st.text(max_size=140),
    st.from_regex(r"[0-9]{12,19}", fullmatch=True),
    st.sampled_from(["4111111111111111", "4111 1111 1111 1111", "c1", "", "m\n", " ", "4111-1111-1111-1111"]),
)
ROW = st.fixed_dictionaries(
    {
        "transaction_id": TOKEN,
        "card_id": TOKEN,
        "merchant_id": TOKEN,
        "device_id": st.none() | TOKEN,
        "ip": st.none() | TOKEN,
        "country": st.one_of(st.text(max_size=3), st.sampled_from(["DE", "de", "ÄÖ", "D1"])),
        "merchant_category": st.integers(-2, 10_001),
        "latitude": st.none() | st.floats(-91, 91),
        "longitude": st.none() | st.floats(-181, 181),
    }
)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    sound = log_row(random_payments(1, 1)[0])
    return pa.Table.from_pylist([sound | row for row in rows], schema=TRANSACTIONS_SCHEMA)


@given(st.lists(ROW, min_size=1, max_size=8))
def test_every_row_that_breaks_a_rule_is_doubtful(rows: list[dict[str, Any]]) -> None:
    whole = table(rows)
    broken = [place for place, _ in broken_rules(whole, "EUR")]
    assert set(broken) <= set(np.flatnonzero(doubtful(whole)).tolist())


def test_sound_rows_are_not_doubtful_and_break_nothing() -> None:
    whole = pa.Table.from_pylist([log_row(payment) for payment in random_payments(3, 200)], schema=TRANSACTIONS_SCHEMA)
    assert not doubtful(whole).any()
    assert list(broken_rules(whole, "EUR")) == []


def test_a_broken_rule_has_its_field_and_a_reason_that_can_be_counted() -> None:
    rows: list[dict[str, Any]] = [
        {"country": "de"}, {"merchant_category": 10_000}, {"latitude": 1.0, "longitude": None}, {"card_id": "a\nb"},
        {"device_id": "4111111111111111"},
    ]  # fmt: skip
    found = [(place, broken.field, broken.reason) for place, broken in broken_rules(table(rows), "EUR")]
    assert found == [
        (0, "country", "no country code"),
        (1, "merchant_category", "category out of range"),
        (2, "latitude", "place out of range"),
        (3, "card_id", "no token of 1 to 128 printable characters"),
        (4, "device_id", "card number"),
    ]
    assert {reason for _, broken in broken_rules(table(rows[:1]), "USD") for reason in [broken.reason]} == {
        "another currency"
    }


def test_card_numbers_are_found_with_spaces_and_dashes() -> None:
    texts = pa.array(["4111111111111111", "4111-1111-1111-1111", "4111111111111112", None, "c4111111111111111"])
    assert card_numbers(texts).tolist() == [True, True, False, False, False]
