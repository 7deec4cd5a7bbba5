"""From score to outcome: pure, and monotone in the score.

What a policy says of one transaction depends on its score, its tier and its segment, and on nothing that happened
before. What does depend on it, lists, the cap on declines and the control group, is declared here too and applied by
the scorer afterwards, under a name of its own that stands in the decision.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from fraud.control_group import ControlGroup
from fraud.decline_cap import DeclineCap
from fraud.errors import InvalidPolicy
from fraud.tiers import FULL, TIERS, Tier
from fraud.transaction import CHANNELS, Channel, Transaction

Outcome = Literal["approve", "review", "decline"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("approve", "review", "decline")
Override = Literal["", "allow_list", "block_list", "decline_cap", "control_group"]
"""What changed an outcome after the policy; empty for nothing."""


def _check_thresholds(review_at: float, decline_at: float, of: str = "") -> None:
    in_order = 0.0 < review_at <= decline_at <= 1.0
    if not (math.isfinite(review_at) and math.isfinite(decline_at) and in_order):
        raise InvalidPolicy(
            f"{of}thresholds review_at={review_at}, decline_at={decline_at} are not 0 < review_at <= decline_at <= 1"
        )


@dataclass(frozen=True)
class TierPolicy:
    """Thresholds on the score of one tier, chosen for the same budgets as those of the full one.

    Parameters
    ----------
    review_at, decline_at
        As in :class:`Policy`.
    becomes
        Outcomes that are too much, or too little, for what is known in this tier: ``{"decline": "review"}`` fails open
        to people, ``{"approve": "review"}`` fails closed. Never turns a harsher outcome into a milder one than a milder
        outcome becomes.

    Raises
    ------
    InvalidPolicy
        Thresholds out of range or order, or a map that is not monotone.
    """

    review_at: float
    decline_at: float
    becomes: dict[Outcome, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_thresholds(self.review_at, self.decline_at)
        for outcome in (*self.becomes, *self.becomes.values()):
            if outcome not in OUTCOMES:
                raise InvalidPolicy(f"becomes names {outcome!r}, which is none of {', '.join(OUTCOMES)}")
        severities = [OUTCOMES.index(self.becomes.get(outcome, outcome)) for outcome in OUTCOMES]
        if severities != sorted(severities):
            raise InvalidPolicy(f"becomes={self.becomes} makes a higher score milder")


@dataclass(frozen=True)
class Segment:
    """Other thresholds for some transactions; an empty condition holds for all.

    Parameters
    ----------
    name
        Stands in the decision.
    review_at, decline_at
        As in :class:`Policy`.
    channels, merchant_categories, countries
        Any of them.
    amount_from, amount_below
        In minor units, ``amount_from <= amount < amount_below``; null for no bound.
    tiers
        In which it holds: a score of another tier has thresholds of its own.

    Raises
    ------
    InvalidPolicy
        Thresholds out of range or order, an unknown channel or tier, an empty band of amounts, or no name.
    """

    name: str
    review_at: float
    decline_at: float
    channels: tuple[Channel, ...] = ()
    merchant_categories: tuple[int, ...] = ()
    countries: tuple[str, ...] = ()
    amount_from: int | None = None
    amount_below: int | None = None
    tiers: tuple[Tier, ...] = (FULL,)

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidPolicy("a segment has no name")
        _check_thresholds(self.review_at, self.decline_at, f"segment {self.name!r}: ")
        for known, named in ((CHANNELS, self.channels), (TIERS, self.tiers)):
            for value in named:
                if value not in known:
                    raise InvalidPolicy(f"segment {self.name!r}: {value!r} is none of {', '.join(known)}")
        low, high = self.amount_from, self.amount_below
        if low is not None and high is not None and low >= high:
            raise InvalidPolicy(f"segment {self.name!r}: no amount is from {low} to below {high}")

    def holds(self, transaction: Transaction, tier: Tier) -> bool:
        """Return whether a transaction scored in ``tier`` belongs to the segment."""
        amount = transaction.amount_minor
        return (
            tier in self.tiers
            and (not self.channels or transaction.channel in self.channels)
            and (not self.merchant_categories or transaction.merchant_category in self.merchant_categories)
            and (not self.countries or transaction.country in self.countries)
            and (self.amount_from is None or amount >= self.amount_from)
            and (self.amount_below is None or amount < self.amount_below)
        )


@dataclass(frozen=True)
class Policy:
    """Thresholds on the calibrated score, and what may override them.

    Parameters
    ----------
    version
        Stands in every decision.
    review_at, decline_at
        Smallest score that is reviewed, declined; ``0 < review_at <= decline_at <= 1``.
    missing_outcome
        The least severe outcome allowed when anything could not be read: ``approve`` fails open, ``review`` sends
        to people what was scored half blind.
    tiers
        Thresholds of the tiers below the full one; a tier without any uses those above.
    segments
        Thresholds for some transactions; the first that holds counts.
    decline_cap
        When declines are too many to be believed.
    control_group
        Which would-be declines are let through to learn from.

    Raises
    ------
    InvalidPolicy
        Thresholds out of range or order, or two segments of one name.

    Examples
    --------
    >>> policy = Policy("p1", review_at=0.2, decline_at=0.6)
    >>> policy.outcome(0.1), policy.outcome(0.2), policy.outcome(0.6)
    ('approve', 'review', 'decline')
    """

    version: str
    review_at: float
    decline_at: float
    missing_outcome: Outcome = "approve"
    tiers: Mapping[Tier, TierPolicy] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()
    decline_cap: DeclineCap = field(default_factory=DeclineCap)
    control_group: ControlGroup = field(default_factory=ControlGroup)

    def __post_init__(self) -> None:
        _check_thresholds(self.review_at, self.decline_at)
        if self.missing_outcome not in OUTCOMES:
            raise InvalidPolicy(f"missing_outcome {self.missing_outcome!r} is none of {', '.join(OUTCOMES)}")
        for tier in self.tiers:
            if tier not in TIERS or tier == FULL:
                raise InvalidPolicy(f"tiers names {tier!r}, which is none of {', '.join(TIERS[1:])}")
        names = [segment.name for segment in self.segments]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidPolicy(f"two segments are named {twice!r}")

    def segment(self, transaction: Transaction, tier: Tier = FULL) -> Segment | None:
        """Return the segment of a transaction scored in ``tier``; null when it is in none."""
        for segment in self.segments:
            if segment.holds(transaction, tier):
                return segment
        return None

    def outcome(
        self, score: float, *, degraded: bool = False, tier: Tier = FULL, segment: Segment | None = None
    ) -> Outcome:
        """Return the outcome of a score in [0, 1].

        Parameters
        ----------
        degraded
            Whether anything could not be read.
        tier
            Whose score it is.
        segment
            Of the transaction, from :meth:`segment`.
        """
        own = None if tier == FULL else self.tiers.get(tier)
        reached = self.by_score(score, tier=tier, segment=segment)
        if own is not None:
            reached = own.becomes.get(reached, reached)
        if degraded and OUTCOMES.index(reached) < OUTCOMES.index(self.missing_outcome):
            return self.missing_outcome
        return reached

    def by_score(self, score: float, *, tier: Tier = FULL, segment: Segment | None = None) -> Outcome:
        """Return what the thresholds alone say, whatever is missing: before the policy fails open or closed."""
        own = None if tier == FULL else self.tiers.get(tier)
        at: Policy | TierPolicy | Segment = segment or own or self
        if score >= at.decline_at:
            return "decline"
        return "review" if score >= at.review_at else "approve"


@dataclass(frozen=True)
class Reason:
    """A stable short why: a code, one sentence with the values, and its share of the log-odds before calibration.

    A reason of the policy's own, such as a list, weighs nothing.
    """

    code: str
    text: str
    weight: float


@dataclass(frozen=True)
class Decision:
    """What the scorer answers.

    Parameters
    ----------
    decision_id
        Names the decision in the log.
    transaction_id
        Of the transaction it answers.
    outcome, score
        What to do; calibrated probability of fraud in [0, 1].
    reasons
        The policy's own first, when it overrode the score or failed open or closed; then the score's, heaviest first,
        which an approved transaction has only when asked for.
    model_version, policy_version
        Digest of the bundle; version of its policy.
    missing, stale
        Feature views that could not be read, or were older than allowed.
    tier
        Whose model scored it.
    segment
        Whose thresholds it was held to; empty for the tier's own.
    scored_outcome
        What the policy alone said; ``outcome`` unless something overrode it.
    override
        What did; empty for nothing.
    propensity
        Probability with which this transaction was to get this outcome: 1 but where the control group was drawn from.
    """

    decision_id: str
    transaction_id: str
    outcome: Outcome
    score: float
    reasons: tuple[Reason, ...]
    model_version: str
    policy_version: str
    missing: tuple[str, ...]
    stale: tuple[str, ...] = ()
    tier: Tier = FULL
    segment: str = ""
    scored_outcome: Outcome | None = None
    override: Override = ""
    propensity: float = 1.0
