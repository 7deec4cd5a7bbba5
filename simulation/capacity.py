"""The capacity model: a trace of traffic against an endpoint under its scaling plan, request by request.

What is exact: routing, queues and latencies of every request, metric periods, alarms, cooldowns, the schedule. What is
assumed stands in :class:`~simulation.endpoint.Platform`. What it does not do: fail requests, retry them, or let one
instance be slower than another.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from fraud.scaling import PLAN, ScalingPlan
from simulation.autoscaling import Autoscaler, Datapoint
from simulation.endpoint import Endpoint, Platform
from simulation.percentiles import BUCKETS, percentile, share_above, tally
from simulation.queueing import Fleet
from simulation.randomness import FloatArray, IntArray, stream
from simulation.service import ServiceTimes, idle_fleet
from simulation.traffic import Trace

MINUTE_S: Final = 60.0
STEP_S: Final = 10.0
"""Control acts, and instances come and go, at multiples of this: the period of the finest metric."""

INVOCATIONS_METRIC: Final = "SageMakerVariantInvocationsPerInstance"
CONCURRENCY_METRIC: Final = "SageMakerVariantConcurrentRequestsPerModelHighResolution"
ALIASES: Final = {INVOCATIONS_METRIC: "InvocationsPerInstance", CONCURRENCY_METRIC: "ConcurrentRequestsPerModel"}


@dataclass(frozen=True)
class Minute:
    """One minute of a run: requests that arrived in it; latencies (ms) of those answered in it, NaN when none were."""

    start: float
    requests: int
    p50: float
    p95: float
    p99: float
    late: float
    open: int
    size: int
    minimum: int


@dataclass(frozen=True, eq=False)
class Run:
    """What came of a trace.

    Parameters
    ----------
    minutes
        In order.
    buckets
        Tally of all latencies (s).
    requests
        Arrivals; each was served once.
    instance_hours
        Paid for.
    """

    minutes: tuple[Minute, ...]
    buckets: IntArray
    requests: int
    instance_hours: float
    platform: Platform

    def latency_ms(self, share: float) -> float:
        """Return a percentile of all latencies."""
        return percentile(self.buckets, share) * 1e3

    @property
    def worst(self) -> Minute:
        """The minute with the highest p95."""
        return max((minute for minute in self.minutes if not math.isnan(minute.p95)), key=lambda minute: minute.p95)

    @property
    def late_share(self) -> float:
        """Share of all requests over the deadline."""
        return share_above(self.buckets, self.platform.deadline_ms / 1e3)

    @property
    def minutes_over(self) -> int:
        """Minutes whose p95 is over the deadline."""
        return sum(minute.p95 > self.platform.deadline_ms for minute in self.minutes)

    @property
    def most_open(self) -> int:
        """Largest number of open instances."""
        return max(minute.open for minute in self.minutes)


@dataclass(frozen=True)
class Baselines:
    """Instance-hours of two other ways to size the fleet, both at the plan's target rate per instance.

    Parameters
    ----------
    peak_fleet, peak_hours
        As many as the busiest minute needs, all the time.
    foresight_hours
        In each minute as many as that minute needs, never fewer than the plan's limit: perfect knowledge, no delay.
    """

    peak_fleet: int
    peak_hours: float
    foresight_hours: float


def target_rate(plan: ScalingPlan) -> float:
    """Return the requests per second and instance that the plan aims at."""
    policy = next(policy for policy in plan.tracking if policy.metric == INVOCATIONS_METRIC)
    return policy.target / policy.period_s


def baselines(trace: Trace, plan: ScalingPlan) -> Baselines:
    """Return what the trace would cost without autoscaling, and with perfect foresight."""
    edges = np.append(np.arange(trace.start, trace.end, MINUTE_S), trace.end)
    expected = [trace.transactions(start, end) for start, end in pairwise(edges.tolist())]
    needed = np.ceil(np.array(expected) / np.diff(edges) / target_rate(plan) - 1e-9)
    fleets = np.maximum(needed, plan.limits.min_instances)
    hours = (trace.end - trace.start) / 3600.0
    peak = int(fleets.max())
    return Baselines(peak, peak * hours, float((fleets * np.diff(edges)).sum() / 3600.0))


class _Minutes:
    """Collects steps into minutes."""

    def __init__(self, start: float) -> None:
        self.done: list[Minute] = []
        self.total = np.zeros(BUCKETS, np.int64)
        self._start = start
        self._arrived = 0
        self._buckets = np.zeros(BUCKETS, np.int64)

    def add(self, arrived: int, latency: FloatArray) -> None:
        self._arrived += arrived
        self._buckets += tally(latency)

    def close(self, now: float, *, endpoint: Endpoint, minimum: int) -> int:
        """End the minute at ``now``; return its requests."""
        buckets = self._buckets
        p50, p95, p99 = (percentile(buckets, share) * 1e3 for share in (0.5, 0.95, 0.99))
        late = share_above(buckets, endpoint.platform.deadline_ms / 1e3)
        count = self._arrived
        opened = len(endpoint.open)
        self.done.append(Minute(self._start, count, p50, p95, p99, late, opened, endpoint.size, minimum))
        self.total += buckets
        self._arrived = 0
        self._buckets = np.zeros(BUCKETS, np.int64)
        self._start = now
        return count


def simulate(
    trace: Trace,
    service: ServiceTimes,
    *,
    plan: ScalingPlan = PLAN,
    platform: Platform | None = None,
    seed: int = 7,
    zone_lost_at: float | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Run:
    """Run a trace through the endpoint under the plan.

    Parameters
    ----------
    trace
        Its steps and those of control begin together; the fleet begins as large as the first minute needs.
    service
        Times of one request; the platform's overhead comes on top.
    seed
        The same seed gives the same run.
    zone_lost_at
        When the fullest zone goes away for good (epoch s); its instances finish what they had and are replaced.
    progress
        Called with the simulated moment (epoch s) after each minute.
    """
    platform = platform or Platform()
    first = trace.transactions(trace.start, min(trace.start + MINUTE_S, trace.end)) / MINUTE_S
    begin = max(plan.minimum_at(round(trace.start * 1000)), math.ceil(first / target_rate(plan)))
    begin = min(begin, plan.limits.max_instances)
    endpoint = Endpoint(platform, plan.limits.zones, stream(seed, "start delays"))
    endpoint.start(begin, trace.start, at_once=True)
    fleet = idle_fleet(service, instances=begin, workers=platform.workers)
    control = _Control(plan, endpoint, fleet, trace.start)
    arrivals_rng, service_rng = stream(seed, "arrivals"), stream(seed, "service times")
    minutes, requests = control.minutes, 0
    for now, arrivals in trace.draw(arrivals_rng, STEP_S):
        worker, beyond = service.draw(service_rng, len(arrivals))
        work = np.stack([arrivals, worker, beyond + platform.overhead_ms / 1e3])  # the platform keeps no worker busy
        minutes.add(len(arrivals), control.fleet.serve(endpoint.open, work))
        requests += len(arrivals)
        if zone_lost_at is not None and now >= zone_lost_at:
            zone_lost_at = None
            endpoint.lose_zone(now)
        if now >= trace.end:
            minutes.add(0, control.fleet.finish())
        if control.step(now, last=now >= trace.end):
            progress(now)
    return Run(tuple(minutes.done), minutes.total, requests, endpoint.hours(trace.end), platform)


class _Control:
    """What happens between two steps of traffic: metrics are published, instances come and go."""

    def __init__(self, plan: ScalingPlan, endpoint: Endpoint, fleet: Fleet, start: float) -> None:
        self.fleet = fleet
        self.minutes = _Minutes(start)
        self._plan = plan
        self._endpoint = endpoint
        self._autoscaler = Autoscaler(plan, metrics=ALIASES)
        self._start = start
        self._desired = endpoint.size

    def step(self, now: float, *, last: bool) -> bool:
        """Act at ``now``; return whether a minute ended."""
        endpoint = self._endpoint
        platform = endpoint.platform
        opened = len(endpoint.open)
        load = int(self.fleet.outstanding(now)[endpoint.open].sum())
        self._publish(CONCURRENCY_METRIC, load / opened, opened, now, STEP_S)
        ended = last or (now - self._start) % MINUTE_S < 1e-6
        if ended:
            count = self.minutes.close(now, endpoint=endpoint, minimum=self._plan.minimum_at(round(now * 1000)))
            self._publish(INVOCATIONS_METRIC, count / opened, opened, now, MINUTE_S)
        endpoint.open_ready(now)
        updating = platform.one_update_at_a_time and bool(endpoint.starting)
        wanted = self._autoscaler.desired(now, self._desired, updating=updating)
        if wanted < self._desired:
            endpoint.close(self._desired - wanted, now)
        self._desired = wanted
        endpoint.start(max(0, wanted - endpoint.size), now)
        self.fleet.grow(endpoint.ever)
        return ended

    def _publish(self, metric: str, value: float, instances: int, now: float, period_s: float) -> None:
        delay = period_s * self._endpoint.platform.publish_periods
        self._autoscaler.publish(Datapoint(metric, value, instances, now + delay))
