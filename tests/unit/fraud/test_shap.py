"""Attributions are XGBoost's own, and add up to what they explain."""

import json
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from fraud.shap import attributions, explain_with
from fraud.trees import FloatArray, parse_forest, predict_margin

WIDTH = 5


def sample(rows: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    table = np.stack(
        [*(rng.normal(size=rows) for _ in range(3)), rng.poisson(2.0, rows), rng.lognormal(8, 2, rows)], axis=1
    )
    table[rng.random(table.shape) < 0.15] = np.nan
    return table


def fitted(depth: int, rounds: int, **parameters: object) -> xgb.Booster:
    table = sample(1_000, 1)
    filled = np.nan_to_num(table)
    label = (filled[:, 0] * filled[:, 1] + filled[:, 3] / 3 + np.random.default_rng(2).normal(size=1_000) > 1).astype(
        np.float64
    )
    chosen = {"objective": "binary:logistic", "max_depth": depth, "min_child_weight": 0.1, "nthread": 1, **parameters}
    return xgb.train(chosen, xgb.DMatrix(table, label=label, nthread=1), rounds)


def slow_expected_margin(model: dict[str, Any], base_margin: float) -> float:
    """The cover-weighted mean of every tree's leaves, from the JSON."""

    def mean(tree: dict[str, Any], node: int) -> float:
        left, right = tree["left_children"][node], tree["right_children"][node]
        if left == -1:
            return float(tree["split_conditions"][node])
        weights = tree["sum_hessian"][left], tree["sum_hessian"][right]
        return float((mean(tree, left) * weights[0] + mean(tree, right) * weights[1]) / sum(weights))

    return base_margin + sum(mean(tree, 0) for tree in model["learner"]["gradient_booster"]["model"]["trees"])


@pytest.mark.parametrize(("depth", "rounds"), [(1, 9), (2, 20), (3, 40), (6, 40), (9, 15)])
def test_attributions_equal_pred_contribs(depth: int, rounds: int) -> None:
    booster = fitted(depth, rounds)
    table = sample(150, 50)
    expected = booster.predict(xgb.DMatrix(table, nthread=1), pred_contribs=True)
    explainer = explain_with(parse_forest(bytes(booster.save_raw("json"))))
    found = np.stack([attributions(explainer, row) for row in table])
    assert found.shape == (150, WIDTH)
    assert np.abs(found - expected[:, :-1]).max() < 1e-4
    assert np.abs(found).max() > 0.1


@pytest.mark.parametrize("depth", [1, 4, 8])
def test_attributions_add_up_to_margin_minus_expected_margin(depth: int) -> None:
    booster = fitted(depth, 25, base_score=0.05)
    raw = bytes(booster.save_raw("json"))
    forest = parse_forest(raw)
    explainer = explain_with(forest)
    expected = slow_expected_margin(json.loads(raw), float(forest.base_margin))
    for row in [*sample(60, 51), np.full(WIDTH, np.nan)]:
        assert attributions(explainer, row).sum() == pytest.approx(predict_margin(forest, row) - expected, abs=2e-5)


def test_explaining_twice_gives_the_same_bits() -> None:
    explainer = explain_with(parse_forest(bytes(fitted(6, 20).save_raw("json"))))
    row = sample(1, 52)[0]
    assert attributions(explainer, row).tobytes() == attributions(explainer, row).tobytes()


def test_input_that_no_tree_splits_on_has_no_share() -> None:
    booster = fitted(3, 10, interaction_constraints="[[0, 1], [0, 3]]")
    used = set(booster.get_score())
    explainer = explain_with(parse_forest(bytes(booster.save_raw("json"))))
    found = np.stack([attributions(explainer, row) for row in sample(50, 53)])
    for column in range(WIDTH):
        assert (np.abs(found[:, column]).max() > 0.0) == (f"f{column}" in used)
    assert 0 < len(used) < WIDTH


def test_trees_of_one_leaf_explain_nothing() -> None:
    explainer = explain_with(parse_forest(bytes(fitted(4, 5, gamma=1e9).save_raw("json"))))
    assert attributions(explainer, sample(1, 54)[0]).tolist() == [0.0] * WIDTH


@pytest.mark.parametrize(("depth", "onehot"), [(2, 1), (4, 1000), (6, 4), (9, 1)])
def test_attributions_of_categorical_splits_equal_pred_contribs(depth: int, onehot: int) -> None:
    """Several sets of one input on one path are one input's, as several thresholds are."""
    rng = np.random.default_rng(7)
    columns = (rng.integers(0, 40, 1_500), rng.integers(0, 5, 1_500), rng.normal(size=1_500))
    table = np.stack(columns, axis=1).astype(np.float64)
    table[rng.random(table.shape) < 0.1] = np.nan
    label = (np.isin(table[:, 0], rng.choice(40, 15)) + (table[:, 1] == 3) + rng.normal(size=1_500) > 1).astype(float)
    data = xgb.DMatrix(table, label=label, feature_types=["c", "c", "q"], enable_categorical=True, nthread=1)
    chosen = {"objective": "binary:logistic", "max_depth": depth, "max_cat_to_onehot": onehot, "nthread": 1}
    booster = xgb.train({**chosen, "tree_method": "hist", "min_child_weight": 0.1}, data, 25)
    forest = parse_forest(bytes(booster.save_raw("json")))
    expected = booster.predict(data, pred_contribs=True)[:150]
    found = np.stack([attributions(explain_with(forest), row) for row in table[:150]])
    assert len(forest.sets) > 0
    assert np.abs(found - expected[:, :-1]).max() < 1e-4
    assert np.abs(found[:, :2]).max() > 0.1
