"""Intervals over resampled days: equal to repeating the rows, paired, seeded."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from training.errors import InvalidMetricInput
from training.intervals import day_block_intervals, day_block_weights, false_positive_cut, relative_cut
from training.metrics import false_positives_at_recall, recall_at_fpr, value_detection_rate
from training.ranking import BoolArray, FloatArray, IntArray, rank

DAYS = 12


def world(seed: int, rows: int = 3000) -> tuple[FloatArray, BoolArray, IntArray, IntArray]:
    """Scores with ties, labels that follow them, day and amount."""
    rng = np.random.default_rng(seed)
    is_fraud = rng.random(rows) < 0.05
    scores: FloatArray = np.clip(rng.normal(0.3 + 0.3 * is_fraud, 0.2), 0, 1).round(2)
    return scores, is_fraud, rng.integers(0, DAYS, rows), rng.integers(1, 50_000, rows)


def test_weighted_days_equal_repeated_rows_for_every_metric() -> None:
    scores, is_fraud, day, amount = world(1)
    weights = day_block_weights(DAYS, resamples=25, seed=3)
    curve = rank(scores, is_fraud, day=day, amount_minor=amount).curve(weights)
    position = curve.false_positives_at_recall(0.7)
    for resample in range(25):
        rows = np.repeat(np.arange(len(scores)), weights[day, resample].astype(int))
        s, y, a = scores[rows], is_fraud[rows], amount[rows]
        assert curve.average_precision()[resample] == pytest.approx(average_precision_score(y, s), abs=1e-12)
        assert curve.roc_auc()[resample] == pytest.approx(roc_auc_score(y, s), abs=1e-12)
        assert curve.recall_at_fpr(0.05)[resample] == recall_at_fpr(s, y, fpr=0.05)
        assert position[resample] == false_positives_at_recall(s, y, recall=0.7)
        caught = np.sort(s[y])[::-1][int(np.ceil(0.7 * y.sum() - 1e-9)) - 1]
        assert curve.alert_rate_at_recall(0.7)[resample] == pytest.approx((s >= caught).mean())
        assert curve.value_detection_at_recall(0.7)[resample] == pytest.approx(value_detection_rate(s >= caught, y, a))


def test_each_resample_draws_as_many_days_as_there_are() -> None:
    weights = day_block_weights(7, resamples=500, seed=0)
    assert weights.shape == (7, 500)
    assert (weights.sum(axis=0) == 7).all()
    assert weights.mean() == 1.0
    assert weights.var() == pytest.approx(6 / 7, rel=0.1)


def test_same_seed_same_interval_and_another_seed_another() -> None:
    scores, is_fraud, day, _ = world(2)
    baseline, ours = rank(np.sqrt(scores), is_fraud, day=day), rank(scores + 0.1 * is_fraud, is_fraud, day=day)
    first = false_positive_cut(baseline, ours, recall=0.7, resamples=100, seed=5)
    assert false_positive_cut(baseline, ours, recall=0.7, resamples=100, seed=5) == first
    assert false_positive_cut(baseline, ours, recall=0.7, resamples=100, seed=6) != first


def test_a_model_against_itself_is_cut_by_nothing_with_certainty() -> None:
    scores, is_fraud, day, _ = world(3)
    ranking = rank(scores, is_fraud, day=day)
    interval = false_positive_cut(ranking, ranking, recall=0.8, resamples=50, seed=0)
    assert (interval.point, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_cut_interval_equals_resorting_the_rows_of_each_resample() -> None:
    scores, is_fraud, day, _ = world(4, rows=1500)
    better = scores + 0.08 * is_fraud
    weights = day_block_weights(DAYS, resamples=60, seed=9)
    cuts = []
    for resample in range(60):
        rows = np.repeat(np.arange(len(scores)), weights[day, resample].astype(int))
        before = false_positives_at_recall(scores[rows], is_fraud[rows], recall=0.7)
        cuts.append(1 - false_positives_at_recall(better[rows], is_fraud[rows], recall=0.7) / before)
    interval = false_positive_cut(
        rank(scores, is_fraud, day=day), rank(better, is_fraud, day=day), recall=0.7, resamples=60, seed=9
    )
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(cuts, [2.5, 97.5])), abs=1e-12)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < interval.point < interval.high


def test_interval_of_a_mean_covers_it_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        values = rng.normal(1.0, 1.0, 30)
        (interval,) = day_block_intervals(
            lambda weights, values=values: (values @ weights / weights.sum(axis=0))[None],  # type: ignore[misc]
            30,
            resamples=200,
            seed=trial,
        )
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 1.0 <= interval.high
    assert 0.88 <= covered / 300 <= 0.98


def test_one_day_gives_no_bounds() -> None:
    (interval,) = day_block_intervals(lambda weights: weights[:1] * 4.0, 1, resamples=20, seed=0)
    assert (interval.point, interval.low, interval.high) == (4.0, None, None)


def test_a_metric_undefined_on_most_resamples_gives_no_bounds() -> None:
    (interval,) = day_block_intervals(
        lambda weights: np.where(weights[:1] == 1.0, weights[:1], np.nan), 3, resamples=200, seed=0
    )
    assert (interval.point, interval.low, interval.high) == (1.0, None, None)


def test_a_resample_without_frauds_has_no_metric() -> None:
    day = np.array([0, 0, 1, 1])
    curve = rank(np.array([0.9, 0.1, 0.5, 0.4]), np.array([True, False, False, False]), day=day).curve(
        np.array([[0.0], [2.0]])
    )
    for values in (curve.average_precision(), curve.roc_auc(), curve.recall_at_fpr(0.1)):
        assert np.isnan(values).all()
    assert np.isnan(curve.false_positives_at_recall(0.5)).all()


def test_no_false_positive_on_either_side_is_no_cut() -> None:
    assert relative_cut(np.array([0.0]), np.array([0.0])).tolist() == [0.0]


def test_rankings_of_different_rows_are_refused() -> None:
    scores, is_fraud, day, _ = world(5)
    ranking = rank(scores, is_fraud, day=day)
    other_labels, other_days = np.roll(is_fraud, 1), (day + 1) % DAYS
    for other in (rank(scores, other_labels, day=day), rank(scores, is_fraud, day=other_days)):
        with pytest.raises(InvalidMetricInput, match="same rows"):
            false_positive_cut(ranking, other, recall=0.7, resamples=10, seed=0)


@pytest.mark.parametrize(("days", "resamples", "level"), [(0, 5, 0.9), (5, 0, 0.9), (5, 5, 1.0)])
def test_impossible_resampling_is_refused(days: int, resamples: int, level: float) -> None:
    with pytest.raises(InvalidMetricInput):
        day_block_intervals(lambda weights: weights, days, resamples=resamples, seed=0, level=level)
