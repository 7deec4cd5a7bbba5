"""Bounds over few days hold as often as they promise, where percentiles do not."""

import numpy as np
import pytest

from retraining.bounds import LEAST_DAYS, day_bounds, student_quantile


@pytest.mark.parametrize(
    ("degrees", "table"), [(3, 4.541), (4, 3.747), (6, 3.143), (13, 2.650), (29, 2.462), (1000, 2.330)]
)
def test_students_quantile_is_the_tables(degrees: int, table: float) -> None:
    assert student_quantile(0.99, degrees) == pytest.approx(table, rel=0.012)


def test_a_lower_bound_of_seven_noisy_days_is_above_the_truth_as_rarely_as_promised() -> None:
    rng = np.random.default_rng(3)
    above = 0
    for trial in range(1000):
        days = rng.normal(size=7)
        found = day_bounds(lambda weights, d=days: (d @ weights / 7)[None], 7, confidence=0.95, seed=trial)  # type: ignore[misc]
        assert found is not None
        above += found[0].low > 0.0
    assert 25 <= above <= 75


def test_too_few_days_have_no_bound() -> None:
    values = np.ones(LEAST_DAYS - 1)
    assert day_bounds(lambda weights: (values @ weights)[None], len(values), confidence=0.99, seed=0) is None


def test_same_seed_same_bound() -> None:
    values = np.arange(9.0)
    found = [day_bounds(lambda weights: (values @ weights)[None], 9, confidence=0.9, seed=4) for _ in range(2)]
    assert found[0] == found[1]
