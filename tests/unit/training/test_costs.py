"""The solved thresholds are the cheapest there are within the budget, found by trying every pair."""

import numpy as np
import pytest

from training.costs import Costs, cost_curve, solve
from training.errors import InvalidMetricInput
from training.ranking import FloatArray

RNG = np.random.default_rng(6)
ROWS = 150
SCORES: FloatArray = RNG.beta(1, 4, ROWS).round(2)
IS_FRAUD = RNG.random(ROWS) < SCORES
AMOUNT = RNG.integers(100, 30_000, ROWS)
COSTS = Costs(insult_minor=2_000, review_minor=400, review_catch=0.8)


def cost_of(review_at: float, decline_at: float) -> tuple[float, int]:
    """Cost and reviews of a policy, row by row."""
    total, reviews = 0.0, 0
    for score, fraud, amount in zip(SCORES.tolist(), IS_FRAUD.tolist(), AMOUNT.tolist(), strict=True):
        loss = amount * COSTS.loss_share + COSTS.chargeback_minor if fraud else 0.0
        if score >= decline_at:
            total += 0.0 if fraud else amount * COSTS.margin_share + COSTS.insult_minor
        elif score >= review_at:
            reviews += 1
            total += COSTS.review_minor + loss * (1 - COSTS.review_catch)
        else:
            total += loss
    return total / ROWS, reviews


@pytest.mark.parametrize("budget", [0.0, 3.0, 8.0, 100.0])
def test_no_pair_of_thresholds_within_the_budget_costs_less(budget: float) -> None:
    found = solve(SCORES, IS_FRAUD, AMOUNT, days=2, costs=COSTS, reviews_a_day=budget)
    cost, reviews = cost_of(found.policy.review_at, found.policy.decline_at)
    assert found.cost == pytest.approx(cost)
    assert found.reviews_a_day * 2 == pytest.approx(reviews)
    assert reviews <= 2 * budget
    levels = [*sorted(set(SCORES.tolist())), 1.0]
    pairs = [cost_of(low, high) for low in levels for high in levels if low <= high]
    assert found.cost == pytest.approx(min(cost for cost, reviews in pairs if reviews <= 2 * budget))


def test_more_reviewers_never_cost_more() -> None:
    costs = [solve(SCORES, IS_FRAUD, AMOUNT, days=2, costs=COSTS, reviews_a_day=n).cost for n in range(0, 40, 5)]
    assert (np.diff(costs) <= 1e-9).all()
    assert costs[-1] < costs[0]


def test_the_curve_ends_at_doing_nothing_and_is_what_declining_costs() -> None:
    curve = cost_curve(SCORES, IS_FRAUD, AMOUNT, costs=COSTS)
    assert curve.declining[-1] == pytest.approx(curve.doing_nothing)
    for at in (3, 30, 50):
        threshold = float(curve.thresholds[at])
        assert curve.declining[at] == pytest.approx(cost_of(threshold, threshold)[0])


def test_a_weight_of_two_is_two_rows() -> None:
    once = solve(SCORES, IS_FRAUD, AMOUNT, days=1, costs=COSTS, reviews_a_day=10)
    twice = solve(SCORES, IS_FRAUD, AMOUNT, days=1, costs=COSTS, reviews_a_day=20, weights=np.full(ROWS, 2.0))
    assert twice.policy == once.policy
    assert twice.reviews_a_day == 2 * once.reviews_a_day


@pytest.mark.parametrize(("name", "value"), [("loss_share", 1.2), ("review_catch", -0.1), ("insult_minor", -1)])
def test_a_price_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(InvalidMetricInput, match=f"{name} {value}"):
        Costs(**{name: value})  # type: ignore[arg-type]


def test_a_budget_or_span_that_is_none_is_refused() -> None:
    for days, budget in ((0, 1.0), (1, -1.0)):
        with pytest.raises(InvalidMetricInput, match="at least 1 and at least 0"):
            solve(SCORES, IS_FRAUD, AMOUNT, days=days, costs=COSTS, reviews_a_day=budget)
    with pytest.raises(InvalidMetricInput, match="no probabilities"):
        solve(SCORES * 2, IS_FRAUD, AMOUNT, days=1, costs=COSTS, reviews_a_day=1)
