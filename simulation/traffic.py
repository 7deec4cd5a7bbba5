"""Traffic over time: a trace of rates, from a file or from the seasons of the simulated world."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

import numpy as np

from fraud.errors import InvalidSetting
from fraud.scaling import INSTANCE_RATE, PLAN
from simulation.config import WorldConfig
from simulation.randomness import FloatArray
from simulation.seasons import hour_weights

Kind = Literal["ordinary", "payday", "surge"]
KINDS: Final[tuple[Kind, ...]] = ("ordinary", "payday", "surge")

PAYDAY: Final = date(2026, 3, 25)
SURGE_HOUR: Final = 18
"""Local hour of the surge: the busiest of a payday."""

SURGE_MINUTES: Final = 60
NORMAL_PEAK: Final = 2.0 * INSTANCE_RATE
"""Transactions per second in the busiest minute of an ordinary day: what the plan's smallest fleet is sized for."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Rates of a Poisson stream, constant between moments.

    Parameters
    ----------
    edges
        Ascending moments, epoch seconds, shape ``(n + 1,)``.
    rates
        Transactions per second between them, shape ``(n,)``.
    """

    edges: FloatArray
    rates: FloatArray

    @property
    def start(self) -> float:
        """First moment, epoch seconds."""
        return float(self.edges[0])

    @property
    def end(self) -> float:
        """End of the last interval, epoch seconds."""
        return float(self.edges[-1])

    def transactions(self, start: float, end: float) -> float:
        """Return how many are expected between two moments."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.rates * np.diff(self.edges))])
        return float(np.diff(np.interp([start, end], self.edges, cumulative))[0])

    def between(self, start: float, end: float) -> "Trace":
        """Return the part between two moments of the trace."""
        inside = (self.edges > start) & (self.edges < end)
        edges = np.concatenate([[start], self.edges[inside], [end]])
        return Trace(edges, self.rates[np.searchsorted(self.edges, edges[:-1], side="right") - 1])

    def draw(self, rng: np.random.Generator, step_s: float) -> Iterator[tuple[float, FloatArray]]:
        """Yield the end of each step and the arrivals within it (epoch s, ascending)."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.rates * np.diff(self.edges))])
        steps = np.append(np.arange(self.start, self.end, step_s), self.end)
        reached = np.interp(steps, self.edges, cumulative)
        for number, end in enumerate(steps[1:].tolist()):
            count = int(rng.poisson(reached[number + 1] - reached[number]))
            gaps = np.cumsum(rng.standard_exponential(count + 1))
            share = gaps[:-1] / gaps[-1]
            place = reached[number] + share * (reached[number + 1] - reached[number])
            low = max(int(np.searchsorted(self.edges, steps[number], side="right")) - 1, 0)
            high = int(np.searchsorted(self.edges, end, side="left")) + 1
            yield end, np.interp(place, cumulative[low:high], self.edges[low:high])


def make_trace(
    kind: Kind,
    *,
    payday: date = PAYDAY,
    days: int = 2,
    normal_peak: float = NORMAL_PEAK,
    surge: float = 2.5,
    ramp_minutes: int = 3,
) -> Trace:
    """Make a trace, minute by minute, that ends with ``payday``.

    Hours of the world's seasons are taken for local hours of the scaling plan's time zone, joined by straight lines.

    Parameters
    ----------
    kind
        ``ordinary``: the same days without their paydays; ``payday``: with them and a surge on the last day at
        18:00 local, when everybody is paid at once; ``surge``: ordinary days with the surge.
    payday
        Last day of the trace.
    days
        Days of the trace.
    normal_peak
        Transactions per second in the busiest minute of an ordinary average weekday.
    surge
        Factor of the surge over the minute before it, for an hour.
    ramp_minutes
        Time in which the surge builds up, and fades.
    """
    if not 1 <= days <= 60:
        raise InvalidSetting(f"days {days} is not in 1..60")
    if not (normal_peak > 0.0 and surge >= 1.0 and ramp_minutes >= 0):
        raise InvalidSetting(f"normal peak {normal_peak}, surge {surge}, ramp {ramp_minutes}: too small")
    minutes = _minutes(payday - timedelta(days=days - 1), payday + timedelta(days=1))
    rates = _seasonal(minutes, payday, days, paydays=kind == "payday") * normal_peak
    if kind != "ordinary":
        rates *= _surge(minutes, payday, surge, ramp_minutes)
    return Trace(np.append(minutes, minutes[-1] + 60.0), rates)


def _minutes(first: date, end: date) -> FloatArray:
    zone = ZoneInfo(PLAN.timezone)
    bounds = [datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() for day in (first, end)]
    return np.arange(bounds[0], bounds[1], 60.0)


def _local_hours(minutes: FloatArray) -> FloatArray:
    """Return the local time of each minute as hours since the first local midnight, by the wall clock."""
    zone = ZoneInfo(PLAN.timezone)
    local = [datetime.fromtimestamp(minute, zone).replace(tzinfo=UTC).timestamp() for minute in minutes.tolist()]
    return (np.array(local) - local[0]) / 3600.0


def _seasonal(minutes: FloatArray, payday: date, days: int, *, paydays: bool) -> FloatArray:
    """Return the rate of each minute as a share of an ordinary day's peak."""
    wide = days + 2  # one day around, so that the outer midnights are joined like the others
    start = payday - timedelta(days=days)
    weights = hour_weights(WorldConfig(days=wide, transactions_per_day=100, start=start))
    reference = hour_weights(WorldConfig(days=7, transactions_per_day=100, start=date(2026, 1, 5)))
    if not paydays:
        weights = _without_paydays(weights, reference, start, wide)
    ordinary_peak = reference.mean(axis=0).max() / reference[3].mean()
    unit = weights / _thursday(weights, start) / ordinary_peak
    hours = np.arange(wide * 24) - 24 + 0.5
    return np.interp(_local_hours(minutes), hours, unit.ravel())
