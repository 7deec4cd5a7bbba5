"""From a packed challenger and a training set to the rows that both models are judged on, and the gate's verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.bundle import ModelBundle
from fraud.errors import CorruptBundle
from fraud.trees import predict_margin
from retraining.errors import IncomparableChampion
from retraining.gate import judge
from retraining.held_out import HeldOut, Thresholds
from retraining.label_facts import LabelFacts, labels_mature
from retraining.limits import GateLimits
from retraining.measuring import measure
from retraining.monotone import monotone_checked
from retraining.parts import parts_of
from retraining.registry import ModelRegistry
from retraining.verdict import Check, Verdict, not_asked
from training.challenger import TrainingPlan
from training.dataset import TrainingSet


def champion_scores(champion: ModelBundle, rows: TrainingSet, taken: slice | npt.NDArray[np.int64]) -> Any:
    """Return the champion's scores of some rows, by the scorer's own runtime, shape ``(n,)``.

    Raises
    ------
    IncomparableChampion
        It takes a feature that the rows do not have.
    """
    lost = [name for name in champion.features if name not in rows.features]
    if lost:
        raise IncomparableChampion(
            f"champion {champion.version} takes {lost[0]!r} and {len(lost) - 1} more features that the training set "
            "does not have: promote a challenger by hand with rollback --to"
        )
    matrix = rows.matrix[taken][:, rows.columns(champion.features)].astype(np.float64)
    return np.array([champion.calibration.score(predict_margin(champion.forest, row)) for row in matrix])


@dataclass(frozen=True)
class Packed:
    """A challenger's bundle, and its scores of the held-out days."""

    files: Mapping[str, bytes]
    scores: npt.NDArray[np.float64]


def judge_packed(
    registry: ModelRegistry,
    packed: Packed,
    rows: TrainingSet,
    days: slice,
    facts: LabelFacts | None,
    limits: GateLimits,
    plan: TrainingPlan,
) -> tuple[HeldOut, Verdict]:
    """Return what was judged and the gate's verdict, with whether the champion could be asked at all."""
    taken = _judged_rows(rows, days, facts)
    scores = packed.scores[taken - days.start]
    measured = measure(registry, packed.files, rows.matrix[taken])
    # Without a champion the challenger is held against itself: only the absolute checks can refuse it.
    against, against_at = scores, None
    answers = Check("champion_answers", passed=True, evidence="there is no champion yet")
    try:
        champion = registry.champion()
        if champion is not None:
            against, against_at = champion_scores(champion, rows, taken), _at(champion)
            answers = Check("champion_answers", passed=True, evidence=f"{champion.version} scored the same rows")
    except (CorruptBundle, IncomparableChampion) as error:
        said = f"{error} ({error.code}); the link stays, go back with: python -m retraining rollback"
        answers = Check("champion_answers", passed=False, evidence=said)
    bundle, fraud = measured.bundle, rows.is_fraud[taken]
    judged = HeldOut(
        against,
        scores,
        fraud,
        rows.event_time_ms[taken],
        rows.amount_minor[taken],
        parts_of(rows, taken),
        None if facts is None or facts.fraud_type is None else facts.fraud_type[taken],
        rows.card[taken],
        None if bundle is None else Thresholds(against_at or _at(bundle), _at(bundle), plan.review_share,
                                               plan.insult_share),
        None if rows.weights is None else rows.weights[taken],
        0 if facts is None else int((~facts.unblocked[days]).sum()),
    )  # fmt: skip
    verdict = judge(judged, measured.packed, limits=limits, seed=plan.seed)
    wanted = tuple(name for name in plan.recipe.increasing if name in rows.features)
    monotone = (
        not_asked("keeps_monotone", "the bundle does not open")
        if bundle is None
        else monotone_checked(bundle, rows.matrix[taken][:, rows.columns(bundle.features)], fraud, wanted)
    )
    mature = (
        not_asked("labels_mature", "no statements were given") if facts is None else labels_mature(facts, plan, limits)
    )
    return judged, Verdict((*verdict.checks, monotone, mature, answers))


def _judged_rows(rows: TrainingSet, days: slice, facts: LabelFacts | None) -> npt.NDArray[np.int64]:
    """Return the held-out rows that say something: their card was not blocked, and they were let through."""
    taken = np.arange(days.start, days.stop)
    if facts is not None:
        taken = taken[facts.unblocked[taken]]
    return taken if rows.weights is None else taken[rows.weights[taken] > 0.0]


def _at(bundle: ModelBundle) -> tuple[float, float]:
    return bundle.policy.review_at, bundle.policy.decline_at
