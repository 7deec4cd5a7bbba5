"""Equal catch over several seeds: means of the fits, one interval, and the parts behind the total."""

import numpy as np
import pytest

from training.equal_catch import JudgedRows, equal_catch
from training.errors import InvalidMetricInput
from training.evaluation import compare
from training.metrics import false_positives_at_recall, threshold_at_recall
from training.ranking import DAY_MS, FloatArray

RNG = np.random.default_rng(12)
ROWS = 6000
IS_FRAUD = RNG.random(ROWS) < 0.05
TIME = RNG.integers(0, 15 * DAY_MS, ROWS)
AMOUNT = RNG.integers(100, 50_000, ROWS)
KIND = np.where(IS_FRAUD, np.where(RNG.random(ROWS) < 0.3, "theft", "testing"), "").astype(object)
CHANNEL = np.where(RNG.random(ROWS) < 0.5, "pos", "online").astype(object)
FITS = 3


def scores(separation: float, seed: int) -> FloatArray:
    """Scores in which theft stands out less than testing."""
    rng = np.random.default_rng(seed)
    apart = separation * np.where(KIND == "theft", 0.6, 1.0)
    return np.asarray(rng.normal(0.0, 1.0, ROWS) + apart * IS_FRAUD, np.float64)


BASELINE = [scores(2.0, 10 + fit) for fit in range(FITS)]
OURS = [scores(3.0, 20 + fit) for fit in range(FITS)]
JUDGED = JudgedRows(IS_FRAUD, TIME, AMOUNT, KIND, {"channel": CHANNEL})


def test_counts_and_values_are_means_over_the_fits() -> None:
    (found,) = equal_catch(BASELINE, OURS, JUDGED, recalls=(0.7,), resamples=50, seed=1)
    for side, fits, value in (
        (found.baseline, BASELINE, found.baseline_value),
        (found.ours, OURS, found.ours_value),
    ):
        alarms = [one >= threshold_at_recall(one, IS_FRAUD, recall=0.7) for one in fits]
        assert side == np.mean([false_positives_at_recall(one, IS_FRAUD, recall=0.7) for one in fits])
        assert value == pytest.approx(np.mean([AMOUNT[alarm & ~IS_FRAUD].sum() for alarm in alarms]))
    assert found.cut.point == pytest.approx(1 - found.ours / found.baseline)
    assert found.value_cut.point == pytest.approx(1 - found.ours_value / found.baseline_value)
    assert len(found.seed_cuts) == FITS
    for one, theirs, mine in zip(found.seed_cuts, BASELINE, OURS, strict=True):
        assert one == pytest.approx(compare(theirs, mine, IS_FRAUD, TIME, recall=0.7, seed=0, resamples=5).cut)
    assert found.cut.low is not None
    assert found.cut.high is not None
    assert 0 < found.cut.low < found.cut.point < found.cut.high < 1


def test_one_pair_has_the_interval_of_a_single_comparison() -> None:
    (found,) = equal_catch(BASELINE[:1], OURS[:1], JUDGED, recalls=(0.6,), resamples=80, seed=4)
    single = compare(BASELINE[0], OURS[0], IS_FRAUD, TIME, recall=0.6, seed=4, resamples=80)
    assert (found.cut.point, found.cut.low, found.cut.high) == (single.cut, single.low, single.high)


def test_parts_add_up_to_the_total() -> None:
    (found,) = equal_catch(BASELINE, OURS, JUDGED, recalls=(0.7,), resamples=50, seed=1)
    assert sum(part.baseline for part in found.by_segment) == pytest.approx(found.baseline)
    assert sum(part.ours for part in found.by_segment) == pytest.approx(found.ours)
    assert sum(part.rows for part in found.by_segment) == ROWS
    frauds = {one.fraud_type: one.frauds for one in found.by_type}
    assert frauds == {name: KIND.tolist().count(name) for name in ("testing", "theft")}
    for side in ("baseline", "ours"):
        caught = sum(getattr(one, side) * one.frauds for one in found.by_type)
        assert caught / IS_FRAUD.sum() == pytest.approx(0.7, abs=0.005)
        recall = {one.fraud_type: getattr(one, side) for one in found.by_type}
        assert recall["theft"] < recall["testing"]


def test_a_type_that_the_better_model_loses_shows() -> None:
    spoiled = [np.where(KIND == "theft", one - 6.0, one) for one in OURS]
    (found,) = equal_catch(BASELINE, spoiled, JUDGED, recalls=(0.6,), resamples=60, seed=1)
    lost = {one.fraud_type: one.difference for one in found.by_type}
    assert lost["theft"].high is not None
    assert lost["theft"].high < -0.2
    assert lost["testing"].low is not None
    assert lost["testing"].low > 0.0


def test_a_segment_with_next_to_no_false_positive_has_no_bounds() -> None:
    rare = np.where(np.arange(ROWS) < 40, "rare", "common").astype(object)
    rows = JudgedRows(IS_FRAUD, TIME, AMOUNT, KIND, {"band": rare})
    (found,) = equal_catch(BASELINE, OURS, rows, recalls=(0.5,), resamples=20, seed=1)
    bounds = {one.part: one.cut.low for one in found.by_segment}
    assert bounds["rare"] is None
    assert bounds["common"] is not None


def test_weights_of_two_count_every_row_twice() -> None:
    twice = JudgedRows(IS_FRAUD, TIME, AMOUNT, KIND, {"channel": CHANNEL}, np.full(ROWS, 2.0))
    (once,), (doubled,) = (
        equal_catch(BASELINE, OURS, rows, recalls=(0.5,), resamples=20, seed=1) for rows in (JUDGED, twice)
    )
    assert doubled.ours == pytest.approx(2 * once.ours)
    assert doubled.by_segment[0].baseline == pytest.approx(2 * once.by_segment[0].baseline)
    assert doubled.cut.point == pytest.approx(once.cut.point)


def test_fits_without_a_partner_are_refused() -> None:
    with pytest.raises(InvalidMetricInput, match="3 fits of the baseline and 2 of ours"):
        equal_catch(BASELINE, OURS[:2], JUDGED, recalls=(0.5,), resamples=5, seed=0)
