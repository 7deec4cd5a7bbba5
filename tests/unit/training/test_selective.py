"""Those who were let through speak for those who were not, in the fit, its calibration and its ranking."""

import numpy as np
import pyarrow as pa
import pytest

from training.errors import InvalidMetricInput, UnfitTrainingSet
from training.fit import Recipe, Rows, fit_model
from training.metrics import average_precision, false_positives_at_recall
from training.ranking import rank
from training.selective import selection_weights, weights_of

RNG = np.random.default_rng(4)


def test_a_weighted_rate_is_the_rate_before_anything_was_declined() -> None:
    size = 200_000
    risk = RNG.random(size)
    is_fraud = RNG.random(size) < 0.2 * risk
    would_decline = risk > 0.8
    drawn = RNG.random(size) < 0.1
    outcome = np.where(would_decline & ~drawn, "decline", "approve")
    propensity = np.where(would_decline, np.where(drawn, 0.1, 0.9), 1.0)
    found = selection_weights(outcome, propensity)
    seen = outcome != "decline"
    assert np.average(is_fraud, weights=found.weights) == pytest.approx(is_fraud.mean(), rel=0.03)
    assert is_fraud[seen].mean() < 0.85 * is_fraud.mean()
    assert found.observed == seen.sum()
    assert found.clipped == 0
    assert found.effective_sample_size < found.observed


def test_weights_are_cut_and_counted() -> None:
    outcome = np.array(["approve", "approve", "decline"])
    found = selection_weights(outcome, np.array([1.0, 0.001, 0.999]), largest=20.0)
    assert found.weights.tolist() == [1.0, 20.0, 0.0]
    assert (found.observed, found.clipped) == (2, 1)
    assert found.effective_sample_size == pytest.approx(21.0**2 / 401.0)


@pytest.mark.parametrize(
    ("outcome", "propensity", "largest", "sentence"),
    [
        (["approve"], [0.0], 5.0, r"propensity 0\.0 of row 0 is not in \(0, 1\]"),
        (["approve", "review"], [1.0, np.nan], 5.0, "propensity nan of row 1"),
        (["approve"], [1.0, 1.0], 5.0, "propensity has shape"),
        (["approve"], [1.0], 0.5, r"largest weight 0\.5 is below 1"),
        (["decline", "decline"], [1.0, 1.0], 5.0, "all 2 transactions were declined"),
    ],
)
def test_what_cannot_be_weighed_is_refused(
    outcome: list[str], propensity: list[float], largest: float, sentence: str
) -> None:
    with pytest.raises(InvalidMetricInput, match=sentence):
        selection_weights(np.array(outcome), np.array(propensity), largest=largest)


def test_the_newest_decision_counts_and_an_undecided_row_weighs_one() -> None:
    decisions = pa.table(
        {
            "transaction_id": ["a", "b", "a"],
            "outcome": ["decline", "approve", "approve"],
            "propensity": [0.9, 0.25, 0.1],
        }
    )
    found = weights_of(decisions, pa.array(["b", "nobody", "a"]))
    assert found.weights.tolist() == [4.0, 1.0, 10.0]


def test_a_whole_weight_is_that_many_repeated_rows_in_every_ranking_measure() -> None:
    scores = RNG.random(500).round(2)
    is_fraud = RNG.random(500) < 0.2
    weights = RNG.integers(0, 4, 500)
    repeated = np.repeat(np.arange(500), weights)
    curve = rank(scores, is_fraud, weights=weights.astype(np.float64)).curve()
    assert curve.average_precision()[0] == pytest.approx(average_precision(scores[repeated], is_fraud[repeated]))
    for recall in (0.3, 0.7, 1.0):
        expected = false_positives_at_recall(scores[repeated], is_fraud[repeated], recall=recall)
        assert curve.false_positives_at_recall(recall)[0] == expected
    fractional = rank(scores, is_fraud, weights=np.asarray(weights * 0.37, np.float64)).curve()
    assert np.isfinite(fractional.false_positives_at_recall(1.0)[0])


def test_a_weight_that_is_none_is_refused() -> None:
    is_fraud = np.array([True, False])
    for weights in (np.array([1.0, -1.0]), np.array([1.0, np.nan]), np.array([0.0, 1.0])):
        with pytest.raises(InvalidMetricInput, match="weights must be finite"):
            rank(np.array([0.2, 0.1]), is_fraud, weights=weights)


def test_a_fit_with_weights_is_calibrated_to_all_and_not_to_those_let_through() -> None:
    def world(seed: int) -> tuple[Rows, Rows]:
        rng = np.random.default_rng(seed)
        matrix = rng.normal(size=(30_000, 3)).astype(np.float32)
        is_fraud = rng.random(30_000) < 1.0 / (1.0 + np.exp(3.0 - 1.5 * matrix[:, 0]))
        risky = matrix[:, 0] > 1.0
        drawn = rng.random(30_000) < 0.2
        outcome = np.where(risky & ~drawn, "decline", "approve")
        weights = selection_weights(outcome, np.where(risky, np.where(drawn, 0.2, 0.8), 1.0)).weights
        seen = weights > 0
        return Rows(matrix, is_fraud, weights), Rows(matrix[seen], is_fraud[seen])

    names, recipe = ("a", "b", "c"), Recipe(trees=60, depth=3, early_stopping=10)
    weighted = fit_model(world(1)[0], world(2)[0], names, seed=0, recipe=recipe)
    blind = fit_model(world(1)[1], world(2)[1], names, seed=0, recipe=recipe)
    test = world(3)[0]
    assert weighted.scores(test.matrix).mean() == pytest.approx(test.is_fraud.mean(), rel=0.06)
    assert blind != weighted
    unweighted = fit_model(Rows(world(1)[0].matrix, world(1)[0].is_fraud), world(2)[0], names, seed=0, recipe=recipe)
    assert unweighted.model_json != weighted.model_json


def test_frauds_that_weigh_nothing_do_not_count_as_enough() -> None:
    is_fraud = np.arange(400) < 60
    rows = Rows(RNG.normal(size=(400, 2)).astype(np.float32), is_fraud, np.where(is_fraud, 0.0, 1.0))
    with pytest.raises(UnfitTrainingSet, match="training has 0 frauds in 340 rows"):
        fit_model(rows, rows, ("a", "b"), seed=0)
