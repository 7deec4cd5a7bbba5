"""What the scorer answers, as JSON."""

from typing import Literal

import msgspec

from fraud.policy import Decision, Outcome, Override, Reason
from fraud.tiers import FULL, Tier


class Answer(msgspec.Struct, frozen=True):
    """A decision as its caller sees it.

    Parameters
    ----------
    degraded
        Whether any feature view could not be read.
    missing, stale
        Feature views that could not be read; that were older than allowed.
    tier
        Whose model scored it: ``full``, or one fitted to what was missing.
    segment
        Whose thresholds it was held to; empty for the tier's own.
    override
        What changed the outcome after the policy; empty for nothing.
    """

    decision_id: str
    transaction_id: str
    outcome: Outcome
    score: float
    reasons: tuple[Reason, ...]
    model_version: str
    policy_version: str
    degraded: bool
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    tier: Tier = FULL
    segment: str = ""
    override: Override = ""


class Fault(msgspec.Struct, frozen=True):
    """What was wrong: a stable code, the field at fault, and the reason for people."""

    code: str
    field: str
    reason: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The body of every answer that is no decision."""

    error: Fault


class BatchAnswer(msgspec.Struct, frozen=True):
    """One result per row of a batch, in order: a decision, or the error of that row alone."""

    results: tuple[Answer | ErrorAnswer, ...]


class Pong(msgspec.Struct, frozen=True):
    """What ``/ping`` says: whether requests may come, and which model would decide them."""

    status: Literal["ready", "draining"]
    model_version: str


_encoder = msgspec.json.Encoder()


def answer_of(decision: Decision) -> Answer:
    """Return the answer that tells a decision."""
    return Answer(
        decision.decision_id,
        decision.transaction_id,
        decision.outcome,
        decision.score,
        decision.reasons,
        decision.model_version,
        decision.policy_version,
        bool(decision.missing),
        decision.missing,
        decision.stale,
        decision.tier,
        decision.segment,
        decision.override,
    )


def error_of(code: str, field: str, reason: str) -> ErrorAnswer:
    """Return the answer that tells an error."""
    return ErrorAnswer(Fault(code, field, reason))


def encode(answer: object) -> bytes:
    """Return the JSON of an answer."""
    return _encoder.encode(answer)
