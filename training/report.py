"""The evaluation report: a model against the frozen baseline on its held-out days, as JSON and as a picture.

Judged by the labels known at the time, or by the truth where a data set has it. Rows of a card that was already known
as compromised are left out: in production it is blocked, and a model that remembers it is flattered.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.challenger import Challenger, TrainingPlan, rows_of
from training.compromised import unblocked
from training.dataset import TrainingSet, with_features
from training.errors import InvalidSplit, UnreadableSource
from training.evaluation import Evaluation, FalsePositiveCut, compare, evaluate
from training.fit import BASELINE_FEATURES, BASELINE_RECIPE, fit_model
from training.labels import read_labels, read_truth
from training.plots import draw_comparison
from training.transaction_log import Progress, day_text

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

RECALLS: Final = (0.3, 0.5, 0.7)
"""Catches at which false positives are compared."""
REVIEWS_A_DAY: Final = 100
RESAMPLES: Final = 400
Judge = Literal["labels", "truth"]
JUDGES: Final[tuple[Judge, ...]] = ("labels", "truth")


@dataclass(frozen=True)
class Report:
    """Both models on the held-out rows.

    Parameters
    ----------
    judged_by
        ``labels`` or ``truth``.
    first_day, last_day
        Of the held-out rows.
    left_out
        Rows of cards that were known as compromised when they happened.
    baseline, ours, cuts
        Figures with intervals; false positives at equal catch, one cut for each of :data:`RECALLS`.
    """

    judged_by: Judge
    first_day: str
    last_day: str
    left_out: int
    baseline: Evaluation
    ours: Evaluation
    cuts: tuple[FalsePositiveCut, ...]

    def figures(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class _Judged:
    """The held-out rows, and what two models say of them."""

    taken: npt.NDArray[np.int64]
    is_fraud: BoolArray
    baseline: FloatArray
    ours: FloatArray


def report_on(
    challenger: Challenger,
    rows: TrainingSet,
    plan: TrainingPlan,
    lake: Path,
    out: Path,
    *,
    judged_by: Judge = "labels",
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Evaluate a challenger and the baseline on the held-out days; write ``evaluation.json`` and ``evaluation.png``.

    Parameters
    ----------
    rows, plan
        What the challenger was fitted on.
    lake
        Folder of the data set.
    out
        Folder to write in; it must exist.
    about
        More plain data to stand in ``evaluation.json``, such as the model's version.
    progress
        Of the baseline's fit.

    Raises
    ------
    UnfitTrainingSet
        The baseline cannot be fitted.
    InvalidSplit
        No held-out row is left.
    InvalidMetricInput
        The held-out rows are of one class only.
    UnreadableSource
        Judged by a truth that the data set does not have.
    """
    judged = _judge(challenger, rows, plan, lake, judged_by, progress)
    ours, baseline = (_figures(rows, judged, scores, plan.seed) for scores in (judged.ours, judged.baseline))
    time = rows.event_time_ms[judged.taken]
    cuts = tuple(
        compare(
            judged.baseline,
            judged.ours,
            judged.is_fraud,
            time,
            recall=recall,
            seed=plan.seed,
            resamples=RESAMPLES,
            weights=None if rows.weights is None else rows.weights[judged.taken],
        )
        for recall in RECALLS
    )
    _, _, test_from, end = plan.edges(rows.as_of_ms)
    held_out = rows.between(test_from, end)
    left_out = held_out.stop - held_out.start - len(judged.taken)
    report = Report(judged_by, day_text(int(time[0])), day_text(int(time[-1])), left_out, baseline, ours, cuts)
    text = json.dumps({**(about or {}), **report.figures()}, indent=2, allow_nan=False)
    (out / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    draw_comparison(
        out / "evaluation.png",
        baseline=baseline,
        ours=ours,
        cuts=cuts,
        baseline_scores=judged.baseline,
        our_scores=judged.ours,
        is_fraud=judged.is_fraud,
        title="Our model against the frozen baseline",
    )
    return report


def _judge(
    challenger: Challenger,
    rows: TrainingSet,
    plan: TrainingPlan,
    lake: Path,
    judged_by: Judge,
    progress: Progress | None,
) -> _Judged:
    start, validation_from, test_from, end = plan.edges(rows.as_of_ms)
    train, validation = rows.between(start, validation_from), rows.between(validation_from, test_from)
    simple = with_features(rows, BASELINE_FEATURES)
    baseline = fit_model(
        rows_of(simple, train),
        rows_of(simple, validation),
        BASELINE_FEATURES,
        seed=plan.seed,
        recipe=BASELINE_RECIPE,
        progress=progress,
    )
    held = rows.between(test_from, end)
    taken = np.arange(held.start, held.stop)[unblocked(rows, read_labels(lake))[held]]
    if not len(taken):
        raise InvalidSplit(f"no held-out row from {day_text(test_from)} to {day_text(end)} (exclusive) is left")
    is_fraud = rows.is_fraud[taken] if judged_by == "labels" else truth_of_rows(rows, taken, lake)
    ours = challenger.model.scores(rows.matrix[taken])
    return _Judged(taken, is_fraud, baseline.scores(simple.matrix[taken]), ours)


def _figures(rows: TrainingSet, judged: _Judged, scores: FloatArray, seed: int) -> Evaluation:
    return evaluate(
        scores,
        judged.is_fraud,
        rows.amount_minor[judged.taken],
        rows.card[judged.taken],
        rows.event_time_ms[judged.taken],
        recall_targets=RECALLS,
        k=REVIEWS_A_DAY,
        seed=seed,
        resamples=RESAMPLES,
        weights=None if rows.weights is None else rows.weights[judged.taken],
    )


def truth_of_rows(rows: TrainingSet, taken: npt.NDArray[np.int64], lake: Path) -> BoolArray:
    """Return whether each of some rows truly is fraud.

    Raises
    ------
    UnreadableSource
        The data set has no truth, or not of all of them.
    """
    truth = read_truth(lake)
    if truth is None:
        raise UnreadableSource(f"{lake / 'truth.parquet'} is missing: only simulated data has it; judge by labels")
    ids = rows.transaction_id.take(pa.array(taken))
    place = pc.index_in(ids, truth["transaction_id"].combine_chunks())
    if place.null_count:
        raise UnreadableSource(f"{lake / 'truth.parquet'} does not know {place.null_count} of {len(ids)} transactions")
    found: BoolArray = truth["is_fraud"].combine_chunks().take(place).to_numpy(zero_copy_only=False)
    return found
