"""The replayed weeks as figures: each week, the total with intervals, the parts behind it, calibration, cost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.windows import DAY
from training.costs import CostCurve, Costs, cost_curve
from training.dataset import TrainingSet
from training.equal_catch import EqualCatch, JudgedRows, equal_catch
from training.evaluation import Evaluation, evaluate
from training.labels import read_truth, settle_labels
from training.prequential import Replay, Week
from training.ranking import FloatArray, rank
from training.reliability import Reliability, reliability
from training.report import Judge, truth_of_rows
from training.segments import segments_of

RESAMPLES: Final = 400


@dataclass(frozen=True)
class WeekFigures:
    """One week: sizes, PR-AUC and false positives (at the first recall) of each side, means over the seeds.

    ``cost`` and ``reviews_a_day`` are what the solved thresholds cost, in minor units per transaction.
    """

    first_day: str
    rows: int
    frauds: int
    baseline_pr_auc: float
    pr_auc: float
    baseline_false_positives: float
    false_positives: float
    review_at: float
    decline_at: float
    cost: float
    reviews_a_day: float


@dataclass(frozen=True)
class FixedThreshold:
    """What thresholds fixed on validation rows reach on the test weeks; mean over the seeds."""

    asked: float
    side: str
    reached: float
    false_positives: float


@dataclass(frozen=True)
class WeeklyEvaluation:
    """Everything the replay says.

    Parameters
    ----------
    judged_by
        ``labels`` or ``truth``.
    seeds, left_out
        Fits of each week and side; rows of cards that were known as compromised.
    weeks
        Oldest first.
    baseline, ours
        Figures of the first seed over all weeks.
    at
        The comparison at equal catch, over all weeks and seeds.
    fixed
        Thresholds carried over from validation.
    baseline_reliability, reliability
        Of the first seed's scores.
    costs, curve, doing_nothing
        Prices; cost of declining from each threshold on; cost of approving everything, per transaction.
    """

    judged_by: Judge
    seeds: int
    left_out: int
    weeks: tuple[WeekFigures, ...]
    baseline: Evaluation
    ours: Evaluation
    at: tuple[EqualCatch, ...]
    fixed: tuple[FixedThreshold, ...]
    baseline_reliability: Reliability
    reliability: Reliability
    costs: Costs
    curve: CostCurve

    def figures(self) -> dict[str, Any]:
        """Return the evaluation as plain data."""
        return dict(_plain(asdict(self)))


@dataclass(frozen=True)
class Judged:
    """All test rows of a replay, in order of the weeks, and both sides' scores of each seed."""

    rows: JudgedRows
    card: npt.NDArray[np.int64]
    baseline: tuple[FloatArray, ...]
    ours: tuple[FloatArray, ...]


def gather_judged(
    rows: TrainingSet, weeks: Sequence[Week], lake: Path, statements: pa.Table, *, judged_by: Judge
) -> Judged:
    """Return the test rows of all weeks with what they are judged by: the newest labels, or the truth.

    Raises
    ------
    UnreadableSource
        Judged by a truth that the data set does not have.
    """
    taken = np.concatenate([week.taken for week in weeks])
    ids = rows.transaction_id.take(pa.array(taken))
    truth = read_truth(lake)
    kinds = np.full(len(taken), "", object)
    if truth is not None:
        found = truth.take(pc.index_in(ids, truth["transaction_id"].combine_chunks()))
        kinds = np.asarray(pc.fill_null(found["fraud_type"].cast(pa.string()), "").to_pylist(), object)
    settled = settle_labels(statements, ids, as_of_ms=rows.as_of_ms)
    is_fraud = settled.is_fraud if judged_by == "labels" else truth_of_rows(rows, taken, lake)
    segments: Mapping[str, npt.NDArray[Any]] = {name: part[taken] for name, part in segments_of(rows, lake).items()}
    weights = None if rows.weights is None else rows.weights[taken]
    judged = JudgedRows(is_fraud, rows.event_time_ms[taken], rows.amount_minor[taken], kinds, segments, weights)
    sides = [
        tuple(np.concatenate(fits) for fits in zip(*(getattr(week, side) for week in weeks), strict=True))
        for side in ("baseline", "ours")
    ]
    return Judged(judged, rows.card[taken], sides[0], sides[1])


def evaluate_weeks(
    judged: Judged, weeks: Sequence[Week], replay: Replay, *, judged_by: Judge, left_out: int, k: int
) -> WeeklyEvaluation:
    """Return the figures of a replay.

    Parameters
    ----------
    k
        Cards that people can look at on a day.

    Raises
    ------
    InvalidMetricInput
        The test rows, or those of one week, are of one class only.
    """
    rows = judged.rows
    baseline, ours = (
        evaluate(
            fits[0], rows.is_fraud, rows.amount_minor, judged.card, rows.event_time_ms,
            recall_targets=replay.recalls, k=k, seed=0, resamples=RESAMPLES, weights=rows.weights,
        )
        for fits in (judged.baseline, judged.ours)
    )  # fmt: skip
    return WeeklyEvaluation(
        judged_by=judged_by,
        seeds=len(replay.seeds),
        left_out=left_out,
        weeks=_each_week(judged, weeks, replay),
        baseline=baseline,
        ours=ours,
        at=equal_catch(judged.baseline, judged.ours, rows, recalls=replay.recalls, resamples=RESAMPLES, seed=0),
        fixed=_fixed(rows, weeks),
        baseline_reliability=reliability(judged.baseline[0], rows.is_fraud, weights=rows.weights),
        reliability=reliability(judged.ours[0], rows.is_fraud, weights=rows.weights),
        costs=replay.costs,
        curve=cost_curve(judged.ours[0], rows.is_fraud, rows.amount_minor, costs=replay.costs, weights=rows.weights),
    )


def _each_week(judged: Judged, weeks: Sequence[Week], replay: Replay) -> tuple[WeekFigures, ...]:
    found, start = [], 0
    for week in weeks:
        part = slice(start, start + len(week.taken))
        start = part.stop
        is_fraud = judged.rows.is_fraud[part]
        sides = {"baseline": judged.baseline, "ours": judged.ours}
        weights = None if judged.rows.weights is None else judged.rows.weights[part]
        curves = {
            name: [rank(fit[part], is_fraud, weights=weights).curve() for fit in fits] for name, fits in sides.items()
        }
        area = {name: np.mean([curve.average_precision()[0] for curve in held]) for name, held in curves.items()}
        alarms = {
            name: np.mean([curve.false_positives_at_recall(replay.recalls[0])[0] for curve in held])
            for name, held in curves.items()
        }
        cost, reviews = _realised(judged, part, week, replay.costs)
        policy = week.solution.policy
        found.append(
            WeekFigures(
                week.first_day, len(week.taken), int(is_fraud.sum()), float(area["baseline"]), float(area["ours"]),
                float(alarms["baseline"]), float(alarms["ours"]), policy.review_at, policy.decline_at, cost, reviews,
            )
        )  # fmt: skip
    return tuple(found)


def _realised(judged: Judged, part: slice, week: Week, costs: Costs) -> tuple[float, float]:
    """Return what a week's solved thresholds cost on its test rows, per transaction, and the reviews a day."""
    scores, fraud = judged.ours[0][part], judged.rows.is_fraud[part]
    amount = judged.rows.amount_minor[part].astype(np.float64)
    declined = scores >= week.solution.policy.decline_at
    reviewed = (scores >= week.solution.policy.review_at) & ~declined
    loss = np.where(fraud, amount * costs.loss_share + costs.chargeback_minor, 0.0)
    insult = np.where(fraud, 0.0, amount * costs.margin_share + costs.insult_minor)
    cost = np.where(declined, insult, np.where(reviewed, costs.review_minor + loss * (1 - costs.review_catch), loss))
    weights = None if judged.rows.weights is None else judged.rows.weights[part]
    days = len(np.unique(judged.rows.event_time_ms[part] // DAY))
    stands_for = np.ones(len(cost)) if weights is None else weights
    return float(np.average(cost, weights=stands_for)), float((stands_for * reviewed).sum() / days)


def _fixed(rows: JudgedRows, weeks: Sequence[Week]) -> tuple[FixedThreshold, ...]:
    found, fraud = [], rows.is_fraud
    weight = np.ones(len(fraud)) if rows.weights is None else rows.weights
    for position, one in enumerate(weeks[0].alerted):
        fits = [
            np.concatenate(flags) for flags in zip(*(week.alerted[position].alerted for week in weeks), strict=True)
        ]
        reached = float(np.mean([np.average(flags[fraud], weights=weight[fraud]) for flags in fits]))
        alarms = float(np.mean([(weight * flags)[~fraud].sum() for flags in fits]))
        found.append(FixedThreshold(one.asked, one.side, reached, alarms))
    return tuple(found)


def _plain(value: Any) -> Any:
    """Return arrays as lists, whatever holds them."""
    if isinstance(value, dict):
        return {name: _plain(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
