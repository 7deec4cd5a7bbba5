"""Week after week as it would have been: train on what was known, skip the label delay, judge on what follows.

Each test week is scored by models trained as of its first midnight: rows old enough for their labels, labels that had
arrived by then, nothing later. The frozen baseline is fitted on the very same rows, so a cut owes nothing to fresher
data. Weeks do not overlap; a total is over all of them, each row scored by its own week's models.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fraud.windows import DAY
from training.challenger import TrainingPlan, rows_of
from training.costs import Costs, Solution, solve
from training.dataset import TrainingSet, labelled_at, with_features
from training.errors import InvalidSplit
from training.fit import BASELINE_FEATURES, BASELINE_RECIPE, fit_model
from training.metrics import threshold_at_recall
from training.ranking import BoolArray, FloatArray, IntArray
from training.transaction_log import Progress, day_text

WEEK_DAYS = 7


@dataclass(frozen=True)
class Carried:
    """Threshold of one side for a recall on the validation rows, mean over the seeds of what it does on the test."""

    asked: float
    side: str
    alerted: tuple[BoolArray, ...]


@dataclass(frozen=True)
class Week:
    """One test week, scored.

    Parameters
    ----------
    first_day
        Of the week.
    taken
        Positions of its rows, without cards known as compromised.
    baseline, ours
        Scores of each seed's fits on them.
    alerted
        For each recall, side and seed: rows that a threshold alerts which reaches the recall on the validation rows.
    solution
        Thresholds from costs and reviewers, solved on the validation rows for the first seed's model.
    """

    first_day: str
    taken: IntArray
    baseline: tuple[FloatArray, ...]
    ours: tuple[FloatArray, ...]
    alerted: tuple[Carried, ...]
    solution: Solution


@dataclass(frozen=True)
class Replay:
    """What is replayed.

    Parameters
    ----------
    weeks, seeds
        Test weeks, and the seeds of each week's fits; at least one of each.
    recalls
        Shares of the frauds whose thresholds are fixed on validation rows.
    costs, reviews_a_day
        Prices and people, from which a policy is solved.

    Raises
    ------
    InvalidSplit
        No week or no seed.
    """

    weeks: int
    seeds: tuple[int, ...]
    recalls: tuple[float, ...]
    costs: Costs
    reviews_a_day: float

    def __post_init__(self) -> None:
        if self.weeks < 1 or not self.seeds:
            raise InvalidSplit(f"{self.weeks} weeks and {len(self.seeds)} seeds: at least one of each is needed")


def span_of(plan: TrainingPlan, *, weeks: int, end_ms: int) -> tuple[int, int]:
    """Return where the rows of a replay start and end, epoch ms.

    Examples
    --------
    >>> [time // DAY for time in span_of(TrainingPlan(10, 7, 7, 5), weeks=2, end_ms=100 * DAY)]
    [64, 100]
    """
    first_test = end_ms - weeks * WEEK_DAYS * DAY
    return first_test - (plan.label_delay_days + plan.validation_days + plan.train_days) * DAY, end_ms


def replay_weeks(
    rows: TrainingSet,
    statements: pa.Table,
    unblocked: BoolArray,
    plan: TrainingPlan,
    replay: Replay,
    *,
    progress: Progress,
) -> tuple[Week, ...]:
    """Return every test week, oldest first.

    Parameters
    ----------
    rows
        From :func:`span_of` on, ending with the last test week.
    statements
        Table of ``labels.parquet``.
    unblocked
        Rows whose card was not known as compromised when they happened, shape ``(n,)``.
    plan
        Lengths of training and validation, and the label delay.
    replay
        Weeks, seeds, recalls, prices.
    progress
        Called with the fits done and the fits in all.

    Raises
    ------
    InvalidSplit
        A week holds no row.
    UnfitTrainingSet
        A week's training or validation has too few frauds.
    """
    end = (int(rows.event_time_ms[-1]) // DAY + 1) * DAY
    done: list[Week] = []
    fits = 2 * len(replay.seeds)
    for week in range(replay.weeks):
        test_from = end - (replay.weeks - week) * WEEK_DAYS * DAY
        taken = np.arange(len(rows.is_fraud))[rows.between(test_from, test_from + WEEK_DAYS * DAY)]
        taken = taken[unblocked[taken]]
        if not len(taken):
            raise InvalidSplit(f"the week of {day_text(test_from)} holds no row of a card that is not blocked")
        known = labelled_at(rows, statements, test_from)

        def advance(fit: int, week: int = week) -> None:
            progress(week * fits + fit, replay.weeks * fits)

        done.append(_one_week(known, unblocked, plan, replay, taken, test_from=test_from, advance=advance))
    return tuple(done)


def _one_week(
    known: TrainingSet,
    unblocked: BoolArray,
    plan: TrainingPlan,
    replay: Replay,
    taken: IntArray,
    *,
    test_from: int,
    advance: Callable[[int], None],
) -> Week:
    validation_to = test_from - plan.label_delay_days * DAY
    validation_from = validation_to - plan.validation_days * DAY
    fit_on = known.between(validation_from - plan.train_days * DAY, validation_from)
    stop_on = known.between(validation_from, validation_to)
    checked = np.arange(stop_on.start, stop_on.stop)
    checked = checked[unblocked[checked]]
    simple = with_features(known, BASELINE_FEATURES)
    sides: dict[str, list[FloatArray]] = {"baseline": [], "ours": []}
    alerted: dict[tuple[float, str], list[BoolArray]] = {}
    solved: list[Solution] = []
    for position, seed in enumerate(replay.seeds):
        for side, rows, recipe in (("baseline", simple, BASELINE_RECIPE), ("ours", known, plan.recipe)):
            model = fit_model(rows_of(rows, fit_on), rows_of(rows, stop_on), rows.features, seed=seed, recipe=recipe)
            on_test, on_checked = model.scores(rows.matrix[taken]), model.scores(rows.matrix[checked])
            sides[side].append(on_test)
            for recall in replay.recalls:
                threshold = threshold_at_recall(on_checked, known.is_fraud[checked], recall=recall)
                alerted.setdefault((recall, side), []).append(on_test >= threshold)
            if side == "ours" and not solved:
                solved.append(
                    solve(
                        on_checked,
                        known.is_fraud[checked],
                        known.amount_minor[checked],
                        days=plan.validation_days,
                        costs=replay.costs,
                        reviews_a_day=replay.reviews_a_day,
                        weights=None if known.weights is None else known.weights[checked],
                    )
                )
            advance(2 * position + (1 if side == "baseline" else 2))
    carried = tuple(Carried(recall, side, tuple(flags)) for (recall, side), flags in alerted.items())
    return Week(day_text(test_from), taken, tuple(sides["baseline"]), tuple(sides["ours"]), carried, solved[0])
