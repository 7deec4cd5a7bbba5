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
from simulation.seasons import hour_weights, payday_factor

Kind = Literal["ordinary", "payday"]

PAYDAY: Final = date(2026, 3, 25)
SURGE_HOUR: Final = 18
"""Local hour of the surge: the busiest of a payday."""

NORMAL_PEAK: Final = 2.0 * INSTANCE_RATE
"""Transactions per second in the busiest hour of an ordinary day: what the plan's smallest fleet is sized for."""


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
    """Make a trace, minute by minute, whose hours are those of the world's seasons, joined by straight lines.

    The hours are taken for local hours of the scaling plan's time zone.

    Parameters
    ----------
    kind
        ``payday``: the days up to ``payday``, with a surge on it at 18:00 local; ``ordinary``: the same days of the
        week a fortnight earlier, without.
    payday
        Last day of the trace of a payday.
    days
        Days of the trace.
    normal_peak
        Transactions per second in the busiest hour of the median ordinary day.
    surge
        Factor of the surge over what that hour would have been, for an hour.
    ramp_minutes
        Time in which the surge builds up, and fades after the hour.
    """
    if not 1 <= days <= 60:
        raise InvalidSetting(f"days {days} is not in 1..60")
    if not (normal_peak > 0.0 and surge >= 1.0 and ramp_minutes >= 0):
        raise InvalidSetting(
            f"normal peak {normal_peak} must be positive, surge {surge} >= 1, ramp {ramp_minutes} >= 0"
        )
    last = payday if kind == "payday" else payday - timedelta(days=14)
    zone = ZoneInfo(PLAN.timezone)
    bounds = [
        datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
        for day in (last - timedelta(days=days - 1), last + timedelta(days=1))
    ]
    minutes = np.arange(bounds[0], bounds[1], 60.0)
    hours = _wall_hours(minutes, zone)
    rates = _seasonal(hours, last, days) * normal_peak
    if kind == "payday":
        rush = (days - 1) * 24 + SURGE_HOUR
        ramp = max(ramp_minutes, 1e-6) / 60.0
        rates *= np.interp(hours, [rush, rush + ramp, rush + 1, rush + 1 + ramp], [1.0, surge, surge, 1.0])
    return Trace(np.append(minutes, bounds[1]), rates)


def _wall_hours(minutes: FloatArray, zone: ZoneInfo) -> FloatArray:
    """Return the time that each minute's wall clock shows, in hours since the first local midnight."""
    shown = [datetime.fromtimestamp(minute, zone).replace(tzinfo=UTC).timestamp() for minute in minutes.tolist()]
    return (np.array(shown) - shown[0]) / 3600.0


def _seasonal(hours: FloatArray, last: date, days: int) -> FloatArray:
    """Return the traffic at each wall hour, as a multiple of the busiest hour of the median ordinary day."""
    before = 42  # enough days for a median, whatever the month
    first = last - timedelta(days=days + before)
    weights = hour_weights(WorldConfig(days=days + before + 2, transactions_per_day=100, start=first))
    ordinary = [day for day in range(len(weights)) if payday_factor(first + timedelta(days=day)) == 1.0]
    unit = weights / np.median(weights[ordinary].max(axis=1))
    middle = np.arange(unit.size) - 24 * (before + 1) + 0.5
    shares: FloatArray = np.interp(hours, middle, unit.ravel())
    return shares


def read_trace(path: Path) -> Trace:
    """Read a trace from CSV with the columns ``start`` (ISO 8601, with its offset) and ``rate`` (per second).

    A rate holds until the next row's start, the last one as long as the one before it.

    Raises
    ------
    InvalidSetting
        Not such a file; the message names the line.
    """
    starts: list[float] = []
    rates: list[float] = []
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = csv.DictReader(lines)
            missing = {"start", "rate"} - set(rows.fieldnames or ())
            if missing:
                raise InvalidSetting(
                    f"{path} has no column {' and no '.join(sorted(missing))}; a trace is CSV with the columns start "
                    "(ISO 8601, with its offset) and rate (transactions per second), as 'simulation trace' writes it"
                )
            for row in rows:
                start, rate = _row(row)
                if starts and start <= starts[-1]:
                    raise InvalidSetting(f"{path}, row {len(starts) + 1}: {row['start']} is not after the row before")
                starts.append(start)
                rates.append(rate)
    except OSError as error:
        raise InvalidSetting(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, csv.Error) as error:
        raise InvalidSetting(f"{path}, row {len(starts) + 1}: {error}") from None
    if len(starts) < 2:
        raise InvalidSetting(f"{path}: {len(starts)} rows are no trace; give two or more")
    return Trace(np.array([*starts, 2 * starts[-1] - starts[-2]]), np.array(rates))


def _row(row: dict[str, str]) -> tuple[float, float]:
    moment, rate = datetime.fromisoformat(row["start"]), float(row["rate"])
    if moment.tzinfo is None:
        raise ValueError(f"{row['start']} has no offset from UTC such as +00:00")
    if not 0.0 <= rate < 1e7:
        raise ValueError(f"rate {rate} is not in 0..10000000")
    return moment.timestamp(), rate


def write_trace(trace: Trace, path: Path) -> None:
    """Write a trace as :func:`read_trace` reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["start", "rate"])
        for start, rate in zip(trace.edges[:-1].tolist(), trace.rates.tolist(), strict=True):
            writer.writerow([datetime.fromtimestamp(start, UTC).isoformat(), f"{rate:.3f}"])
