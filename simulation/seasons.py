"""When people pay: the hours of a day, the days of a week, paydays."""

from datetime import date, timedelta
from typing import Final

import numpy as np

from simulation.config import WorldConfig
from simulation.randomness import FloatArray, IntArray

_HOURS: Final = np.array(
    [9, 6, 4, 3, 3, 5, 12, 26, 40, 48, 54, 62, 70, 62, 55, 56, 64, 76, 78, 66, 50, 36, 25, 15], np.float64
)
_WEEKDAYS: Final = np.array([0.92, 0.93, 0.96, 1.0, 1.14, 1.2, 0.85], np.float64)
_ONLINE_LEAN: Final = np.repeat([3.3, 2.4, 1.2, 0.85, 0.8, 0.9, 0.85, 1.2, 1.8, 2.7], [4, 2, 1, 4, 2, 3, 3, 1, 2, 2])
_PAYDAY_FACTORS: Final = {25: 1.35, 26: 1.3, 27: 1.25, 28: 1.2}
_MONTH_END_FACTOR: Final = 1.35
_PAYDAY_RUSH: Final = {12: 1.25, 17: 1.3, 18: 1.4, 19: 1.25}
PAYDAYS: Final = (25, 26, 27, 28, 31)
"""Days of the month on which cards are paid; 31 stands for the last day."""


def calendar(config: WorldConfig) -> list[date]:
    """Return the days of the world in order."""
    return [config.start + timedelta(days=day) for day in range(config.days)]


def is_month_end(day: date) -> bool:
    """Return whether ``day`` is the last of its month."""
    return (day + timedelta(days=1)).month != day.month


def payday_factor(day: date) -> float:
    """Return how much busier ``day`` is because salaries arrived: 1 on most days."""
    return _MONTH_END_FACTOR if is_month_end(day) else _PAYDAY_FACTORS.get(day.day, 1.0)


def hour_weights(config: WorldConfig) -> FloatArray:
    """Return the relative traffic of each hour, shape ``(days, 24)``, with mean 1 before the peak hour's surplus."""
    days = calendar(config)
    paydays = np.array([payday_factor(day) for day in days])
    if config.peak_hour is not None:
        paydays[-1] = _MONTH_END_FACTOR
    weekdays = np.array([_WEEKDAYS[day.weekday()] for day in days])
    rush = np.ones((config.days, 24))
    for hour, factor in _PAYDAY_RUSH.items():
        rush[paydays > 1.0, hour] = factor
    weights = (paydays * weekdays)[:, None] * _HOURS[None, :] * rush
    weights /= weights.mean()
    if config.peak_hour is not None:
        weights[-1, config.peak_hour] *= config.peak_multiplier
    result: FloatArray = weights
    return result


def online_lean(hour: IntArray) -> FloatArray:
    """Return how much likelier than usual a payment at ``hour`` of the day is made remotely."""
    lean: FloatArray = _ONLINE_LEAN[hour]
    return lean


def days_since_payday(config: WorldConfig) -> FloatArray:
    """Return the days since the last payday, shape ``(len(PAYDAYS), days)``, at most 31."""
    days = calendar(config)
    since = np.zeros((len(PAYDAYS), config.days))
    for row, payday in enumerate(PAYDAYS):
        for column, day in enumerate(days):
            since[row, column] = next(
                back for back in range(32) if _is_payday(day - timedelta(days=back), payday) or back == 31
            )
    return since


def _is_payday(day: date, payday: int) -> bool:
    return is_month_end(day) if payday == 31 else day.day == payday
