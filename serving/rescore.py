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
from fraud.policy import Policy
from serving.decisions import FEATURES_DIGEST, SUFFIX, LoggedDecision

_decoder: Final = msgspec.json.Decoder(LoggedDecision)
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
        Ids of decisions whose score, or outcome under its own policy, came out differently; the first thousand.
    different
        How many those are.
    outcomes
        Logged outcome and outcome now, such as ``approve > review``, with how many.
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
    score = bundle.score(vector[[_PLACES[name] for name in bundle.features]])
    degraded = bool(logged.missing)
    own = bundle.policy.outcome(score, degraded=degraded)
    if score != logged.score or own != logged.outcome:
        found.different += 1
        if len(found.differences) < 1000:
            found.differences.append(logged.decision_id)
    now = own if policy is None else policy.outcome(score, degraded=degraded)
    change = f"{logged.outcome} > {now}"
    found.outcomes[change] = found.outcomes.get(change, 0) + 1
