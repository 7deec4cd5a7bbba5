"""Outcomes are monotone in the score, and a policy out of order does not exist."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.errors import InvalidPolicy
from fraud.policy import OUTCOMES, Outcome, Policy, Segment, TierPolicy
from fraud.tiers import FALLBACKS, TIERS, Tier
from fraud.transaction import CHANNELS, Transaction
from tests.support.scorers import payment

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


bands = st.tuples(st.floats(0, 1, exclude_min=True), st.floats(0, 1, exclude_min=True)).map(sorted)
becomes = st.sampled_from(
    [{}, {"decline": "review"}, {"approve": "review"}, {"review": "approve"}, {"review": "decline"}]
)
tier_policies = st.builds(lambda band, chosen: TierPolicy(band[0], band[1], chosen), bands, becomes)
payments = st.builds(
    payment,
    channel=st.sampled_from(CHANNELS),
    merchant_category=st.sampled_from([5411, 5999, 7995]),
    country=st.sampled_from(["DE", "FR", "US"]),
    amount_minor=st.integers(1, 5000),
)


@st.composite
def segments(draw: st.DrawFn) -> tuple[Segment, ...]:
    found = []
    for number in range(draw(st.integers(0, 4))):
        low, high = draw(bands)
        start = draw(st.none() | st.integers(1, 4000))
        found.append(
            Segment(
                f"s{number}",
                low,
                high,
                channels=tuple(draw(st.sets(st.sampled_from(CHANNELS)))),
                merchant_categories=tuple(draw(st.sets(st.sampled_from([5411, 5999, 7995])))),
                countries=tuple(draw(st.sets(st.sampled_from(["DE", "FR", "US"])))),
                amount_from=start,
                amount_below=draw(st.none() | st.integers(4001, 6000)),
                tiers=tuple(draw(st.sets(st.sampled_from(TIERS), min_size=1))),
            )
        )
    return tuple(found)


@given(policies, segments(), st.dictionaries(st.sampled_from(FALLBACKS), tier_policies), payments, st.data())
def test_within_a_tier_and_a_segment_a_higher_score_never_has_a_milder_outcome(
    plain: Policy,
    held: tuple[Segment, ...],
    tiers: dict[Tier, TierPolicy],
    transaction: Transaction,
    data: st.DataObject,
) -> None:
    policy = Policy("p", plain.review_at, plain.decline_at, plain.missing_outcome, tiers, held)
    tier, degraded = data.draw(st.sampled_from(TIERS)), data.draw(st.booleans())
    low, high = sorted(data.draw(st.lists(shares, min_size=2, max_size=2)))
    segment = policy.segment(transaction, tier)
    assert segment == policy.segment(transaction, tier)
    found = [policy.outcome(score, degraded=degraded, tier=tier, segment=segment) for score in (low, high)]
    assert OUTCOMES.index(found[0]) <= OUTCOMES.index(found[1])


@given(policies, segments(), payments, st.sampled_from(TIERS))
def test_the_first_segment_that_holds_counts_and_no_other(
    plain: Policy, held: tuple[Segment, ...], transaction: Transaction, tier: Tier
) -> None:
    policy = Policy("p", plain.review_at, plain.decline_at, segments=held)
    first = next((segment for segment in held if segment.holds(transaction, tier)), None)
    assert policy.segment(transaction, tier) is first


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        ({}, True),
        ({"channels": ("online",)}, True),
        ({"channels": ("pos", "moto")}, False),
        ({"merchant_categories": (5411,)}, True),
        ({"merchant_categories": (7995,)}, False),
        ({"countries": ("FR", "DE")}, True),
        ({"countries": ("FR",)}, False),
        ({"amount_from": 1037}, True),
        ({"amount_from": 1038}, False),
        ({"amount_below": 1038}, True),
        ({"amount_below": 1037}, False),
        ({"tiers": ("request_only",)}, False),
        ({"channels": ("online",), "countries": ("FR",)}, False),
    ],
)
def test_a_segment_holds_when_every_condition_does(conditions: dict[str, tuple[str, ...]], holds: bool) -> None:
    assert Segment("s", 0.1, 0.2, **conditions).holds(payment(1), "full") == holds  # type: ignore[arg-type]


def test_a_segments_thresholds_replace_those_of_its_tier() -> None:
    policy = Policy(
        "p",
        0.5,
        0.9,
        tiers={"partial": TierPolicy(0.6, 0.95)},
        segments=(Segment("risky", 0.1, 0.2, merchant_categories=(7995,), tiers=("full", "partial")),),
    )
    for tier in ("full", "partial"):
        segment = policy.segment(payment(1, merchant_category=7995), tier)
        assert policy.outcome(0.3, tier=tier, segment=segment) == "decline"
        assert policy.outcome(0.3, tier=tier, segment=policy.segment(payment(1), tier)) == "approve"


@pytest.mark.parametrize(
    ("becomes", "outcomes"),
    [
        ({}, ("approve", "review", "decline")),
        ({"decline": "review"}, ("approve", "review", "review")),
        ({"approve": "review"}, ("review", "review", "decline")),
        ({"approve": "review", "decline": "review"}, ("review", "review", "review")),
        ({"review": "approve", "decline": "approve"}, ("approve", "approve", "approve")),
    ],
)
def test_a_tier_fails_open_or_closed_by_outcome_as_its_policy_says(
    becomes: dict[Outcome, Outcome], outcomes: tuple[Outcome, ...]
) -> None:
    policy = Policy("p", 0.5, 0.9, tiers={"request_only": TierPolicy(0.2, 0.6, becomes)})
    assert tuple(policy.outcome(score, tier="request_only") for score in (0.1, 0.3, 0.7)) == outcomes
    assert policy.outcome(0.7) == policy.outcome(0.7, tier="partial") == "review"


@pytest.mark.parametrize(
    "becomes", [{"approve": "decline"}, {"decline": "approve"}, {"review": "block"}, {"x": "approve"}]
)
def test_a_map_that_makes_a_higher_score_milder_is_refused(becomes: dict[Outcome, Outcome]) -> None:
    with pytest.raises(InvalidPolicy, match="becomes"):
        TierPolicy(0.2, 0.6, becomes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": ""}, "no name"),
        ({"review_at": 0.3, "decline_at": 0.2}, "segment 's': thresholds"),
        ({"channels": ("fax",)}, "'fax' is none of pos"),
        ({"tiers": ("best",)}, "'best' is none of full"),
        ({"amount_from": 5, "amount_below": 5}, "no amount is from 5 to below 5"),
    ],
)
def test_a_segment_that_makes_no_sense_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidPolicy, match=said):
        Segment(**({"name": "s", "review_at": 0.1, "decline_at": 0.2} | changes))  # type: ignore[arg-type]


def test_two_segments_of_one_name_and_a_tier_that_is_none_are_refused() -> None:
    with pytest.raises(InvalidPolicy, match="two segments are named 's'"):
        Policy("p", 0.2, 0.6, segments=(Segment("s", 0.1, 0.2), Segment("s", 0.3, 0.4)))
    with pytest.raises(InvalidPolicy, match="tiers names 'full'"):
        Policy("p", 0.2, 0.6, tiers={"full": TierPolicy(0.1, 0.2)})
