"""What one step writes another reads, bit for bit: rows and what they weigh, the plan with its rules and recipe."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from fraud.policy import Segment
from retraining.exchange import read_rows, write_rows
from retraining.steps import plan_of
from retraining.weekly import WeekPlan
from training.dataset import TrainingSet
from training.fit import RECIPE
from training.policy_rules import PolicyRules

ROWS = TrainingSet(
    features=("a", "b"),
    matrix=np.array([[0.1, np.nan], [2.0, -3.0], [1e-30, 7.0]], np.float32),
    transaction_id=pa.array(["t1", "t2", "t3"]),
    card=np.array([0, 1, 0]),
    event_time_ms=np.array([1, 2, 3]),
    amount_minor=np.array([100, 200, 300]),
    is_fraud=np.array([False, True, False]),
    as_of_ms=9,
)


@pytest.mark.parametrize("weights", [None, np.array([1.0 / 0.3, 0.0, 50.0])], ids=["unweighted", "weighted"])
def test_rows_are_read_as_they_were_written(tmp_path: Path, weights: Any) -> None:
    written = replace(ROWS, weights=weights)
    write_rows(written, tmp_path, {"plan": 1})
    read, about = read_rows(tmp_path)
    for name, value in asdict(written).items():
        found = getattr(read, name)
        if isinstance(value, np.ndarray):
            assert (found.dtype, found.tobytes()) == (value.dtype, value.tobytes())
        else:
            assert found == value
    assert about == {"plan": 1}


def test_a_plan_keeps_its_rules_and_its_recipe_on_the_way_through_a_folder(tmp_path: Path) -> None:
    plan = WeekPlan(
        review_share=0.1 + 0.2,
        rules=PolicyRules(
            missing_outcome="review",
            segments=(Segment("gambling", 0.05, 0.3, merchant_categories=(7995,)),),
            control_share=0.005,
        ),
        recipe=replace(RECIPE, depth=3, learning_rate=1 / 3, increasing=("a",)),
    )
    write_rows(ROWS, tmp_path, {"plan": msgspec.to_builtins(plan)})
    assert plan_of(read_rows(tmp_path)[1]) == plan
