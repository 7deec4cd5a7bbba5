"""What a scored test set says about a model, each figure with its interval, and one model against another.

Thresholds are those that reach a recall on the very rows that are judged: fair for comparing models at equal catch.
What a threshold chosen earlier reaches is :func:`training.metrics.threshold_at_recall` on validation rows, applied.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import InvalidMetricInput
from training.intervals import Interval, day_block_intervals, false_positive_cut
from training.metrics import card_precision_by_day
from training.ranking import DAY_MS, BoolArray, FloatArray, IntArray, Ranking, rank, require_share, same_length

FPRS = (0.001, 0.005, 0.01)
"""False-positive rates at which recall is reported."""

PER_TARGET = 3
"""Figures reported for each recall target."""


@dataclass(frozen=True)
class RecallAtFpr:
    """The recall reached while at most the share ``fpr`` of legitimate rows is alerted."""

    fpr: float
    recall: Interval


@dataclass(frozen=True)
class AtRecall:
    """What catching the share ``recall`` of the frauds costs and saves.

    Parameters
    ----------
    recall
        Share of the frauds asked for.
    threshold
        Highest score that reaches it.
    false_positives
        Legitimate rows alerted.
    alert_rate
        Share of all rows alerted.
    value_detection_rate
        Share of the fraud amount alerted.
    """

    recall: float
    threshold: float
    false_positives: Interval
    alert_rate: Interval
    value_detection_rate: Interval


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model on one test set.

    Parameters
    ----------
    rows, frauds, days
        Size of the test set.
    pr_auc, roc_auc
        Ranking.
    recall_at_fpr
        One for each of :data:`FPRS`.
    at_recall
        One for each recall target, in the order asked for.
    k, card_precision
        Reviews a day, and the mean over days of the share of them that finds a compromised card.
    """

    rows: int
    frauds: int
    days: int
    pr_auc: Interval
    roc_auc: Interval
    recall_at_fpr: tuple[RecallAtFpr, ...]
    at_recall: tuple[AtRecall, ...]
    k: int
    card_precision: Interval

    def to_json(self) -> str:
        """Return the evaluation as indented JSON; a bound that cannot be had is null."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


@dataclass(frozen=True)
class FalsePositiveCut:
    """False positives of two models where both catch ``recall``, and the relative cut with its paired interval.

    ``cut`` is ``1 - ours / baseline``: 0.3 means three in ten false positives fewer, negative means more.
    """

    recall: float
    baseline: int
    ours: int
    cut: float
    low: float | None
    high: float | None


def evaluate(  # noqa: PLR0913  # five columns of one test set and how to judge them
    scores: FloatArray,
    is_fraud: BoolArray,
    amount_minor: IntArray,
    card: npt.NDArray[Any],
    event_time_ms: IntArray,
    *,
    recall_targets: Sequence[float],
    k: int,
    seed: int,
    resamples: int,
    weights: FloatArray | None = None,
) -> Evaluation:
    """Return the figures of one model on one test set, with 95 % intervals over resampled days.

    Parameters
    ----------
    scores
        Higher is riskier, finite, shape ``(n,)``.
    is_fraud
        Mature labels, shape ``(n,)``.
    amount_minor
        Amounts in minor units of one currency, shape ``(n,)``.
    card
        Card of each row, shape ``(n,)``.
    event_time_ms
        Epoch milliseconds, shape ``(n,)``; the UTC day of a row is its block.
    recall_targets
        Shares of the frauds to catch, each in (0, 1].
    k
        Reviews available each day.
    seed, resamples
        Of the day resamples.
    weights
        How many rows each row stands for, such as inverse propensities; by default one. Card precision counts cards
        that people would really look at, so it has none.

    Raises
    ------
    InvalidMetricInput
        Lengths differ, a score is not finite, only one class is present, no fraud has an amount, or a parameter is out
        of range.
    """
    same_length(scores, card=card, event_time_ms=event_time_ms)
    for target in recall_targets:
        require_share("recall target", target)
    day = event_time_ms // DAY_MS
    ranking = rank(scores, is_fraud, day=day, amount_minor=amount_minor, weights=weights)
    if ranking.value_caught[-1].sum() <= 0:
        raise InvalidMetricInput("no fraud has a positive amount: there is no value to detect")
    precision = card_precision_by_day(scores, is_fraud, card, day, k=k)
    intervals = day_block_intervals(
        lambda weights: _figures(ranking, precision, recall_targets, weights),
        len(ranking.days),
        resamples=resamples,
        seed=seed,
    )
    points = ranking.curve()
    targets = intervals[3 + len(FPRS) :]
    return Evaluation(
        rows=len(scores),
        frauds=int(is_fraud.sum()),
        days=len(ranking.days),
        pr_auc=intervals[0],
        roc_auc=intervals[1],
        recall_at_fpr=tuple(RecallAtFpr(*pair) for pair in zip(FPRS, intervals[3 : 3 + len(FPRS)], strict=True)),
        at_recall=tuple(
            AtRecall(
                target,
                float(ranking.thresholds[points.threshold_at_recall(target)[0]]),
                *targets[PER_TARGET * position : PER_TARGET * (position + 1)],
            )
            for position, target in enumerate(recall_targets)
        ),
        k=k,
        card_precision=intervals[2],
    )


def compare(
    baseline_scores: FloatArray,
    our_scores: FloatArray,
    is_fraud: BoolArray,
    event_time_ms: IntArray,
    *,
    recall: float,
    seed: int,
    resamples: int,
    weights: FloatArray | None = None,
) -> FalsePositiveCut:
    """Return how many false positives each of two models needs to catch ``recall``, and the cut with its 95 % interval.

    Parameters
    ----------
    baseline_scores, our_scores
        Higher is riskier, finite, shape ``(n,)``; the two need not share a scale.
    is_fraud, event_time_ms
        As for :func:`evaluate`.
    recall
        Share of the frauds that both catch, in (0, 1].
    seed, resamples
        Of the paired day resamples.
    weights
        As for :func:`evaluate`.

    Raises
    ------
    InvalidMetricInput
        Lengths differ, a score is not finite, only one class is present, or a parameter is out of range.
    """
    day = event_time_ms // DAY_MS
    baseline, ours = (rank(scores, is_fraud, day=day, weights=weights) for scores in (baseline_scores, our_scores))
    interval = false_positive_cut(baseline, ours, recall=recall, resamples=resamples, seed=seed)
    return FalsePositiveCut(
        recall=recall,
        baseline=int(baseline.curve().false_positives_at_recall(recall)[0]),
        ours=int(ours.curve().false_positives_at_recall(recall)[0]),
        cut=interval.point,
        low=interval.low,
        high=interval.high,
    )


def _figures(
    ranking: Ranking, precision: FloatArray, recall_targets: Sequence[float], day_weights: FloatArray
) -> FloatArray:
    """Return every figure for each weighting, shape ``(figures, n)``, in the order ``evaluate`` reads them."""
    curve = ranking.curve(day_weights)
    rows = [
        curve.average_precision(),
        curve.roc_auc(),
        precision @ day_weights / day_weights.sum(axis=0),
        *(curve.recall_at_fpr(fpr) for fpr in FPRS),
    ]
    for target in recall_targets:
        rows += [
            curve.false_positives_at_recall(target),
            curve.alert_rate_at_recall(target),
            curve.value_detection_at_recall(target),
        ]
    return np.stack(rows)
