"""Seeds that find the same model agree; where the luck of the draw decides, they do not."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from fraud.windows import DAY
from retraining.seeds import SPREAD, seeds_agree
from training.challenger import TrainingPlan
from training.dataset import TrainingSet
from training.fit import Recipe

PLAN = TrainingPlan(10, 5, 5, 0, recipe=Recipe(trees=20, early_stopping=5))
AS_OF_MS = 20 * DAY


def world(strength: float) -> TrainingSet:
    rng = np.random.default_rng(1)
    count = 20_000
    matrix = rng.normal(size=(count, 6)).astype(np.float32)
    return TrainingSet(
        features=tuple("abcdef"),
        matrix=matrix,
        transaction_id=pa.array([f"t{number}" for number in range(count)]),
        card=rng.integers(0, 99, count),
        event_time_ms=np.arange(count) * (AS_OF_MS // count),
        amount_minor=rng.integers(1, 999, count),
        is_fraud=rng.random(count) < 1 / (1 + np.exp(6.0 - strength * matrix[:, 0])),
        as_of_ms=AS_OF_MS,
    )


def test_a_clear_signal_is_found_by_every_seed() -> None:
    check = seeds_agree(world(4.0), PLAN, as_of_ms=AS_OF_MS)
    assert check.passed, check.evidence
    assert check.evidence.startswith("PR-AUC of 3 seeds 0.")


def test_a_recipe_that_gambles_is_refused_for_its_spread() -> None:
    lucky = replace(PLAN, recipe=Recipe(trees=1, depth=3, colsample=0.17, early_stopping=0))
    check = seeds_agree(world(4.0), lucky, as_of_ms=AS_OF_MS, others=4)
    assert not check.passed
    assert f"{SPREAD:.0%} allowed" in check.evidence


def test_without_a_held_out_fraud_there_is_nothing_to_agree_on() -> None:
    rows = world(4.0)
    rows.is_fraud[rows.between(15 * DAY, 20 * DAY)] = False
    check = seeds_agree(rows, PLAN, as_of_ms=AS_OF_MS)
    assert not check.passed
    assert check.evidence == "0 frauds in 5000 held-out rows"
