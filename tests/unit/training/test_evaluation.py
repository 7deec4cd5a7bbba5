"""An evaluation agrees with the metrics it gathers, and serialises."""

import json

import numpy as np
import pytest

from training.errors import InvalidMetricInput
from training.evaluation import FPRS, Evaluation, compare, evaluate
from training.metrics import (
    average_precision,
    card_precision_by_day,
    false_positives_at_recall,
    recall_at_fpr,
    roc_auc,
    threshold_at_recall,
    value_detection_rate,
)
from training.ranking import DAY_MS

RNG = np.random.default_rng(7)
ROWS = 4000
IS_FRAUD = RNG.random(ROWS) < 0.04
NOISE = RNG.normal(0, 1, ROWS)
OURS = 1 / (1 + np.exp(3 - 2.5 * IS_FRAUD - NOISE))
BASELINE = 1 / (1 + np.exp(3 - 1.5 * IS_FRAUD - NOISE))
AMOUNT = RNG.integers(1, 90_000, ROWS)
CARD = np.array([f"c{c:05d}" for c in RNG.integers(0, 700, ROWS)])
TIME = RNG.integers(0, 14 * DAY_MS, ROWS) + 17_000 * DAY_MS


def evaluation(seed: int = 1) -> Evaluation:
    return evaluate(OURS, IS_FRAUD, AMOUNT, CARD, TIME, recall_targets=(0.5, 0.8), k=20, seed=seed, resamples=100)


def test_points_equal_the_metrics() -> None:
    result = evaluation()
    assert (result.rows, result.frauds, result.days, result.k) == (ROWS, int(IS_FRAUD.sum()), 14, 20)
    assert result.pr_auc.point == pytest.approx(average_precision(OURS, IS_FRAUD))
    assert result.roc_auc.point == pytest.approx(roc_auc(OURS, IS_FRAUD))
    by_day = card_precision_by_day(OURS, IS_FRAUD, CARD, TIME // DAY_MS, k=20)
    assert result.card_precision.point == pytest.approx(by_day.mean())
    assert [entry.fpr for entry in result.recall_at_fpr] == list(FPRS)
    for entry in result.recall_at_fpr:
        assert entry.recall.point == pytest.approx(recall_at_fpr(OURS, IS_FRAUD, fpr=entry.fpr))
    assert [target.recall for target in result.at_recall] == [0.5, 0.8]
    for target in result.at_recall:
        flagged = target.threshold <= OURS
        assert target.threshold == threshold_at_recall(OURS, IS_FRAUD, recall=target.recall)
        assert target.false_positives.point == false_positives_at_recall(OURS, IS_FRAUD, recall=target.recall)
        assert target.alert_rate.point == pytest.approx(flagged.mean())
        assert target.value_detection_rate.point == pytest.approx(value_detection_rate(flagged, IS_FRAUD, AMOUNT))


def test_every_interval_holds_its_point() -> None:
    result = evaluation()
    intervals = [result.pr_auc, result.roc_auc, result.card_precision, *(e.recall for e in result.recall_at_fpr)]
    for target in result.at_recall:
        intervals += [target.false_positives, target.alert_rate, target.value_detection_rate]
    assert len(intervals) == 12
    for interval in intervals:
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low <= interval.point <= interval.high
        assert interval.low < interval.high


def test_same_seed_same_json() -> None:
    assert evaluation().to_json() == evaluation().to_json()
    assert evaluation(2).to_json() != evaluation().to_json()


def test_json_holds_every_figure() -> None:
    read = json.loads(evaluation().to_json())
    assert read["pr_auc"]["point"] == evaluation().pr_auc.point
    assert read["at_recall"][1]["false_positives"]["low"] == evaluation().at_recall[1].false_positives.low
    assert read["recall_at_fpr"][0]["fpr"] == 0.001


def test_one_day_has_points_and_null_bounds() -> None:
    result = evaluate(
        OURS, IS_FRAUD, AMOUNT, CARD, np.full(ROWS, TIME[0]), recall_targets=(0.5,), k=20, seed=1, resamples=10
    )
    assert result.days == 1
    assert json.loads(result.to_json())["pr_auc"]["low"] is None


def test_the_better_model_cuts_false_positives() -> None:
    cut = compare(BASELINE, OURS, IS_FRAUD, TIME, recall=0.7, seed=1, resamples=200)
    assert cut.baseline == false_positives_at_recall(BASELINE, IS_FRAUD, recall=0.7)
    assert cut.ours == false_positives_at_recall(OURS, IS_FRAUD, recall=0.7)
    assert cut.cut == pytest.approx(1 - cut.ours / cut.baseline)
    assert cut.low is not None
    assert cut.high is not None
    assert 0 < cut.low < cut.cut < cut.high < 1
    worse = compare(OURS, BASELINE, IS_FRAUD, TIME, recall=0.7, seed=1, resamples=200)
    assert worse.high is not None
    assert worse.high < 0


def test_a_row_of_weight_three_counts_as_three_rows_everywhere_but_among_the_cards() -> None:
    weights = np.where(np.arange(ROWS) % 5 == 0, 3.0, 1.0)
    again = np.repeat(np.arange(ROWS), weights.astype(int))
    held = [column[again] for column in (OURS, IS_FRAUD, AMOUNT, CARD, TIME)]
    weighed = evaluate(
        OURS, IS_FRAUD, AMOUNT, CARD, TIME, recall_targets=(0.5,), k=20, seed=1, resamples=20, weights=weights
    )
    repeated = evaluate(*held, recall_targets=(0.5,), k=20, seed=1, resamples=20)  # type: ignore[arg-type]
    assert weighed.pr_auc.point == pytest.approx(repeated.pr_auc.point)
    assert weighed.roc_auc.point == pytest.approx(repeated.roc_auc.point)
    assert weighed.at_recall[0].false_positives.point == repeated.at_recall[0].false_positives.point
    assert weighed.pr_auc.point != evaluation().pr_auc.point
    assert weighed.card_precision.point == evaluation().card_precision.point
    cut = compare(BASELINE, OURS, IS_FRAUD, TIME, recall=0.7, seed=1, resamples=20, weights=weights)
    same = compare(BASELINE[again], OURS[again], IS_FRAUD[again], TIME[again], recall=0.7, seed=1, resamples=20)
    assert (cut.baseline, cut.ours) == (same.baseline, same.ours)
    assert cut.cut == pytest.approx(same.cut)


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(InvalidMetricInput, match=r"recall target 1\.2"):
        evaluate(OURS, IS_FRAUD, AMOUNT, CARD, TIME, recall_targets=(1.2,), k=20, seed=1, resamples=10)
    with pytest.raises(InvalidMetricInput, match="card has shape"):
        evaluate(OURS, IS_FRAUD, AMOUNT, CARD[1:], TIME, recall_targets=(0.5,), k=20, seed=1, resamples=10)
    with pytest.raises(InvalidMetricInput, match="no value"):
        evaluate(OURS, IS_FRAUD, AMOUNT * 0, CARD, TIME, recall_targets=(0.5,), k=20, seed=1, resamples=10)
    with pytest.raises(InvalidMetricInput, match="recall 0"):
        compare(BASELINE, OURS, IS_FRAUD, TIME, recall=0, seed=1, resamples=10)
