"""The instances of a scoring endpoint over time: starting, open, closed; their zones and their hours."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from fraud.errors import InvalidSetting

Z95: Final = 1.6448536269514722
"""Standard normal quantile at 0.95."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What the simulation assumes of the platform: only an account can show these.

    Parameters
    ----------
    workers
        Requests that one instance works on at the same time: the scorer is one process with one event loop.
    overhead_ms
        Added to every request by the platform in front of the container.
    start_delay_s, start_delay_p95
        Median time from asking for an instance until it takes requests, and how many times longer one in twenty takes
        (lognormal).
    publish_periods
        Age of a metric's value when an alarm sees it, in its own periods.
    one_update_at_a_time
        An endpoint that is updating refuses another change of its size.
    price_per_hour
        Of one instance, in US dollars, from when it is asked for until it is closed.
    deadline_ms
        Latency above which a request counts as late.
    """

    workers: int = 1
    overhead_ms: float = 5.0
    start_delay_s: float = 240.0
    start_delay_p95: float = 1.5
    publish_periods: float = 1.0
    one_update_at_a_time: bool = True
    price_per_hour: float = 0.12
    deadline_ms: float = 100.0

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range."""
        for name, low, high in (
            ("workers", 1, 256),
            ("overhead_ms", 0.0, 1e4),
            ("start_delay_s", 0.0, 7200.0),
            ("start_delay_p95", 1.0, 10.0),
            ("publish_periods", 0.0, 10.0),
            ("price_per_hour", 0.0, 1e3),
            ("deadline_ms", 1.0, 1e5),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidSetting(f"{name} {value} is not in {low}..{high}")

    def draw_start_delay(self, rng: np.random.Generator) -> float:
        """Return the time (s) that one instance takes to start."""
        return float(self.start_delay_s * self.start_delay_p95 ** (rng.standard_normal() / Z95))


@dataclass
class _Instance:
    zone: int
    asked_at: float
    ready_at: float
    closed_at: float | None = None


@dataclass
class Endpoint:
    """Instances numbered from 0 in the order they were asked for, spread evenly over the zones that are up.

    Parameters
    ----------
    platform
        Its start delays.
    zones
        How many there are.
    rng
        Draws the start delays.
    """

    platform: Platform
    zones: int
    rng: np.random.Generator
    open: list[int] = field(default_factory=list)
    starting: list[int] = field(default_factory=list)
    _all: list[_Instance] = field(default_factory=list)
    _lost_zones: set[int] = field(default_factory=set)

    @property
    def size(self) -> int:
        """Instances open or starting."""
        return len(self.open) + len(self.starting)

    @property
    def ever(self) -> int:
        """Instances ever asked for."""
        return len(self._all)

    def start(self, count: int, now: float, *, at_once: bool = False) -> None:
        """Ask for ``count`` more; with ``at_once`` they are open already."""
        for _ in range(count):
            delay = 0.0 if at_once else self.platform.draw_start_delay(self.rng)
            self._all.append(_Instance(self._emptiest_zone(), now, now + delay))
            self.starting.append(self.ever - 1)
        self.open_ready(now)

    def open_ready(self, now: float) -> None:
        """Open the instances whose start is over."""
        ready = [number for number in self.starting if self._all[number].ready_at <= now]
        self.starting = [number for number in self.starting if self._all[number].ready_at > now]
        self.open += ready

    def close(self, count: int, now: float) -> None:
        """Close ``count`` open instances, each time the newest of the fullest zone; one always stays."""
        for _ in range(min(count, len(self.open) - 1)):
            population = self._population()
            number = max(self.open, key=lambda number: (population[self._all[number].zone], number))
            self._shut(number, now)

    def lose_zone(self, now: float) -> int:
        """Close all of the fullest zone for good, unless it is the only one; return how many were open."""
        population = self._population()
        zone = max(range(self.zones), key=lambda zone: (population[zone], -zone))
        gone = [number for number in (*self.open, *self.starting) if self._all[number].zone == zone]
        lost = sum(number in self.open for number in gone)
        if lost == len(self.open):
            raise InvalidSetting(f"all {lost} open instances are in one zone; nothing would be left")
        self._lost_zones.add(zone)
        for number in gone:
            self._shut(number, now)
        return lost

    def hours(self, until: float) -> float:
        """Return the instance-hours paid for until ``until`` (epoch s)."""
        ends = [until if instance.closed_at is None else instance.closed_at for instance in self._all]
        return sum(end - instance.asked_at for end, instance in zip(ends, self._all, strict=True)) / 3600.0

    def _shut(self, number: int, now: float) -> None:
        (self.open if number in self.open else self.starting).remove(number)
        self._all[number].closed_at = now

    def _population(self) -> list[int]:
        population = [0] * self.zones
        for number in (*self.open, *self.starting):
            population[self._all[number].zone] += 1
        return population

    def _emptiest_zone(self) -> int:
        population = self._population()
        up = [zone for zone in range(self.zones) if zone not in self._lost_zones]
        return min(up, key=lambda zone: (population[zone], zone))
