"""Make logged decisions again: bit for bit by the bundle that made them, or under another policy."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from fraud.bundle import ModelBundle
from fraud.features import FEATURE_NAMES
from fraud.policy import Outcome, Override, Policy, Reason
from fraud.tiers import FULL, Tier
from fraud.vector_names import names_digest
from fraud.velocity import FloatArray
from serving.decisions import LoggedDecision
from serving.log_reading import UnreadableLog

_OVERRIDDEN: Final[dict[Override, Outcome]] = {
    "allow_list": "approve",
    "block_list": "decline",
    "decline_cap": "review",
}
_LISTS: Final = ("allow_list", "block_list")


@dataclass(frozen=True)
class Remade:
    """One decision as it was logged, and as it comes out now.

    Parameters
    ----------
    decision_id, model_version, tier, outcome, override, reasons, score
        As logged.
    score_now
        The score again; null when the bundle has no such tier.
    outcome_now
        What was answered, or what would be under another policy.
    same
        Whether score and outcome come out as they were logged: the score bit for bit.
    """

    decision_id: str
    model_version: str
    tier: Tier
    outcome: Outcome
    override: Override
    reasons: tuple[Reason, ...]
    score: float
    score_now: float | None
    outcome_now: Outcome
    same: bool


@dataclass
class Rescored:
    """What came of making decisions again.

    Parameters
    ----------
    compared
        Decisions made again.
    other_model
        Decisions of a bundle that was not given, or of a vector whose names none of the bundles knows.
    unreadable
        Lines, rows and files that hold no decision.
    differences
        Ids of decisions whose score, or outcome under its own policy, came out differently, or whose override does not
        agree with that policy; the first thousand.
    different
        How many those are.
    outcomes
        Logged outcome and outcome now, such as ``approve > review``, with how many; what a list decided stays.
    decision
        The one that was asked for, when one was.
    """

    compared: int = 0
    other_model: int = 0
    unreadable: int = 0
    different: int = 0
    differences: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    decision: Remade | None = None


def rescore(
    log: Iterable[LoggedDecision | None],
    bundles: Mapping[str, ModelBundle],
    *,
    policies: Mapping[str, Policy] | None = None,
    decision_id: str = "",
) -> Rescored:
    """Make the decisions in a log again.

    Parameters
    ----------
    log
        From :func:`serving.log_reading.read_log`.
    bundles
        By version.
    policies
        Another policy for the decisions of each bundle: scores must still be equal, outcomes are counted.
    decision_id
        This one only; empty for all.

    Raises
    ------
    UnreadableLog
        That decision is not in the log.
    """
    found = Rescored()
    names = {version: _names(bundle) for version, bundle in bundles.items()}
    for logged in log:
        if logged is None:
            found.unreadable += 1
            continue
        if decision_id and logged.decision_id != decision_id:
            continue
        bundle = bundles.get(logged.model_version)
        places = None if bundle is None else names[bundle.version].get(logged.features)
        if bundle is None or places is None:
            found.other_model += 1
            continue
        remade = _compare(logged, bundle, places, (policies or {}).get(bundle.version), found)
        found.decision = remade if decision_id else None
    if decision_id and not found.compared + found.other_model:
        raise UnreadableLog(f"no decision {decision_id!r} in the log")
    return found


def _names(bundle: ModelBundle) -> dict[str, Mapping[str, int]]:
    """Return, by digest, the place of each name in a vector that this bundle's decisions may be logged with."""
    return {
        names_digest(names): {name: place for place, name in enumerate(names)}
        for names in (bundle.features, FEATURE_NAMES, bundle.vector)
    }


def _compare(
    logged: LoggedDecision, bundle: ModelBundle, places: Mapping[str, int], policy: Policy | None, found: Rescored
) -> Remade | None:
    found.compared += 1
    vector = np.frombuffer(logged.vector, "<f8")
    if len(vector) != len(places):
        found.unreadable += 1
        return None
    score = _score(logged, bundle, vector, places)
    own = None if score is None else _outcome(logged, bundle.policy, score)
    said = logged.scored_outcome or logged.outcome
    same = score is not None and score == logged.score and own == said and is_audited(logged, bundle.policy)
    if not same:
        found.different += 1
        if len(found.differences) < 1000:
            found.differences.append(logged.decision_id)
    now = logged.outcome
    if own is not None and score is not None and logged.override not in _LISTS:
        now = _outcome(logged, policy, score) if policy is not None else now if own == said else own
    change = f"{logged.outcome} > {now}"
    found.outcomes[change] = found.outcomes.get(change, 0) + 1
    return Remade(
        decision_id=logged.decision_id,
        model_version=logged.model_version,
        tier=logged.tier,
        outcome=logged.outcome,
        override=logged.override,
        reasons=logged.reasons,
        score=logged.score,
        score_now=score,
        outcome_now=now,
        same=same,
    )


def _score(logged: LoggedDecision, bundle: ModelBundle, vector: FloatArray, places: Mapping[str, int]) -> float | None:
    """Return the score of the tier that scored it; null when the bundle has no such tier."""
    model = bundle if logged.tier == FULL else bundle.fallbacks.get(logged.tier)
    if model is None or not all(name in places for name in model.features):
        return None
    return model.score(vector[[places[name] for name in model.features]])


def _outcome(logged: LoggedDecision, policy: Policy, score: float) -> Outcome:
    segment = policy.segment(logged.transaction, logged.tier)
    return policy.outcome(score, degraded=bool(logged.missing), tier=logged.tier, segment=segment)


def is_audited(logged: LoggedDecision, policy: Policy) -> bool:
    """Return whether override, outcome and propensity of a decision agree with the policy's control group."""
    group, said = policy.control_group, logged.scored_outcome or logged.outcome
    if logged.override == "control_group":
        drawn = group.lot(logged.transaction.transaction_id) < group.share
        return (said, logged.outcome, logged.propensity, drawn) == ("decline", "approve", group.share, True)
    if logged.propensity != 1.0:
        drawn = group.lot(logged.transaction.transaction_id) < group.share
        return (said, logged.outcome, logged.propensity, drawn) == ("decline", "decline", 1.0 - group.share, False)
    return logged.outcome == _OVERRIDDEN.get(logged.override, said)
