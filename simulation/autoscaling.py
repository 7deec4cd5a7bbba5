"""The autoscaler as Application Auto Scaling behaves: published metrics in, a wanted number of instances out.

It obeys the very policy objects that are registered on AWS (:mod:`fraud.scaling`). Taken from AWS's documentation: a
policy acts after as many values in a row as its alarm counts and goes on acting while the alarm lasts; within a
cooldown a policy grows the fleet only beyond what it asked for when the cooldown began; shrinking needs every policy
that may shrink, and waits for its cooldown; growing ends that wait; the largest wanted fleet wins.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from fraud.scaling import ScalingPlan, StepScaling, TargetTracking


@dataclass(frozen=True)
class Datapoint:
    """One value of a metric per instance, over a period in which ``instances`` were in service."""

    metric: str
    value: float
    instances: int
    available_at: float


class _Tracking:
    """One target-tracking policy: its alarms and its cooldowns."""

    def __init__(self, policy: TargetTracking) -> None:
        self._policy = policy
        self._recent: deque[Datapoint] = deque(maxlen=max(policy.breaches_out, policy.breaches_in))
        self._grown_at = -math.inf
        self._grown_to = 0

    def take(self, point: Datapoint) -> None:
        if point.metric == self._policy.metric:
            self._recent.append(point)

    def growth(self, now: float, desired: int) -> int:
        """Return the fleet wanted for growth, ``desired`` if none."""
        policy = self._policy
        last = list(self._recent)[-policy.breaches_out :]
        if len(last) < policy.breaches_out or any(point.value <= policy.target for point in last):
            return desired
        wanted = _needed(last[-1], policy.target)
        cooling = now < self._grown_at + policy.scale_out_cooldown_s
        if wanted <= desired or (cooling and wanted <= self._grown_to):
            return desired
        return wanted

    def grew(self, now: float, wanted: int) -> None:
        self._grown_at, self._grown_to = now, wanted

    def shrinkage(self, desired: int) -> int:
        """Return the fleet this policy could shrink to, ``desired`` if it would not."""
        policy = self._policy
        last = list(self._recent)[-policy.breaches_in :]
        if len(last) < policy.breaches_in or any(point.value >= policy.in_margin * policy.target for point in last):
            return desired
        return min(desired, _needed(last[-1], policy.target))


class _Steps:
    """The step policy for bursts: its alarm and its cooldown."""

    def __init__(self, policy: StepScaling) -> None:
        self._policy = policy
        self._recent: deque[Datapoint] = deque(maxlen=policy.evaluation_periods)
        self._grown_at = -math.inf
        self._base = 0

    def take(self, point: Datapoint) -> None:
        if point.metric == self._policy.metric:
            self._recent.append(point)

    def growth(self, now: float, desired: int) -> int:
        """Return the fleet wanted for growth, ``desired`` if none."""
        policy = self._policy
        if len(self._recent) < policy.evaluation_periods:
            return desired
        if any(point.value <= policy.threshold for point in self._recent):
            return desired
        excess = self._recent[-1].value - policy.threshold
        step = next(s for s in policy.steps if s.above <= excess and (s.below is None or excess < s.below))
        base = self._base if now < self._grown_at + policy.cooldown_s else desired
        return max(desired, base + max(policy.min_added, math.ceil(base * step.percent / 100)))

    def grew(self, now: float, base: int) -> None:
        if now >= self._grown_at + self._policy.cooldown_s:
            self._grown_at, self._base = now, base


def _needed(point: Datapoint, target: float) -> int:
    return math.ceil(point.value * point.instances / target - 1e-9)


class Autoscaler:
    """Turns published metrics into the desired number of instances; asked in order of time.

    Parameters
    ----------
    plan
        The scaling plan.
    metrics
        The same measurement under several names: what the step policy's CloudWatch metric is called in terms of the
        predefined metrics. Datapoints are given under the latter.
    """

    def __init__(self, plan: ScalingPlan, *, metrics: Mapping[str, str]) -> None:
        self._plan = plan
        self._tracking = [_Tracking(policy) for policy in plan.tracking]
        self._shrinking = [
            tracking for tracking, policy in zip(self._tracking, plan.tracking, strict=True) if policy.scale_in
        ]
        self._burst = _Steps(plan.burst)
        self._aliases = dict(metrics)
        self._published: deque[Datapoint] = deque()
        self._shrunk_at = -math.inf
        self._in_cooldown = max((policy.scale_in_cooldown_s for policy in plan.tracking if policy.scale_in), default=0)

    def publish(self, point: Datapoint) -> None:
        """Add a datapoint; it is seen once its time has come. Give them in order of that time per metric."""
        self._published.append(point)

    def desired(self, now: float, current: int, *, updating: bool = False) -> int:
        """Return the number of instances wanted at ``now`` (epoch s) instead of ``current``.

        Parameters
        ----------
        updating
            The endpoint is busy with an earlier change and refuses another: metrics are taken in, nothing changes.
        """
        self._take_published(now)
        if updating:
            return current
        limits = self._plan.limits
        minimum = self._plan.minimum_at(round(now * 1000))
        wanted = max(current, minimum)
        for tracking in self._tracking:
            goal = min(tracking.growth(now, current), limits.max_instances)
            if goal > current:
                tracking.grew(now, goal)
            wanted = max(wanted, goal)
        goal = min(self._burst.growth(now, current), limits.max_instances)
        if goal > current:
            self._burst.grew(now, current)
        wanted = max(wanted, goal)
        if wanted > current:
            self._shrunk_at = -math.inf
            return wanted
        return self._shrunk(now, current, minimum)

    def _shrunk(self, now: float, current: int, minimum: int) -> int:
        if now < self._shrunk_at + self._in_cooldown or not self._shrinking:
            return current
        goal = max([minimum, *(tracking.shrinkage(current) for tracking in self._shrinking)])
        if goal < current:
            self._shrunk_at = now
            return goal
        return current

    def _take_published(self, now: float) -> None:
        waiting: deque[Datapoint] = deque()
        for point in self._published:
            if point.available_at > now:
                waiting.append(point)
                continue
            for tracking in self._tracking:
                tracking.take(point)
            alias = self._aliases.get(point.metric)
            self._burst.take(point)
            if alias is not None:
                self._burst.take(Datapoint(alias, point.value, point.instances, point.available_at))
        self._published = waiting
