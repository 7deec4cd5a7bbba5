"""From score to outcome: pure, and monotone in the score."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from fraud.errors import InvalidPolicy

Outcome = Literal["approve", "review", "decline"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("approve", "review", "decline")


@dataclass(frozen=True)
class Policy:
    """Thresholds on the calibrated score.

    Parameters
    ----------
    version
        Stands in every decision.
    review_at, decline_at
        Smallest score that is reviewed, declined; ``0 < review_at <= decline_at <= 1``.
    missing_outcome
        The least severe outcome allowed when velocity is missing altogether: ``approve`` fails open, ``review`` sends
        to people what was scored half blind.

    Raises
    ------
    InvalidPolicy
        Thresholds out of range or order.

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

    def __post_init__(self) -> None:
        in_order = 0.0 < self.review_at <= self.decline_at <= 1.0
        if not (math.isfinite(self.review_at) and math.isfinite(self.decline_at) and in_order):
            raise InvalidPolicy(
                f"thresholds review_at={self.review_at}, decline_at={self.decline_at} are not "
                "0 < review_at <= decline_at <= 1"
            )
        if self.missing_outcome not in OUTCOMES:
            raise InvalidPolicy(f"missing_outcome {self.missing_outcome!r} is none of {', '.join(OUTCOMES)}")

    def outcome(self, score: float, *, degraded: bool = False) -> Outcome:
        """Return the outcome of a score in [0, 1]; ``degraded`` when velocity could not be read."""
        reached: Outcome = "approve"
        if score >= self.review_at:
            reached = "review"
        if score >= self.decline_at:
            reached = "decline"
        if degraded and OUTCOMES.index(reached) < OUTCOMES.index(self.missing_outcome):
            return self.missing_outcome
        return reached


@dataclass(frozen=True)
class Reason:
    """A stable short why: a code, one sentence with the values, and its share of the log-odds."""

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
        Heaviest first; empty for an approved transaction unless asked for.
    model_version, policy_version
        Digest of the bundle; version of its policy.
    missing, stale
        Feature views that could not be read, or were older than allowed.
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
