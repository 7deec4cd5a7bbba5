from datetime import date

import numpy as np
import pytest

from simulation.config import WorldConfig
from simulation.seasons import PAYDAYS, days_since_payday, hour_weights, payday_factor


def test_traffic_averages_one_before_the_surplus() -> None:
    assert hour_weights(WorldConfig(days=40, transactions_per_day=100)).mean() == pytest.approx(1.0)


def test_noon_is_busier_than_night_and_saturday_than_monday() -> None:
    weights = hour_weights(WorldConfig(days=14, transactions_per_day=100, start=date(2026, 1, 5)))
    assert np.all(weights[:, 12] > 5 * weights[:, 3])
    assert weights[5].sum() > 1.2 * weights[0].sum()


@pytest.mark.parametrize(
    ("day", "busier"),
    [(date(2026, 1, 24), False), (date(2026, 1, 25), True), (date(2026, 1, 31), True), (date(2026, 2, 28), True)],
)
def test_paydays_are_the_25th_to_28th_and_the_end_of_the_month(day: date, *, busier: bool) -> None:
    assert (payday_factor(day) > 1.0) is busier


def test_peak_hour_multiplies_one_hour_of_the_last_day() -> None:
    plain = hour_weights(WorldConfig(days=3, transactions_per_day=100, peak_hour=18, peak_multiplier=1.0))
    peak = hour_weights(WorldConfig(days=3, transactions_per_day=100, peak_hour=18, peak_multiplier=4.0))
    ratio = peak / plain
    assert ratio[2, 18] == pytest.approx(4.0)
    ratio[2, 18] = 1.0
    assert np.allclose(ratio, 1.0)


def test_days_since_payday_count_from_zero_on_the_day_itself() -> None:
    since = days_since_payday(WorldConfig(days=60, transactions_per_day=100, start=date(2026, 1, 5)))
    assert since.shape == (len(PAYDAYS), 60)
    assert since[0, 20] == 0  # 25 January
    assert since[0, 21] == 1
    assert since[0, 0] == 11  # 5 January, paid on 25 December
    assert since[PAYDAYS.index(31), 26] == 0  # 31 January
    assert since[PAYDAYS.index(31), 54] == 0  # 28 February
