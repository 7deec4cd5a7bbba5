"""Scores are probabilities and keep the ranking of the margins."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.calibration import Calibration
from fraud.errors import CorruptBundle

calibrations = st.builds(Calibration, st.floats(0.01, 10), st.floats(-10, 10))
steps = st.integers(-20_000, 20_000)


@given(calibrations, st.floats(-1e308, 1e308))
def test_score_is_a_probability_for_any_margin(calibration: Calibration, margin: float) -> None:
    assert 0.0 <= calibration.score(margin) <= 1.0


@given(st.floats(0.5, 2), st.floats(-3, 3), steps, steps)
def test_higher_margin_has_a_strictly_higher_score(slope: float, intercept: float, one: int, other: int) -> None:
    low, high = sorted((one / 2_000, other / 2_000))
    calibration = Calibration(slope, intercept)
    assert (calibration.score(low) < calibration.score(high)) == (low < high)


@given(calibrations, st.floats(-30, 30))
def test_odds_are_the_exponential_of_the_line(calibration: Calibration, margin: float) -> None:
    score = Fraction(calibration.score(margin))
    log_odds = calibration.slope * margin + calibration.intercept
    if -30 < log_odds < 10:
        assert math.log(score / (1 - score)) == pytest.approx(log_odds, rel=1e-9, abs=1e-9)


@given(st.floats(0, 700))
def test_calibration_without_intercept_is_symmetric(margin: float) -> None:
    even = Calibration(1.0, 0.0)
    assert even.score(margin) + even.score(-margin) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [(0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (math.inf, 0.0), (1.0, math.nan), (1.0, -math.inf)],
)
def test_calibration_that_would_not_rise_is_refused(slope: float, intercept: float) -> None:
    with pytest.raises(CorruptBundle, match=rf"slope={slope}, intercept={intercept} is not increasing"):
        Calibration(slope, intercept)
