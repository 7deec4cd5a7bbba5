"""The frozen baseline is frozen: its numbers are pinned here a second time, and a change of ours does not reach it."""

import numpy as np
import pytest

from training.fit import Recipe
from training.handbook import HandbookTransactions
from training.handbook_baseline import FROZEN_RECIPE, TEST, TRAIN, VALIDATION, frozen_matrix, frozen_model
from training.handbook_protocol import BOOK_FEATURES
from training.ranking import DAY_MS


def test_every_number_is_pinned() -> None:
    assert Recipe(400, 6, 0.1, 5.0, 0.8, 0.8, 1.0, 30) == FROZEN_RECIPE
    spans = [
        [str(np.datetime64(edge, "ms").astype("datetime64[D]")) for edge in (period.start_ms, period.end_ms)]
        for period in (TRAIN, VALIDATION, TEST)
    ]
    assert spans == [["2018-05-15", "2018-08-01"], ["2018-08-08", "2018-08-22"], ["2018-08-29", "2018-10-01"]]
    assert (TRAIN.end_ms - TRAIN.start_ms) // DAY_MS == 78


@pytest.fixture(scope="module")
def world() -> HandbookTransactions:
    rng = np.random.default_rng(1)
    size = 12_000
    time = np.sort(rng.integers(TRAIN.start_ms - 40 * DAY_MS, TEST.end_ms, size))
    amount = rng.integers(100, 10_000, size)
    is_fraud = rng.random(size) < 0.03
    amount[is_fraud] += 6_000
    return HandbookTransactions(
        np.arange(size), rng.integers(0, 200, size), rng.integers(0, 90, size), amount, time, is_fraud,
        is_fraud.astype(np.int64),
    )  # fmt: skip


def test_it_is_fitted_on_its_own_weeks_whatever_comes_after(world: HandbookTransactions) -> None:
    matrix = frozen_matrix(world, label_delay_ms=7 * DAY_MS)
    assert matrix.shape == (12_000, len(BOOK_FEATURES))
    model = frozen_model(world, matrix, seed=0)
    assert model.features == BOOK_FEATURES
    spoiled = matrix.copy()
    spoiled[world.event_time_ms >= VALIDATION.end_ms] = 0.0
    assert frozen_model(world, spoiled, seed=0) == model
    spoiled[world.event_time_ms >= TRAIN.start_ms] = 0.0
    spoiled[::2] = 1.0
    assert frozen_model(world, spoiled, seed=0) != model
