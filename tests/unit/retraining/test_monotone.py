"""More reported fraud never lowers a score: the fit keeps it, the contract says so, the gate looks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fraud.bundle import ModelBundle, open_bundle, pack_bundle
from fraud.errors import CorruptBundle
from fraud.policy import Policy
from retraining.monotone import monotone_checked
from training.bundling import bundle_files
from training.fit import RECIPE, REPORT_FEATURES, FittedModel, Recipe, Rows, fit_model

NAMES = ("merchant_report_count_7d", "amount", "hour")
MATRIX = np.random.default_rng(1).uniform(0, 10, (8000, 3)).astype(np.float32)
MATRIX[::9, 0] = np.nan
# Fraud falls again where many reports are: a fit that is free follows it.
RISK = np.where(MATRIX[:, 0] > 7, -6.0, np.nan_to_num(MATRIX[:, 0]) * 0.7 - 5.0) + MATRIX[:, 1] * 0.2
IS_FRAUD = np.random.default_rng(2).random(len(MATRIX)) < 1 / (1 + np.exp(-RISK))


def fitted(recipe: Recipe) -> FittedModel:
    train, validation = (Rows(MATRIX[half::2], IS_FRAUD[half::2]) for half in (0, 1))
    return fit_model(train, validation, NAMES, seed=0, recipe=replace(recipe, trees=40))


def packed(model: FittedModel) -> dict[str, bytes]:
    return bundle_files(model, Policy("p", 0.5, 0.9), {}, MATRIX, {})


def opened(model: FittedModel) -> ModelBundle:
    return open_bundle(packed(model))


def test_the_recipe_of_the_product_constrains_what_is_reported_and_nothing_else() -> None:
    assert RECIPE.increasing == REPORT_FEATURES
    assert REPORT_FEATURES
    assert all("_report_" in name for name in REPORT_FEATURES)
    model = fitted(RECIPE)
    assert model.increasing == ("merchant_report_count_7d",)
    contract = json.loads(packed(model)["contract.json"])
    assert (contract["features"], contract["increasing"]) == (list(NAMES), list(model.increasing))


def test_a_constrained_fit_keeps_its_promise_in_the_scorers_runtime() -> None:
    check = monotone_checked(opened(fitted(RECIPE)), MATRIX, IS_FRAUD, NAMES[:1])
    assert check.passed, check.evidence
    assert check.evidence == "1 features moved through what occurs in 200 rows: no margin fell"


def test_a_promise_that_the_trees_break_is_refused_and_the_feature_named() -> None:
    free = fitted(replace(RECIPE, increasing=()))
    check = monotone_checked(opened(replace(free, increasing=NAMES[:1])), MATRIX, IS_FRAUD, NAMES[:1])
    assert not check.passed
    assert "1 let the margin fall, merchant_report_count_7d by " in check.evidence


def test_a_contract_that_forgets_what_the_recipe_wants_is_refused() -> None:
    check = monotone_checked(opened(fitted(replace(RECIPE, increasing=()))), MATRIX, IS_FRAUD, NAMES[:1])
    assert not check.passed
    assert "the recipe wants merchant_report_count_7d" in check.evidence


def test_where_nothing_is_promised_nothing_is_asked() -> None:
    free = fitted(replace(RECIPE, increasing=()))
    assert "increasing" not in json.loads(packed(free)["contract.json"])
    assert monotone_checked(opened(free), MATRIX, IS_FRAUD, ()).word == "not asked"


def test_a_contract_cannot_promise_a_feature_that_it_does_not_name() -> None:
    model = fitted(RECIPE)
    files = pack_bundle(
        model_json=model.model_json, features=NAMES, increasing=("nothing",), calibration=model.calibration,
        policy=Policy("p", 0.5, 0.9), plan={}, check_rows=MATRIX[:2].astype(np.float64),
        margins=model.margins(MATRIX[:2]).tolist(), provenance={},
    )  # fmt: skip
    with pytest.raises(CorruptBundle, match="calls 'nothing' increasing"):
        open_bundle(files)
