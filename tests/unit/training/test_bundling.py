"""A bundle reproduces the rows recorded in it, and its digests name what it was made of."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fraud.bundle import open_bundle
from fraud.errors import CorruptBundle
from fraud.features import FEATURE_NAMES
from fraud.policy import Policy
from stores.plan import plan_data
from tests.support.bundles import read_plan
from training.bundling import CHECK_ROWS, bundle_files, code_digest, data_digest
from training.dataset import TrainingSet
from training.fit import FittedModel, Recipe, Rows, fit_model

WIDTH = len(FEATURE_NAMES)


def some_rows(seed: int, count: int = 2500) -> Rows:
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(1.0, 100.0, (count, WIDTH)).astype(np.float32)
    risk = matrix[:, :5].sum(axis=1) + rng.normal(0.0, 100.0, count)
    matrix[rng.random(matrix.shape) < 0.2] = np.nan
    return Rows(matrix, risk > np.quantile(risk, 0.95))


@pytest.fixture(scope="module")
def model() -> FittedModel:
    recipe = Recipe(trees=30, depth=5, early_stopping=10)
    return fit_model(some_rows(1), some_rows(2), FEATURE_NAMES, seed=3, recipe=recipe)


def files(model: FittedModel, rows: Rows) -> dict[str, bytes]:
    plan = plan_data(read_plan())
    return bundle_files(model, Policy("p", 0.2, 0.5), plan, rows.matrix, {"seed": 3})


def test_recorded_rows_reproduce_and_so_does_every_other(model: FittedModel) -> None:
    bundle = open_bundle(files(model, some_rows(1)))
    assert bundle.features == FEATURE_NAMES
    fresh = some_rows(9).matrix[:200]
    ours = [bundle.score(row) for row in fresh.astype(np.float64)]
    np.testing.assert_allclose(ours, model.scores(fresh), rtol=0, atol=1e-12)


def test_rows_are_recorded_over_the_whole_set_and_never_twice(model: FittedModel) -> None:
    many, few = files(model, some_rows(1)), files(model, Rows(some_rows(1).matrix[:5], some_rows(1).is_fraud[:5]))
    assert many["checks.json"].count(b'"margin"') == CHECK_ROWS
    assert few["checks.json"].count(b'"margin"') == 5


def test_same_model_gives_the_same_version_and_a_flipped_byte_is_refused(model: FittedModel) -> None:
    one, other = files(model, some_rows(1)), files(model, some_rows(1))
    assert one == other
    for name, content in one.items():
        broken = bytes([content[0] ^ 1]) + content[1:]
        with pytest.raises(CorruptBundle, match=name if name != "manifest.json" else "manifest"):
            open_bundle({**one, name: broken})


def training_set(rows: Rows) -> TrainingSet:
    count = len(rows.is_fraud)
    return TrainingSet(
        features=FEATURE_NAMES,
        matrix=rows.matrix,
        transaction_id=pa.array([str(number) for number in range(count)]),
        card=np.zeros(count, np.int64),
        event_time_ms=np.arange(count, dtype=np.int64),
        amount_minor=np.ones(count, np.int64),
        is_fraud=rows.is_fraud,
        as_of_ms=count,
    )


def test_data_digest_sees_every_value_and_label_of_its_rows_and_no_other() -> None:
    rows, taken = some_rows(1, 100), slice(10, 90)
    before = data_digest(training_set(rows), taken)
    assert before == data_digest(training_set(some_rows(1, 100)), taken)
    value, label, outside = some_rows(1, 100), some_rows(1, 100), some_rows(1, 100)
    value.matrix[50, 3] = 123.0
    label.is_fraud[50] = not label.is_fraud[50]
    outside.matrix[5, 3] = 123.0
    assert data_digest(training_set(value), taken) != before
    assert data_digest(training_set(label), taken) != before
    assert data_digest(training_set(outside), taken) == before


def test_code_digest_follows_the_code_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "fraud").mkdir()
    (tmp_path / "training").mkdir()
    (tmp_path / "fraud" / "a.py").write_text("one")
    before = code_digest(tmp_path)
    (tmp_path / "fraud" / "notes.md").write_text("not code")
    assert code_digest(tmp_path) == before
    (tmp_path / "training" / "b.py").write_text("two")
    assert code_digest(tmp_path) != before
