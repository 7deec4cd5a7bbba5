"""A fit is reproducible, its calibration rises, its thresholds keep their budgets; what cannot be fitted is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from fraud.calibration import Calibration
from fraud.features import FEATURE_NAMES
from training.errors import UnfitTrainingSet
from training.fit import (
    BASELINE_FEATURES,
    LEAST_FRAUDS,
    FittedModel,
    Recipe,
    Rows,
    choose_policy,
    fit_calibration,
    fit_model,
)

NAMES = tuple(f"f{number}" for number in range(6))
RECIPE = Recipe(trees=20, depth=3, early_stopping=5)


def rows(seed: int, count: int = 3000) -> Rows:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(count, len(NAMES))).astype(np.float32)
    risk = matrix[:, 0] + 0.5 * matrix[:, 1] + rng.normal(0.0, 1.0, count)
    matrix[rng.random(matrix.shape) < 0.05] = np.nan
    return Rows(matrix, risk > 2.2)


def fitted(seed: int) -> FittedModel:
    return fit_model(rows(1), rows(2), NAMES, seed=seed, recipe=RECIPE)


def test_same_rows_and_seed_give_the_same_bytes() -> None:
    one, other = fitted(7), fitted(7)
    assert one == other
    assert one.model_json != fitted(8).model_json


def test_scores_are_probabilities_in_the_order_of_the_margins() -> None:
    model, test = fitted(7), rows(3)
    margins, scores = model.margins(test.matrix), model.scores(test.matrix)
    assert 0.0 < scores.min() <= scores.max() < 1.0
    order = np.argsort(margins, kind="stable")
    assert (np.diff(scores[order]) >= 0.0).all()
    assert abs(scores.mean() - test.is_fraud.mean()) < 0.01


def test_early_stopping_keeps_fewer_trees_than_it_may() -> None:
    grown: list[tuple[int, int]] = []
    recipe = Recipe(trees=400, depth=6, early_stopping=3)
    model = fit_model(
        rows(1), rows(2), NAMES, seed=1, recipe=recipe, progress=lambda done, of: grown.append((done, of))
    )
    assert model.trees < 400
    assert grown == [(number, 400) for number in range(1, len(grown) + 1)]
    assert model.trees == len(grown) - 3


def test_the_baseline_asks_for_features_that_there_are() -> None:
    assert set(BASELINE_FEATURES) < set(FEATURE_NAMES)
    assert len(set(BASELINE_FEATURES)) == len(BASELINE_FEATURES)


@pytest.mark.parametrize(("frauds", "name"), [(0, "training"), (LEAST_FRAUDS - 1, "training"), (2970, "training")])
def test_one_class_or_too_few_of_one_is_refused_with_its_count(frauds: int, name: str) -> None:
    few = Rows(rows(1).matrix[:2990], np.arange(2990) < frauds)
    with pytest.raises(UnfitTrainingSet, match=f"{name} has {frauds} frauds in 2990 rows; at least {LEAST_FRAUDS}"):
        fit_model(few, rows(2), NAMES, seed=1, recipe=RECIPE)


def test_a_validation_without_frauds_is_named() -> None:
    quiet = Rows(rows(2).matrix, np.zeros(3000, np.bool_))
    with pytest.raises(UnfitTrainingSet, match="validation has 0 frauds in 3000 rows"):
        fit_model(rows(1), quiet, NAMES, seed=1, recipe=RECIPE)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-2.0, 2.0))
def test_calibration_rises_whatever_the_margins_say(seed: int, pull: float) -> None:
    rng = np.random.default_rng(seed)
    margins = rng.normal(size=300)
    is_fraud = rng.random(300) < 1.0 / (1.0 + np.exp(-pull * margins))
    is_fraud[:2] = [True, False]
    assert fit_calibration(margins, is_fraud).slope > 0.0


def test_calibration_brings_distorted_margins_back() -> None:
    rng = np.random.default_rng(5)
    margins = rng.normal(-2.0, 2.0, 40_000)
    is_fraud = rng.random(40_000) < 1.0 / (1.0 + np.exp(-margins))
    found = fit_calibration(3.0 * margins + 1.0, is_fraud)
    assert found.slope == pytest.approx(1 / 3, rel=0.05)
    assert found.intercept == pytest.approx(-1 / 3, abs=0.05)
    against = fit_calibration(-margins, is_fraud)
    assert against == Calibration(1.0, 0.0)


scores_and_labels = st.lists(
    st.tuples(st.sampled_from([0.01, 0.2, 0.2000001, 0.5, 0.9, 0.99]) | st.floats(0.0, 0.999), st.booleans()),
    min_size=1,
    max_size=60,
).filter(lambda pairs: not all(fraud for _, fraud in pairs))


@settings(deadline=None)
@given(scores_and_labels, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_thresholds_keep_both_budgets(pairs: list[tuple[float, bool]], review: float, insult: float) -> None:
    scores, is_fraud = np.array([score for score, _ in pairs]), np.array([fraud for _, fraud in pairs])
    policy = choose_policy(scores, is_fraud, version="p", review_share=review, insult_share=insult)
    assert 0.0 < policy.review_at <= policy.decline_at <= 1.0
    assert (scores >= policy.review_at).sum() <= review * len(scores)
    assert (scores[~is_fraud] >= policy.decline_at).sum() <= insult * (~is_fraud).sum()


def test_a_budget_is_used_as_far_as_it_goes() -> None:
    scores = np.linspace(0.0, 0.99, 1000)
    is_fraud = np.arange(1000) % 2 == 0
    policy = choose_policy(scores, is_fraud, version="p", review_share=0.02, insult_share=0.01)
    assert (scores >= policy.review_at).sum() == 20
    assert (scores[~is_fraud] >= policy.decline_at).sum() == 5


def test_thresholds_need_a_legitimate_row_and_scores_below_one() -> None:
    with pytest.raises(UnfitTrainingSet, match="no legitimate row"):
        choose_policy(np.ones(3), np.ones(3, np.bool_), version="p", review_share=0.1, insult_share=0.1)
    with pytest.raises(UnfitTrainingSet, match=r"more than 0\.1 of 30 validation scores are 1"):
        choose_policy(np.ones(30), np.arange(30) < 3, version="p", review_share=0.1, insult_share=0.1)


def test_a_weight_stands_for_as_many_rows() -> None:
    once, test = rows(1), rows(2)
    weight = np.where(once.is_fraud, 1.0, 3.0)
    places = np.repeat(np.arange(len(weight)), weight.astype(np.int64))
    recipe = Recipe(trees=10, depth=3, subsample=1.0, colsample=1.0, early_stopping=0)
    weighted = fit_model(Rows(once.matrix, once.is_fraud, weight), test, NAMES, seed=1, recipe=recipe)
    repeated = fit_model(Rows(once.matrix[places], once.is_fraud[places]), test, NAMES, seed=1, recipe=recipe)
    plain = fit_model(once, test, NAMES, seed=1, recipe=recipe)
    gap = np.abs(weighted.margins(test.matrix) - repeated.margins(test.matrix)).mean()
    assert gap < 0.2 * np.abs(plain.margins(test.matrix) - repeated.margins(test.matrix)).mean()


def test_thresholds_and_calibration_count_each_row_as_often_as_it_stands_for() -> None:
    rng = np.random.default_rng(3)
    scores = rng.random(400)
    is_fraud = rng.random(400) < scores
    weight = np.where(is_fraud, 1.0, 5.0)
    places = np.repeat(np.arange(400), weight.astype(np.int64))
    budgets = {"version": "p", "review_share": 0.1, "insult_share": 0.02}
    weighted = choose_policy(scores, is_fraud, weight=weight, **budgets)  # type: ignore[arg-type]
    assert (scores >= weighted.review_at) @ weight <= 0.1 * weight.sum()
    repeated = choose_policy(scores[places], is_fraud[places], **budgets)  # type: ignore[arg-type]
    reached = [float((scores >= policy.review_at) @ weight) for policy in (weighted, repeated)]
    assert reached[0] == reached[1]
    margins = np.log(scores / (1.0 - scores))
    one, other = fit_calibration(margins, is_fraud, weights=weight), fit_calibration(margins[places], is_fraud[places])
    assert one.slope == pytest.approx(other.slope, rel=1e-4)
    assert one.intercept == pytest.approx(other.intercept, rel=1e-4)


def test_a_calibration_has_the_same_bits_whatever_threads_there_are() -> None:
    rng = np.random.default_rng(28_000)
    margins = rng.normal(-4.0, 2.0, 28_000)
    is_fraud = rng.random(28_000) < 1.0 / (1.0 + np.exp(-margins))
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            found.append(fit_calibration(margins, is_fraud))
    assert found[0] == found[1]
