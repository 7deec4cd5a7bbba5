"""The measures against slow, obvious oracles and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from training.errors import InvalidMetricInput
from training.metrics import (
    alert_rate,
    average_precision,
    card_precision,
    card_precision_by_day,
    false_positives_at_recall,
    recall_at_fpr,
    roc_auc,
    threshold_at_recall,
    value_detection_rate,
)
from training.ranking import BoolArray, FloatArray, IntArray

SHARES = st.sampled_from([0.001, 0.1, 0.29, 0.3, 0.5, 0.7, 0.9, 1.0])


@st.composite
def scored_rows(draw: st.DrawFn) -> tuple[FloatArray, BoolArray]:
    """Few distinct scores, so that ties are the rule."""
    n = draw(st.integers(2, 40))
    scores = draw(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), min_size=n, max_size=n))
    is_fraud = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda rows: 0 < sum(rows) < len(rows)))
    return np.array(scores), np.array(is_fraud)


def at_each_threshold(scores: FloatArray, is_fraud: BoolArray) -> list[tuple[float, int, int]]:
    """Threshold, frauds caught, false positives: counted row by row."""
    rows = list(zip(scores.tolist(), is_fraud.tolist(), strict=True))
    return [
        (t, sum(s >= t and y for s, y in rows), sum(s >= t and not y for s, y in rows))
        for t in sorted(set(scores.tolist()), reverse=True)
    ]


@given(scored_rows())
def test_average_precision_equals_sklearn(rows: tuple[FloatArray, BoolArray]) -> None:
    assert average_precision(*rows) == pytest.approx(average_precision_score(rows[1], rows[0]), abs=1e-12)


@given(scored_rows())
def test_roc_auc_equals_sklearn(rows: tuple[FloatArray, BoolArray]) -> None:
    assert roc_auc(*rows) == pytest.approx(roc_auc_score(rows[1], rows[0]), abs=1e-12)


@given(scored_rows(), SHARES)
def test_false_positives_at_recall_equal_the_count_at_the_first_threshold_that_reaches_it(
    rows: tuple[FloatArray, BoolArray], recall: float
) -> None:
    frauds = int(rows[1].sum())
    reached = [(t, fp) for t, tp, fp in at_each_threshold(*rows) if tp / frauds >= recall - 1e-12]
    assert false_positives_at_recall(*rows, recall=recall) == reached[0][1]
    threshold = threshold_at_recall(*rows, recall=recall)
    assert (rows[1] & (rows[0] >= threshold)).sum() / frauds >= recall - 1e-12
    assert threshold <= reached[0][0]
    assert ((rows[0] >= threshold) & ~rows[1]).sum() == reached[0][1]


@given(scored_rows(), SHARES)
def test_recall_at_fpr_equals_the_best_allowed_threshold(rows: tuple[FloatArray, BoolArray], fpr: float) -> None:
    frauds, legitimate = int(rows[1].sum()), int((~rows[1]).sum())
    allowed = [tp / frauds for _, tp, fp in at_each_threshold(*rows) if fp / legitimate <= fpr + 1e-12]
    assert recall_at_fpr(*rows, fpr=fpr) == max(allowed, default=0.0)


@given(scored_rows(), st.randoms(use_true_random=False))
def test_no_measure_depends_on_the_order_of_rows(rows: tuple[FloatArray, BoolArray], random: object) -> None:
    order = list(range(len(rows[0])))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    shuffled = (rows[0][order], rows[1][order])
    assert average_precision(*rows) == average_precision(*shuffled)
    assert roc_auc(*rows) == roc_auc(*shuffled)
    assert false_positives_at_recall(*rows, recall=0.5) == false_positives_at_recall(*shuffled, recall=0.5)
    assert recall_at_fpr(*rows, fpr=0.1) == recall_at_fpr(*shuffled, fpr=0.1)


def test_ties_are_alerted_to_the_end_of_their_block() -> None:
    scores, is_fraud = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([True, True, False, False, False])
    assert false_positives_at_recall(scores, is_fraud, recall=0.5) == 0
    assert false_positives_at_recall(scores, is_fraud, recall=0.51) == 2


def daily_precision_oracle(
    scores: FloatArray, is_fraud: BoolArray, card: IntArray, day: IntArray, k: int
) -> list[float]:
    """Precision of each day with plain dictionaries: the book's steps, one after the other."""
    found: set[int] = set()
    values = []
    for today in sorted(set(day.tolist())):
        risk: dict[int, float] = {}
        bad: dict[int, bool] = {}
        for s, y, c, d in zip(scores.tolist(), is_fraud.tolist(), card.tolist(), day.tolist(), strict=True):
            if d == today and c not in found:
                risk[c] = max(risk.get(c, -math.inf), s)
                bad[c] = bad.get(c, False) or y
        top = sorted(risk, key=lambda c: -risk[c])[:k]
        caught = [c for c in top if bad[c]]
        values.append(len(caught) / k)
        found.update(caught)
    return values


@pytest.mark.parametrize("k", [1, 3, 10, 500])
def test_card_precision_by_day_equals_the_books_steps(k: int) -> None:
    rng = np.random.default_rng(k)
    scores = rng.permutation(2000) / 2000.0
    is_fraud = rng.random(2000) < scores * 0.3
    card, day = rng.integers(0, 120, 2000), rng.integers(0, 9, 2000)
    expected = daily_precision_oracle(scores, is_fraud, card, day, k)
    assert card_precision_by_day(scores, is_fraud, card, day, k=k).tolist() == expected
    names = np.array([f"c{c:05d}" for c in card])
    assert card_precision_by_day(scores, is_fraud, names, day, k=k).tolist() == expected


def test_card_precision_counts_a_card_once() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    is_fraud, cards = np.array([True, True, False, True]), np.array(["a", "a", "b", "c"])
    assert card_precision(scores, is_fraud, cards, k=2) == 0.5
    assert card_precision(scores, is_fraud, cards, k=3) == pytest.approx(2 / 3)


def test_a_card_is_fraudulent_even_where_its_riskiest_transaction_is_not() -> None:
    assert card_precision(np.array([0.9, 0.1, 0.5]), np.array([False, True, False]), np.array([1, 1, 2]), k=1) == 1.0


def test_value_detection_rate_weighs_frauds_by_amount_and_ignores_legitimate_rows() -> None:
    flagged, is_fraud = np.array([True, True, False]), np.array([True, False, True])
    assert value_detection_rate(flagged, is_fraud, np.array([900, 50_000, 100])) == 0.9
    assert alert_rate(flagged) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("scores", "is_fraud", "said"),
    [
        (np.array([0.1, np.nan]), np.array([True, False]), "row 1"),
        (np.array([0.1, 0.2]), np.array([True]), "is_fraud has shape"),
        (np.array([0.1, 0.2]), np.array([False, False]), "0 of 2 rows"),
        (np.array([0.1, 0.2]), np.array([True, True]), "2 of 2 rows"),
        (np.array([0.1, 0.2]), np.array([1, 0]), "boolean"),
    ],
)
def test_rows_that_cannot_be_measured_are_refused_by_name(scores: FloatArray, is_fraud: BoolArray, said: str) -> None:
    with pytest.raises(InvalidMetricInput, match=said):
        average_precision(scores, is_fraud)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, math.nan])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    rows = np.array([0.1, 0.2]), np.array([True, False])
    with pytest.raises(InvalidMetricInput, match="recall"):
        false_positives_at_recall(*rows, recall=share)
    with pytest.raises(InvalidMetricInput, match="fpr"):
        recall_at_fpr(*rows, fpr=share)


@pytest.mark.parametrize("k", [0, 3])
def test_card_precision_refuses_more_reviews_than_cards(k: int) -> None:
    with pytest.raises(InvalidMetricInput, match=r"1\.\.2"):
        card_precision(np.array([0.1, 0.2]), np.array([True, False]), np.array([1, 2]), k=k)


def test_value_detection_without_any_fraud_amount_is_refused() -> None:
    with pytest.raises(InvalidMetricInput, match="no value"):
        value_detection_rate(np.array([True]), np.array([False]), np.array([5]))


def test_a_share_of_whole_rows_is_not_lost_to_rounding() -> None:
    # In floating point 0.29 * 100 is below 29 and 0.07 * 100 is above 7.
    falling = np.linspace(1.0, 0.0, 101)
    fraud_after_29 = np.arange(101) == 29
    assert recall_at_fpr(falling, fraud_after_29, fpr=0.29) == 1.0
    assert recall_at_fpr(falling, fraud_after_29, fpr=0.28) == 0.0
    legitimate_after_7 = np.arange(101) != 7
    assert false_positives_at_recall(falling, legitimate_after_7, recall=0.07) == 0
    assert false_positives_at_recall(falling, legitimate_after_7, recall=0.08) == 1
