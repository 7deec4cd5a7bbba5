"""The figures of a candidate's report: ranking with intervals, calibration, cards found a day, what declining costs."""

from dataclasses import asdict
from typing import Any, Final

import numpy as np

from retraining.held_out import HeldOut
from training.costs import CostCurve, Costs, cost_curve
from training.intervals import day_block_intervals
from training.metrics import card_precision_by_day
from training.ranking import DAY_MS, FloatArray, rank
from training.reliability import reliability

RESAMPLES: Final = 200
RECALLS: Final = (0.3, 0.5, 0.7)
COSTS: Final = Costs()
"""The product's example prices; a shop's own are those of ``python -m training evaluate``."""


def both_classes(held: HeldOut) -> bool:
    """Return whether there are frauds and others."""
    return 0 < int(held.is_fraud.sum()) < len(held.is_fraud)


def metrics_of(held: HeldOut, seed: int, *, alone: bool) -> dict[str, dict[str, Any]]:
    """Return each figure of candidate and champion with its interval; nothing where there is one class only."""
    if not both_classes(held):
        return {}
    day = held.event_time_ms // DAY_MS
    found: dict[str, dict[str, Any]] = {}
    for side, scores in (("candidate", held.challenger), ("champion", held.champion)):
        ranking = rank(scores, held.is_fraud, day=day, amount_minor=held.amount_minor, weights=held.weights)

        def figures(weights: FloatArray, ranking: Any = ranking) -> FloatArray:
            curve = ranking.curve(weights)
            alarms = [curve.false_positives_at_recall(recall) for recall in RECALLS]
            return np.stack([curve.average_precision(), curve.roc_auc(), curve.recall_at_fpr(0.005), *alarms])

        names = ["PR-AUC", "ROC-AUC", "recall at 0.5% false positives"]
        names += [f"false positives at {recall:.0%} recall" for recall in RECALLS]
        intervals = day_block_intervals(figures, len(ranking.days), resamples=RESAMPLES, seed=seed)
        found[side] = {name: asdict(one) for name, one in zip(names, intervals, strict=True)}
        if alone:
            break
    return found


def segments_of(held: HeldOut) -> list[dict[str, Any]]:
    """Return the catch of each segment at both models' own threshold for half of the frauds."""
    if not both_classes(held):
        return []
    alert = {}
    for side, scores in (("candidate", held.challenger), ("champion", held.champion)):
        ranking = rank(scores, held.is_fraud, weights=held.weights)
        alert[side] = scores >= ranking.thresholds[int(ranking.curve().threshold_at_recall(0.5)[0])]
    found = []
    for name, inside in held.parts.items():
        fraud = inside & held.is_fraud
        recall = {side: float(flags[fraud].mean()) if fraud.any() else None for side, flags in alert.items()}
        alarms = {side: int((flags & inside & ~held.is_fraud).sum()) for side, flags in alert.items()}
        found.append({"segment": name, "rows": int(inside.sum()), "frauds": int(fraud.sum()), "recall": recall,
                      "false_positives": alarms})  # fmt: skip
    return found


def work_of(held: HeldOut, review_share: float, *, alone: bool) -> dict[str, dict[str, Any]]:
    """Return, for candidate and champion, calibration error, precision of the cards reviewed, and costs.

    Parameters
    ----------
    review_share
        Share of the payments that people can look at: a mean day's make the ``k`` of the card precision.
    """
    if not both_classes(held):
        return {}
    day = held.event_time_ms // DAY_MS
    k = max(1, round(review_share * len(day) / len(np.unique(day))))
    found: dict[str, dict[str, Any]] = {}
    for side, scores in _sides(held, alone=alone).items():
        seen = reliability(scores, held.is_fraud, weights=held.weights)
        cards = None
        if held.card is not None:
            cards = float(card_precision_by_day(scores, held.is_fraud, held.card, day, k=k).mean())
        found[side] = {"expected_calibration_error": seen.expected_error, "expected_over_seen": seen.ratio,
                       "reviews_a_day": k, "card_precision": cards, **_costs(held, side)}  # fmt: skip
    return found


def costs_of(held: HeldOut, scores: FloatArray) -> CostCurve | None:
    """Return what declining from each threshold on would have cost; null where no amount is known."""
    if held.amount_minor is None:
        return None
    return cost_curve(scores, held.is_fraud, held.amount_minor, costs=COSTS, weights=held.weights)


def _costs(held: HeldOut, side: str) -> dict[str, Any]:
    curve = costs_of(held, held.challenger if side == "candidate" else held.champion)
    if curve is None:
        return {}
    own = None
    if held.thresholds is not None:
        decline_at = (held.thresholds.challenger if side == "candidate" else held.thresholds.champion)[1]
        own = float(np.interp(decline_at, curve.thresholds, curve.declining))
    return {"cost_of_approving_all": curve.doing_nothing, "cost_at_own_decline_threshold": own,
            "least_cost": float(curve.declining.min()),
            "least_cost_threshold": float(curve.thresholds[int(curve.declining.argmin())])}  # fmt: skip


def _sides(held: HeldOut, *, alone: bool) -> dict[str, FloatArray]:
    return {"candidate": held.challenger} | ({} if alone else {"champion": held.champion})
