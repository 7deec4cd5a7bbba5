"""A capacity study: the trace once as it is, then its busiest hours again under other circumstances."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from fraud.scaling import PLAN, ScalingPlan
from simulation.capacity import Baselines, Run, baselines, simulate
from simulation.endpoint import Platform
from simulation.service import ServiceTimes
from simulation.traffic import Trace

START_DELAYS: Final = (60.0, 120.0, 240.0, 480.0, 900.0)
BEFORE_S: Final = 3600.0
AFTER_S: Final = 1800.0
"""The busiest hours: this long before the busiest moment and after it."""


@dataclass(frozen=True)
class Variations:
    """What to vary: the payday minimum, the median start delay (s), and whether a zone is lost."""

    minimums: tuple[int, ...] = ()
    start_delays: tuple[float, ...] = START_DELAYS
    zone_loss: bool = True

    @property
    def count(self) -> int:
        """Runs."""
        return len(self.minimums) + len(self.start_delays) + self.zone_loss


@dataclass(frozen=True)
class Circumstance:
    """One thing that is different, and how the busiest hours went then."""

    name: str
    run: Run


@dataclass(frozen=True)
class Study:
    """The trace as it is, what it is compared with, and the other circumstances."""

    trace: Trace
    service: ServiceTimes
    run: Run
    baselines: Baselines
    circumstances: tuple[Circumstance, ...]

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

    def watch(name: str, part: Trace) -> Callable[[float], None]:
        return lambda now: progress(name, part.transactions(part.start, now))

    run = simulate(trace, service, plan=plan, platform=platform, seed=seed, progress=watch("trace", trace))
    hours = busiest_hours(trace)
    others: list[Circumstance] = []
    for delay in variations.start_delays:
        name, other = f"start delay {delay:g} s", replace(platform, start_delay_s=delay)
        result = simulate(hours, service, plan=plan, platform=other, seed=seed, progress=watch(name, hours))
        others.append(Circumstance(name, result))
    for minimum in variations.minimums:
        name, wider = f"payday minimum {minimum}", with_payday_minimum(plan, minimum)
        result = simulate(hours, service, plan=wider, platform=platform, seed=seed, progress=watch(name, hours))
        others.append(Circumstance(name, result))
    if variations.zone_loss:
        name = "a zone lost at the busiest moment"
        lost = simulate(
            hours,
            service,
            plan=plan,
            platform=platform,
            seed=seed,
            zone_lost_at=busiest(trace),
            progress=watch(name, hours),
        )
        others.append(Circumstance(name, lost))
    return Study(trace, service, run, baselines(trace, plan), tuple(others))


def expected_requests(trace: Trace, *, runs: int) -> float:
    """Return how many requests a study with ``runs`` other circumstances goes through, more or less."""
    hours = busiest_hours(trace)
    return trace.transactions(trace.start, trace.end) + runs * hours.transactions(hours.start, hours.end)
