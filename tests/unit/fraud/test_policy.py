"""Outcomes are monotone in the score, and a policy out of order does not exist."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.errors import InvalidPolicy
from fraud.policy import OUTCOMES, Outcome, Policy

shares = st.floats(0, 1)
policies = (
    st.tuples(st.floats(0, 1, exclude_min=True), st.floats(0, 1, exclude_min=True), st.sampled_from(OUTCOMES))
).map(lambda drawn: Policy("p", min(drawn[:2]), max(drawn[:2]), drawn[2]))


@given(policies, shares, shares, st.booleans())
def test_higher_score_never_has_a_milder_outcome(policy: Policy, one: float, other: float, degraded: bool) -> None:
    low, high = sorted((one, other))
    milder, harsher = policy.outcome(low, degraded=degraded), policy.outcome(high, degraded=degraded)
    assert OUTCOMES.index(milder) <= OUTCOMES.index(harsher)


@given(policies)
def test_thresholds_belong_to_the_harsher_outcome(policy: Policy) -> None:
    below = math.nextafter(policy.review_at, 0.0)
    assert policy.outcome(policy.decline_at) == "decline"
    assert policy.outcome(below) == "approve"
    if policy.review_at < policy.decline_at:
        assert policy.outcome(policy.review_at) == "review"
        assert policy.outcome(math.nextafter(policy.decline_at, 0.0)) == "review"


@given(policies, shares)
def test_missing_velocity_only_ever_makes_an_outcome_harsher(policy: Policy, score: float) -> None:
    seen, blind = policy.outcome(score), policy.outcome(score, degraded=True)
    assert OUTCOMES.index(blind) == max(OUTCOMES.index(seen), OUTCOMES.index(policy.missing_outcome))


@pytest.mark.parametrize(
    ("missing", "score", "outcome"),
    [
        ("approve", 0.1, "approve"),
        ("approve", 0.3, "review"),
        ("review", 0.1, "review"),
        ("review", 0.7, "decline"),
        ("decline", 0.1, "decline"),
    ],
)
def test_missing_outcome_is_a_floor(missing: Outcome, score: float, outcome: Outcome) -> None:
    policy = Policy("p", 0.2, 0.6, missing)
    assert policy.outcome(score, degraded=True) == outcome


def test_equal_thresholds_send_nothing_to_review() -> None:
    policy = Policy("p", 0.5, 0.5)
    assert [policy.outcome(score / 10) for score in range(11)] == ["approve"] * 5 + ["decline"] * 6


@pytest.mark.parametrize(
    ("review_at", "decline_at"),
    [
        (0.0, 0.5),
        (-0.1, 0.5),
        (0.6, 0.5),
        (0.5, 1.1),
        (math.nan, 0.5),
        (0.5, math.nan),
        (0.5, math.inf),
        (-math.inf, 0.5),
    ],
)
def test_thresholds_out_of_order_or_range_are_refused_by_value(review_at: float, decline_at: float) -> None:
    with pytest.raises(InvalidPolicy, match=rf"review_at={review_at}, decline_at={decline_at} are not 0 < "):
        Policy("p", review_at, decline_at)


def test_unknown_missing_outcome_is_refused() -> None:
    with pytest.raises(InvalidPolicy, match="'block' is none of approve, review, decline"):
        Policy("p", 0.2, 0.6, "block")  # type: ignore[arg-type]
