"""The Handbook side of ``bench/false_positives.py``: our model by the product's own training path, against frozen P1.

Design is chosen once, at seven days' delay, on a validation block that ends before the test begins: models are trained
as of the block's first day, as they would have been, and the one with the fewest false positives on it wins. The same
design is then trained as of the first day of the test, at each delay, and judged once.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud.windows import DAY
from training.challenger import rows_of
from training.command_line import gather
from training.compromised import BLOCKED_DAYS
from training.dataset import TrainingSet, labelled_at, with_features
from training.equal_catch import JudgedRows
from training.fit import FittedModel, fit_model
from training.handbook import HandbookTransactions
from training.handbook_baseline import TEST, VALIDATION, frozen_matrix, frozen_model
from training.importing import import_transactions
from training.labels import read_labels
from training.metrics import threshold_at_recall
from training.profiles import write_profiles
from training.ranking import BoolArray, FloatArray, IntArray, rank
from training.split import Period, not_known_compromised

FRAUD_TYPES: Final = ("", "amount_over_220", "terminal_compromised", "card_details_stolen")
"""Name of each of the book's scenario numbers, as the ready mapping has them; 0 is legitimate."""

ROOT: Final = Path(__file__).resolve().parents[1]
RECALLS: Final = (0.65, 0.70)
LOG_START_MS: Final = int(np.datetime64("2018-04-01", "ms").astype(np.int64))
VALIDATION_DAYS: Final = 14
BLOCK: Final = VALIDATION
"""The block on which the design is chosen: the one the frozen baseline is stopped on; the test starts a week later."""
CHOOSING_DELAY: Final = 7
STARTS: Final = {"1 week": 7, "3 weeks": 21, "5 weeks": 35, "only the last 6 weeks": 0}
"""How long the log runs before training on it begins: too early, the 30-day windows are half empty; too late, rows are
lost. 0 is for a training that does not reach back to the log's beginning."""
SHORT_SPAN: Final = 42
SHORT: Final = ("_1m", "_10m", "_1h")
LEFT_OUT: Final[dict[str, tuple[str, ...]]] = {"every window": (), "windows of 24h and longer": SHORT}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Design:
    """What is chosen: where in the log the training begins, and which windows are left out."""

    start: str
    windows: str

    def train_days(self, end_ms: int) -> int:
        """Return the days of training that end at ``end_ms``."""
        warm_up = STARTS[self.start]
        return (end_ms - LOG_START_MS) // DAY - warm_up if warm_up else SHORT_SPAN


@dataclass(frozen=True)
class Tried:
    """A design's false positives on the validation block, mean over the seeds, at each of :data:`RECALLS`."""

    design: Design
    train_from: str
    false_positives: tuple[float, ...]
    score: float


@dataclass(frozen=True)
class Scored:
    """The test rows of one delay, scored by every fit of both sides.

    Parameters
    ----------
    rows
        Without the cards known as compromised.
    baseline, ours
        Scores of each seed on them.
    kept
        The same three with those cards: labels, the baseline's scores and ours.
    left_out
        Rows of those cards.
    carried
        What thresholds do that were fixed on validation rows, see :func:`carried`.
    """

    rows: JudgedRows
    baseline: list[FloatArray]
    ours: list[FloatArray]
    kept: tuple[BoolArray, list[FloatArray], list[FloatArray]]
    left_out: int
    carried: list[dict[str, Any]]
    about: dict[str, Any]


@dataclass(frozen=True)
class Lake:
    """The benchmark as a data set of the product with labels of one delay, and its features."""

    rows: TrainingSet
    statements: Any
    delay_days: int
    free: BoolArray

    def between(self, period: Period) -> npt.NDArray[np.int64]:
        """Return the rows of a period."""
        taken = self.rows.between(period.start_ms, period.end_ms)
        return np.arange(taken.start, taken.stop)


def open_lake(source: Path, delay_days: int, say: Say) -> Lake:
    """Import the benchmark with labels ``delay_days`` late and compute the features of all its rows, through Feast."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        say(f"labels {delay_days} days late: import, profiles")
        import_transactions("handbook", source, lake, label_delay_ms=delay_days * DAY, progress=lambda *_: None)
        write_profiles(lake, progress=lambda *_: None)
        say(f"labels {delay_days} days late: features, point in time, through Feast")
        rows, _ = gather(
            lake, ROOT / "feature_repo", start_ms=LOG_START_MS, end_ms=TEST.end_ms, as_of_ms=TEST.end_ms + 60 * DAY
        )
        statements = read_labels(lake)
    fraud = rows.is_fraud
    free = not_known_compromised(
        rows.card,
        rows.event_time_ms,
        fraud_card=rows.card[fraud],
        fraud_arrival_ms=rows.event_time_ms[fraud] + delay_days * DAY,
        forget_after_ms=BLOCKED_DAYS * DAY,
    )
    return Lake(rows, statements, delay_days, free)


def train(lake: Lake, design: Design, *, as_of_ms: int, seed: int) -> tuple[FittedModel, tuple[str, ...]]:
    """Return the product's model of a design as of a time, and the features it takes."""
    validation_to = as_of_ms - lake.delay_days * DAY
    validation_from = validation_to - VALIDATION_DAYS * DAY
    start = validation_from - design.train_days(validation_from) * DAY
    known = labelled_at(lake.rows, lake.statements, as_of_ms)
    names = varying(known, (start, validation_from), LEFT_OUT[design.windows])
    rows = with_features(known, names)
    fit_on, stop_on = rows.between(start, validation_from), rows.between(validation_from, validation_to)
    return fit_model(rows_of(rows, fit_on), rows_of(rows, stop_on), names, seed=seed), names


def varying(rows: TrainingSet, span: Sequence[int], left_out: tuple[str, ...]) -> tuple[str, ...]:
    """Return the features that vary in a span: the benchmark knows no device, place or channel."""
    taken = rows.matrix[rows.between(span[0], span[1])][::20]
    return tuple(
        name
        for name, column in zip(rows.features, taken.T, strict=True)
        if not name.endswith(left_out or ("no such window",)) and len(np.unique(column[~np.isnan(column)])) > 1
    )


def choose(lake: Lake, seeds: Sequence[int], say: Say) -> list[Tried]:
    """Return every design with what it did on the validation block, best first."""
    designs = [Design(start, "every window") for start in STARTS]
    tried = [_try(lake, design, seeds, say) for design in designs]
    best = min(tried, key=lambda one: one.score).design
    tried += [_try(lake, Design(best.start, windows), seeds, say) for windows in LEFT_OUT if windows != best.windows]
    return sorted(tried, key=lambda one: one.score)


def _try(lake: Lake, design: Design, seeds: Sequence[int], say: Say) -> Tried:
    taken = lake.between(BLOCK)
    taken = taken[lake.free[taken]]
    counts = []
    for seed in seeds:
        say(f"choosing on the validation block: training from {design.start} on, {design.windows}, seed {seed}")
        model, names = train(lake, design, as_of_ms=BLOCK.start_ms, seed=seed)
        scores = model.scores(lake.rows.matrix[taken][:, lake.rows.columns(names)])
        curve = rank(scores, lake.rows.is_fraud[taken]).curve()
        counts.append([float(curve.false_positives_at_recall(recall)[0]) for recall in RECALLS])
    end = BLOCK.start_ms - (lake.delay_days + VALIDATION_DAYS) * DAY
    train_from = end - design.train_days(end) * DAY
    means = np.mean(counts, axis=0)
    score = float(np.exp(np.log(means + 1.0).mean()))
    return Tried(design, day(train_from), tuple(means.tolist()), score)


def score_test(lake: Lake, world: HandbookTransactions, design: Design, seeds: Sequence[int], say: Say) -> Scored:
    """Fit both sides for each seed and score the test rows."""
    assert np.array_equal(world.event_time_ms, lake.rows.event_time_ms), "log and benchmark differ in order"
    test = lake.between(TEST)
    free = test[lake.free[test]]
    validation = Period(
        TEST.start_ms - (lake.delay_days + VALIDATION_DAYS) * DAY, TEST.start_ms - lake.delay_days * DAY
    )
    checked = lake.between(validation)
    checked = checked[lake.free[checked]]
    baseline, ours, carry, trees = [], [], [], []
    names: tuple[str, ...] = ()
    inputs = frozen_matrix(world, label_delay_ms=lake.delay_days * DAY)
    for seed in seeds:
        say(f"labels {lake.delay_days} days late, seed {seed}: frozen baseline")
        theirs = frozen_model(world, inputs, seed=seed).scores(inputs)
        say(f"labels {lake.delay_days} days late, seed {seed}: our model")
        model, names = train(lake, design, as_of_ms=TEST.start_ms, seed=seed)
        mine = _all_scores(model, lake.rows, names, (test, checked))
        baseline.append(theirs)
        ours.append(mine)
        trees.append(model.trees)
        for side, scores in (("baseline", theirs), ("ours", mine)):
            carry += carried(side, seed, scores, lake.rows.is_fraud, checked, free)
    kinds = np.array(FRAUD_TYPES, dtype=object)[world.scenario]
    rows = JudgedRows(
        lake.rows.is_fraud[free], lake.rows.event_time_ms[free], lake.rows.amount_minor[free], kinds[free], {}
    )
    return Scored(
        rows=rows,
        baseline=[scores[free] for scores in baseline],
        ours=[scores[free] for scores in ours],
        kept=(lake.rows.is_fraud[test], [scores[test] for scores in baseline], [scores[test] for scores in ours]),
        left_out=len(test) - len(free),
        carried=carry,
        about={"features": len(names), "trees": trees},
    )


def carried(
    side: str,
    seed: int,
    scores: FloatArray,
    is_fraud: BoolArray,
    validation: IntArray,
    test: IntArray,
    recalls: Sequence[float] = RECALLS,
) -> list[dict[str, Any]]:
    """Return what a threshold that reaches each recall on validation rows reaches, and costs, on the test rows."""
    found = []
    for recall in recalls:
        threshold = threshold_at_recall(scores[validation], is_fraud[validation], recall=recall)
        alerted = scores[test] >= threshold
        found.append(
            {
                "side": side,
                "seed": seed,
                "asked": recall,
                "reached": float(alerted[is_fraud[test]].mean()),
                "false_positives": int(alerted[~is_fraud[test]].sum()),
            }
        )
    return found


def _all_scores(model: FittedModel, rows: TrainingSet, names: tuple[str, ...], parts: Sequence[IntArray]) -> FloatArray:
    """Return scores in the places of some rows, NaN elsewhere."""
    scores = np.full(len(rows.is_fraud), np.nan)
    for part in parts:
        scores[part] = model.scores(rows.matrix[part][:, rows.columns(names)])
    return scores


def day(time_ms: int) -> str:
    """Return a UTC day as text."""
    return str(np.datetime64(time_ms, "ms").astype("datetime64[D]"))
