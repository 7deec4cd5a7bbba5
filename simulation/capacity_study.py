"""A capacity study: the trace once as it is, then its busiest hours again under other circumstances.

What an account has to show, how much an instance manages and how long one takes to start, is varied together over the
minutes around the steepest rise: there the fleet is on its own until the first new instance opens.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Final

import numpy as np

from fraud.scaling import INSTANCE_RATE, PLAN, ScalingPlan
from simulation.capacity import Baselines, Run, baselines, simulate
from simulation.endpoint import Platform
from simulation.service import ServiceTimes
from simulation.traffic import Trace

START_DELAYS: Final = (120.0, 240.0, 480.0, 900.0)
SATURATIONS: Final = tuple(share * INSTANCE_RATE for share in (0.6, 0.7, 0.85, 1.0, 2.0))
"""Requests per second at which an instance may turn out to saturate, beside the rate of the study."""

BEFORE_S: Final = 3600.0
AFTER_S: Final = 1800.0
"""The busiest hours: this long before the busiest moment and after it."""

LOST_AT_PEAK: Final = "a zone lost at the busiest moment"
LOST_IN_RISE: Final = "a zone lost at the end of the steepest rise"

RISE_S: Final = 300.0
RISE_BEFORE_S: Final = 900.0
RISE_AFTER_S: Final = 1800.0
"""The steepest rise is one of five minutes; it is looked at from so long before its end to so long after it."""


@dataclass(frozen=True)
class Variations:
    """What to vary.

    Parameters
    ----------
    minimums
        Of paydays, in instances.
    saturations, start_delays
        Requests per second at which an instance saturates, and median seconds until a new one takes requests: each
        with each.
    zone_loss
        Whether a zone is lost, at the busiest moment and at the end of the steepest rise.
    """

    minimums: tuple[int, ...] = ()
    saturations: tuple[float, ...] = SATURATIONS
    start_delays: tuple[float, ...] = START_DELAYS
    zone_loss: bool = True

    @property
    def runs(self) -> tuple[int, int]:
        """Runs of the busiest hours, and of the steepest rise."""
        return len(self.minimums) + 2 * self.zone_loss, len(self.saturations) * len(self.start_delays)


@dataclass(frozen=True)
class Circumstance:
    """One thing that is different, and how the busiest hours went then."""

    name: str
    run: Run


@dataclass(frozen=True)
class Cell:
    """How the steepest rise went when instances saturate at ``rate`` and start within ``start_delay_s``."""

    rate: float
    start_delay_s: float
    run: Run


@dataclass(frozen=True)
class Study:
    """The trace as it is, what it is compared with, and the other circumstances."""

    trace: Trace
    service: ServiceTimes
    run: Run
    baselines: Baselines
    circumstances: tuple[Circumstance, ...]
    sensitivity: tuple[Cell, ...]

    @property
    def saved(self) -> float:
        """Share of the instance-hours of a fleet provisioned for the peak that autoscaling does without."""
        return 1.0 - self.run.instance_hours / self.baselines.peak_hours


def busiest(trace: Trace) -> float:
    """Return the first moment of the trace's highest rate (epoch s)."""
    return float(trace.edges[int(np.argmax(trace.rates))])


def busiest_hours(trace: Trace) -> Trace:
    """Return the trace around its busiest moment."""
    peak = busiest(trace)
    return trace.between(max(trace.start, peak - BEFORE_S), min(trace.end, peak + AFTER_S))


def steepest(trace: Trace) -> float:
    """Return the moment at which the rate is highest above what it was five minutes before (epoch s)."""
    starts = trace.edges[:-1]
    before = np.searchsorted(starts, starts - RISE_S, side="right") - 1
    rises = trace.rates - trace.rates[np.maximum(before, 0)]
    return float(starts[int(np.argmax(rises))])


def steepest_rise(trace: Trace) -> Trace:
    """Return the trace around its steepest rise."""
    end = steepest(trace)
    return trace.between(max(trace.start, end - RISE_BEFORE_S), min(trace.end, end + RISE_AFTER_S))


def with_payday_minimum(plan: ScalingPlan, instances: int) -> ScalingPlan:
    """Return the plan with another minimum on the month's peaks."""
    return replace(plan, monthly=tuple(replace(peak, min_instances=instances) for peak in plan.monthly))


def study(
    trace: Trace,
    service: ServiceTimes,
    *,
    platform: Platform,
    plan: ScalingPlan = PLAN,
    seed: int = 7,
    variations: Variations,
    progress: Callable[[str, float], None] = lambda _name, _requests: None,
) -> Study:
    """Run a trace, and its busiest hours again under each variation.

    Parameters
    ----------
    progress
        Called with the name of the run and the requests that it has behind it, more or less.
    """

    def go(name: str, part: Trace, times: ServiceTimes = service, **changed: Any) -> Run:
        said = partial(_report, progress, name, part)
        return simulate(part, times, **{"plan": plan, "platform": platform, "seed": seed, "progress": said, **changed})

    run, hours, rise = go("the trace", trace), busiest_hours(trace), steepest_rise(trace)
    others: list[Circumstance] = []
    for minimum in variations.minimums:
        name = f"payday minimum {minimum}"
        others.append(Circumstance(name, go(name, hours, plan=with_payday_minimum(plan, minimum))))
    if variations.zone_loss:
        for name, moment in ((LOST_AT_PEAK, busiest(trace)), (LOST_IN_RISE, steepest(trace))):
            others.append(Circumstance(name, go(name, hours, zone_lost_at=moment)))
    cells: list[Cell] = []
    for rate, delay in product(variations.saturations, variations.start_delays):
        name = f"{rate:,.0f}/s an instance, start delay {delay:g} s"
        times = service.saturating_at(rate, workers=platform.workers)
        cells.append(Cell(rate, delay, go(name, rise, times, platform=replace(platform, start_delay_s=delay))))
    return Study(trace, service, run, baselines(trace, plan), tuple(others), tuple(cells))


def _report(progress: Callable[[str, float], None], name: str, part: Trace, now: float) -> None:
    progress(name, part.transactions(part.start, now))


def expected_requests(trace: Trace, variations: Variations) -> float:
    """Return how many requests a study goes through, more or less."""
    hours, rise = busiest_hours(trace), steepest_rise(trace)
    parts = zip((1, *variations.runs), (trace, hours, rise), strict=True)
    return sum(runs * part.transactions(part.start, part.end) for runs, part in parts)
