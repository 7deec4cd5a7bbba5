import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud import velocity
from fraud.features import FEATURE_NAMES, NO_PROFILES, evaluate
from fraud.reason_codes import WORDINGS
from fraud.reasons import LIMIT, describe, find_reasons
from fraud.ring import new_scratch
from fraud.transaction import Transaction
from fraud.velocity import FloatArray
from fraud.windows import ENTITIES, RING_READ, Entity
from tests.support.scorers import payment

PLACE = {name: index for index, name in enumerate(FEATURE_NAMES)}
PAYMENT = Transaction(
    transaction_id="secret-t",
    card_id="secret-c",
    merchant_id="secret-m",
    device_id="secret-d",
    amount_minor=43_000,
    currency="EUR",
    event_time_ms=1_700_000_000_000,
    channel="online",
    merchant_category=5411,
    country="DE",
)


def values(**given: float) -> FloatArray:
    vector = np.zeros(len(FEATURE_NAMES))
    for name, value in given.items():
        vector[PLACE[name]] = value
    return vector


def test_every_feature_has_a_wording_and_no_wording_is_left_over() -> None:
    assert set(WORDINGS) == set(FEATURE_NAMES)


@pytest.mark.parametrize("name", FEATURE_NAMES)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 3.0, float("nan")])
def test_every_value_of_every_feature_gives_a_code_and_a_whole_sentence(name: str, value: float) -> None:
    code, text = describe(PAYMENT, np.full(len(FEATURE_NAMES), value), PLACE[name])
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)+", code)
    assert not re.search(r"[{}|]|nan|secret", text)
    assert len(text.split()) >= 2


@pytest.mark.parametrize(
    ("name", "value", "code", "text"),
    [
        ("device_card_distinct_24h", 7, "DEVICE_MANY_CARDS", "7 cards on this device in 24 h"),
        ("device_card_distinct_24h", 1, "DEVICE_FEW_CARDS", "1 card on this device in 24 h"),
        ("card_transaction_count_1h", 9, "CARD_BURST", "9 payments by this card in 1 h"),
        ("card_transaction_count_30d", 0, "CARD_QUIET", "0 payments by this card in 30 days"),
        ("card_previous_seconds", 12, "CARD_BURST", "12 s since the last payment by this card"),
        ("card_previous_seconds", 864_000, "CARD_QUIET", "10 days since the last payment by this card"),
        ("amount_to_card_mean_30d", 4.31, "AMOUNT_UNUSUAL_FOR_CARD", "amount 4.3 times the card's 30-day mean"),
        ("amount_to_card_mean_30d", 0.02, "AMOUNT_SMALL_FOR_CARD", "amount 0.02 times the card's 30-day mean"),
        ("transaction_amount", 43_000, "AMOUNT_HIGH", "amount 430.00 EUR"),
        ("merchant_report_count_7d", 2, "MERCHANT_REPORTED_FRAUD", "2 fraud reports at this merchant in 7 days"),
        ("card_merchant_known_30d", 0, "CARD_NEW_MERCHANT", "first payment by this card at this merchant in 30 days"),
        ("card_country_distinct_7d", 3, "CARD_MANY_COUNTRIES", "payments by this card in 3 countries in 7 days"),
        ("card_speed_kmh", 880.4, "CARD_SPEED", "880 km/h between the last payment by this card and this one"),
        (
            "card_amount_mean_7d",
            float("nan"),
            "CARD_HISTORY_UNKNOWN",
            "the mean payment by this card in 7 days is not known",
        ),
    ],
)
def test_sentences_carry_values_and_spans(name: str, value: float, code: str, text: str) -> None:
    assert describe(PAYMENT, values(**{name: value}), PLACE[name]) == (code, text)


SEEN = {
    "card_transaction_count_1h": 9,
    "card_transaction_count_24h": 12,
    "card_transaction_count_7d": 18,
    "card_transaction_count_30d": 40,
    "card_amount_sum_24h": 50_000,
    "card_amount_sum_7d": 86_000,
}


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("card_transaction_count_24h", {}, "12 payments by this card in 24 h; usual 1"),
        ("card_transaction_count_1h", {}, "9 payments by this card in 1 h; usual 1 a day"),
        ("card_amount_sum_24h", {}, "500.00 EUR paid by this card in 24 h; usual 60.00 EUR"),
        (
            "card_transaction_count_24h",
            {"card_transaction_count_7d": 28},
            "12 payments by this card in 24 h; usual 2.7",
        ),
        ("card_transaction_count_24h", {"card_transaction_count_7d": 12}, "12 payments by this card in 24 h; usual 0"),
        # no history before the seven days, an unknown one, and windows that contradict each other
        ("card_transaction_count_24h", {"card_transaction_count_30d": 18}, "12 payments by this card in 24 h"),
        ("card_transaction_count_24h", {"card_transaction_count_30d": math.nan}, "12 payments by this card in 24 h"),
        ("card_transaction_count_24h", {"card_transaction_count_7d": 11}, "12 payments by this card in 24 h"),
        ("card_transaction_count_7d", {}, "18 payments by this card in 7 days"),
    ],
)
def test_what_is_usual_is_the_mean_of_the_six_days_before_when_they_are_known(
    name: str, given: dict[str, float], text: str
) -> None:
    assert describe(PAYMENT, values(**{**SEEN, **given}), PLACE[name])[1] == text


@pytest.mark.parametrize(
    ("given", "rest"),
    [
        ({"device_card_distinct_7d": 8}, "; 1 other in the 6 days before"),
        ({"device_card_distinct_7d": 7}, "; no other in the 6 days before"),
        ({"device_card_distinct_7d": 9}, "; 2 others in the 6 days before"),
        ({"device_card_distinct_7d": 6}, ""),
        ({"device_card_distinct_7d": math.nan}, ""),
        ({"device_card_distinct_7d": 8, "device_transaction_count_7d": RING_READ}, ""),
    ],
)
def test_what_is_counted_apart_is_told_with_how_many_others_there_were_before(
    given: dict[str, float], rest: str
) -> None:
    vector = values(**{"device_card_distinct_24h": 7, "device_transaction_count_7d": 20, **given})
    _, text = describe(PAYMENT, vector, PLACE["device_card_distinct_24h"])
    assert text == f"7 cards on this device in 24 h{rest}"


def test_what_is_usual_is_what_the_days_before_held() -> None:
    """Against the log itself: payments at known times, read as the scorer reads them."""
    now, hour = 1_770_000_000_000, 3_600_000
    times = [now - 24 * hour * day - hour * (day % 5) for day in range(1, 29)] + [now - hour * part for part in (1, 2)]
    state = b""
    for number, time_ms in enumerate(sorted(times)):
        earlier = payment(number, card_id="c1", device_id=f"d{number % 3}", event_time_ms=time_ms)
        state = velocity.update("card", state, velocity.transaction_change("card", earlier))[0]
    now_paid = payment(99, card_id="c1", event_time_ms=now)
    states: dict[Entity, bytes] = {**dict.fromkeys(ENTITIES, b""), "card": state}
    vector = evaluate(now_paid, states, NO_PROFILES, new_scratch())
    in_day = sum(now - 24 * hour <= time_ms < now for time_ms in times)
    in_week = sum(now - 7 * 24 * hour <= time_ms < now for time_ms in times)
    _, text = describe(now_paid, vector, PLACE["card_transaction_count_24h"])
    assert text == f"{in_day} payments by this card in 24 h; usual {(in_week - in_day) / 6:.1f}".removesuffix(".0")


def test_declined_payments_are_told_with_their_share() -> None:
    vector = values(merchant_declined_count_10m=3, merchant_transaction_count_10m=5)
    _, text = describe(PAYMENT, vector, PLACE["merchant_declined_count_10m"])
    assert text == "3 declined payments at this merchant in 10 min (60 % of them)"


def test_a_family_gives_one_reason_that_weighs_what_all_of_it_weighs() -> None:
    pushes = values(card_transaction_count_1h=0.5, card_transaction_count_10m=0.7, device_card_distinct_24h=0.9)
    vector = values(card_transaction_count_1h=4, card_transaction_count_10m=3, device_card_distinct_24h=5)
    found = find_reasons(PAYMENT, vector, pushes)
    assert [(r.code, r.weight) for r in found] == [("CARD_BURST", 1.2), ("DEVICE_MANY_CARDS", 0.9)]
    assert found[0].text == "3 payments by this card in 10 min"


@given(st.integers(0, 2**32), st.floats(0.0, 1.0))
def test_no_code_stands_twice_and_weights_are_the_positive_part_of_the_families(seed: int, unknown: float) -> None:
    rng = np.random.default_rng(seed)
    vector = rng.gamma(1.0, 3.0, len(FEATURE_NAMES)).round(rng.integers(0, 3))
    vector[PLACE["transaction_channel"]] = vector[PLACE["transaction_weekday"]] = 1.0
    vector[rng.random(len(vector)) < unknown] = np.nan
    pushes = rng.normal(size=len(FEATURE_NAMES)) * (rng.random(len(FEATURE_NAMES)) < 0.5)
    families: dict[str, float] = {}
    for name, push in zip(FEATURE_NAMES, pushes, strict=True):
        families[WORDINGS[name].family] = families.get(WORDINGS[name].family, 0.0) + push
    found = find_reasons(PAYMENT, vector, pushes, limit=200)
    codes = [reason.code for reason in found]
    assert len(codes) == len(set(codes))
    weights = [reason.weight for reason in found]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == pytest.approx(sum(weight for weight in families.values() if weight > 0.0), abs=0.01)
    few = find_reasons(PAYMENT, vector, pushes)
    assert few == found[:LIMIT]


def test_families_of_one_code_are_one_reason_with_one_sentence() -> None:
    names = ("card_transaction_count_1h", "card_amount_mean_7d", "card_age_days", "device_card_distinct_24h")
    pushes = values(**dict(zip(names, (0.5, 0.7, 0.4, 0.9), strict=True)))
    vector = values(**dict.fromkeys(names[:3], float("nan")), device_card_distinct_24h=5)
    found = find_reasons(PAYMENT, vector, pushes)
    assert [(r.code, r.weight) for r in found] == [("CARD_HISTORY_UNKNOWN", 1.6), ("DEVICE_MANY_CARDS", 0.9)]
    assert found[0].text == "the history of this card is not known"
    (alone,) = find_reasons(PAYMENT, vector, values(card_amount_mean_7d=0.7))
    assert alone.text == "the mean payment by this card in 7 days is not known"


def test_a_family_that_speaks_for_the_customer_on_balance_gives_no_reason() -> None:
    pushes = values(card_transaction_count_1h=0.5, card_transaction_count_10m=-0.7)
    assert find_reasons(PAYMENT, values(), pushes) == ()


def test_no_more_reasons_than_the_limit_and_heaviest_first() -> None:
    pushes = np.random.default_rng(1).random(len(FEATURE_NAMES))
    weights = [reason.weight for reason in find_reasons(PAYMENT, values(), pushes)]
    assert len(weights) == LIMIT
    assert weights == sorted(weights, reverse=True)


def test_reasons_of_all_families_add_up_to_the_positive_part_of_the_margin() -> None:
    pushes = np.random.default_rng(2).normal(size=len(FEATURE_NAMES))
    families: dict[str, float] = {}
    for name, push in zip(FEATURE_NAMES, pushes, strict=True):
        families[WORDINGS[name].family] = families.get(WORDINGS[name].family, 0.0) + push
    found = find_reasons(PAYMENT, values(), pushes, limit=len(families))
    expected = sorted((round(weight, 4) for weight in families.values() if weight > 0.0), reverse=True)
    assert [reason.weight for reason in found] == pytest.approx(expected)
