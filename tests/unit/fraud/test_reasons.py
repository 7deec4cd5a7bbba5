import re

import numpy as np
import pytest

from fraud.features import FEATURE_NAMES
from fraud.reason_codes import WORDINGS
from fraud.reasons import LIMIT, describe, find_reasons
from fraud.transaction import Transaction
from fraud.velocity import FloatArray

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
