"""Make logged decisions again: bit for bit by the bundle that made them, or under other thresholds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from fraud.bundle import ModelBundle
from fraud.errors import TollgateError
from fraud.features import FEATURE_NAMES
from fraud.policy import Outcome, Override, Policy
from fraud.tiers import FULL
from fraud.velocity import FloatArray
from serving.decisions import FEATURES_DIGEST, SUFFIX, LoggedDecision

_decoder: Final = msgspec.json.Decoder(LoggedDecision)
_OVERRIDDEN: Final[dict[Override, Outcome]] = {
    "allow_list": "approve",
    "block_list": "decline",
    "decline_cap": "review",
}
_LISTS: Final = ("allow_list", "block_list")
_PLACES: Final = {name: index for index, name in enumerate(FEATURE_NAMES)}


class UnreadableLog(TollgateError):
    """There is no decision log in that directory, or not the decision asked for."""

    code = "unreadable_log"


@dataclass
class Rescored:
    """What came of making decisions again.

    Parameters
    ----------
    compared
        Decisions made again.
    other_model
        Decisions of a bundle that was not given.
    unreadable
        Lines that hold no decision.
    differences
        Ids of decisions whose score, or outcome under its own policy, came out differently, or whose override does not
        agree with that policy; the first thousand.
    different
        How many those are.
    outcomes
        Logged outcome and outcome now, such as ``approve > review``, with how many; what a list decided stays.
    """

    compared: int = 0
    other_model: int = 0
    unreadable: int = 0
    different: int = 0
    differences: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)


def read_log(directory: Path) -> Iterator[LoggedDecision | None]:
    """Yield every decision logged in ``directory``, in the order of its files; null for a line that holds none.

    Raises
    ------
    UnreadableLog
        There is no log.
    """
    files = sorted(directory.glob(f"*{SUFFIX}"))
    if not files:
        raise UnreadableLog(f"no decision log in {directory}: it holds no *{SUFFIX} file")
    for file in files:
        with file.open("rb") as lines:
            for line in lines:
                try:
                    yield _decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    yield None


def rescore(
    directory: Path, bundles: Mapping[str, ModelBundle], *, policy: Policy | None = None, decision_id: str = ""
) -> Rescored:
    """Make the decisions in a log again.

    Parameters
    ----------
    bundles
        By version.
    policy
        Other thresholds: scores must still be equal, outcomes are counted.
    decision_id
        This one only; empty for all.

    Raises
    ------
    UnreadableLog
        There is no log, or not that decision in it.
    """
    found = Rescored()
    for logged in read_log(directory):
        if logged is None:
            found.unreadable += 1
            continue
        if decision_id and logged.decision_id != decision_id:
            continue
        bundle = bundles.get(logged.model_version)
        if bundle is None or logged.features != FEATURES_DIGEST:
            found.other_model += 1
            continue
        _compare(logged, bundle, policy, found)
    if decision_id and not found.compared + found.other_model:
        raise UnreadableLog(f"no decision {decision_id!r} in {directory}")
    return found


def _compare(logged: LoggedDecision, bundle: ModelBundle, policy: Policy | None, found: Rescored) -> None:
    found.compared += 1
    vector = np.frombuffer(logged.vector, "<f8")
    if len(vector) != len(FEATURE_NAMES):
        found.unreadable += 1
        return
    score = _score(logged, bundle, vector)
    own = None if score is None else _outcome(logged, bundle.policy, score)
    said = logged.scored_outcome or logged.outcome
    if score is None or score != logged.score or own != said or not is_audited(logged, bundle.policy):
        found.different += 1
        if len(found.differences) < 1000:
            found.differences.append(logged.decision_id)
    now = logged.outcome
    if own is not None and score is not None and logged.override not in _LISTS:
        now = _outcome(logged, policy, score) if policy is not None else now if own == said else own
    change = f"{logged.outcome} > {now}"
    found.outcomes[change] = found.outcomes.get(change, 0) + 1


def _score(logged: LoggedDecision, bundle: ModelBundle, vector: FloatArray) -> float | None:
    """Return the score of the tier that scored it; null when the bundle has no such tier."""
    model = bundle if logged.tier == FULL else bundle.fallbacks.get(logged.tier)
    if model is None:
        return None
    return model.score(vector[[_PLACES[name] for name in model.features]])


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
