"""How the scorer's fleet follows traffic: limits, target tracking, steps for bursts, minimums before known peaks.

The same objects are registered with AWS Application Auto Scaling by the deployer and obeyed by the capacity simulation,
so that what is simulated is what is deployed. Values only: nothing here calls a service or reads a clock.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from fraud.errors import TollgateError

LAST_DAY: Final = 0
"""Stands for a month's last day in :attr:`MonthlyPeak.days`."""


class InvalidScalingPlan(TollgateError):
    """A scaling plan contradicts itself."""

    code = "invalid_scaling_plan"


@dataclass(frozen=True)
class Limits:
    """Smallest and largest fleet, and the zones it is spread over evenly."""

    min_instances: int
    max_instances: int
    zones: int = 3


@dataclass(frozen=True)
class TargetTracking:
    """Keep a metric at ``target`` by adding and removing instances.

    Parameters
    ----------
    name
        Policy name, stable: the same name is updated in place.
    metric
        Predefined metric type of Application Auto Scaling.
    target
        In the metric's unit, per instance.
    period_s
        How often the metric has a value.
    breaches_out, breaches_in
        Values in a row above the target before growing, and well below it before shrinking, as AWS's own alarms count.
    scale_out_cooldown_s, scale_in_cooldown_s
        Pause after growing and after shrinking.
    in_margin
        The fleet shrinks only below this share of the target.
    scale_in
        Whether this policy may shrink the fleet; a guard may only grow it.
    """

    name: str
    metric: str
    target: float
    period_s: int
    breaches_out: int
    breaches_in: int
    scale_out_cooldown_s: int
    scale_in_cooldown_s: int
    in_margin: float = 0.9
    scale_in: bool = True


@dataclass(frozen=True)
class Step:
    """From ``above`` the alarm's threshold (metric unit; null above means no end) grow by ``percent`` of the fleet."""

    above: float
    below: float | None
    percent: int


@dataclass(frozen=True)
class StepScaling:
    """Grow in steps while a metric is above a threshold; never shrinks.

    Parameters
    ----------
    name
        Policy name, stable.
    metric
        CloudWatch metric of the variant whose alarm starts the policy.
    statistic
        Of the metric over ``period_s``.
    threshold
        The alarm's threshold; steps are relative to it.
    period_s, evaluation_periods
        Of the alarm.
    steps
        Ascending, without gaps, the last one open-ended.
    min_added
        Instances added at least.
    cooldown_s
        Instances added within it count towards the next step instead of adding up.
    """

    name: str
    metric: str
    statistic: str
    threshold: float
    period_s: int
    evaluation_periods: int
    steps: tuple[Step, ...]
    min_added: int
    cooldown_s: int

    def __post_init__(self) -> None:
        """Refuse steps with gaps or without an open end."""
        for step, following in zip(self.steps, [*self.steps[1:], None], strict=True):
            if step.below != (following.above if following else None):
                raise InvalidScalingPlan(f"{self.name}: a step ends at {step.below}, the next one starts elsewhere")


@dataclass(frozen=True)
class MonthlyPeak:
    """A larger minimum on some days of every month, between two hours of local time.

    Parameters
    ----------
    days
        Days of the month, 1 to 31; ``(LAST_DAY,)`` alone for the last.
    from_hour, to_hour
        Local hours, ``0 <= from_hour < to_hour <= 23``.
    """

    name: str
    days: tuple[int, ...]
    from_hour: int
    to_hour: int
    min_instances: int

    def __post_init__(self) -> None:
        """Refuse days and hours that a schedule could not say."""
        if not self.days or not (self.days == (LAST_DAY,) or all(1 <= day <= 31 for day in self.days)):
            raise InvalidScalingPlan(f"{self.name}: days {self.days} are neither 1 to 31 nor the last day alone")
        if not 0 <= self.from_hour < self.to_hour <= 23:
            raise InvalidScalingPlan(f"{self.name}: hours {self.from_hour} to {self.to_hour} are not in order, 0 to 23")

    def covers(self, local: datetime) -> bool:
        """Return whether a moment in local time lies in the peak."""
        last = (local + timedelta(days=1)).month != local.month
        return (local.day in self.days or (last and LAST_DAY in self.days)) and (
            self.from_hour <= local.hour < self.to_hour
        )


@dataclass(frozen=True)
class Promotion:
    """A larger minimum on dates known in advance, from the start of the first day to the end of the last."""

    name: str
    first: date
    last: date
    min_instances: int

    def __post_init__(self) -> None:
        """Refuse dates out of order."""
        if self.last < self.first:
            raise InvalidScalingPlan(f"{self.name}: it ends on {self.last}, before it begins on {self.first}")

    def covers(self, local: datetime) -> bool:
        """Return whether a moment in local time lies in the promotion."""
        return self.first <= local.date() <= self.last


@dataclass(frozen=True)
class ScalingPlan:
    """Everything that decides the size of the fleet.

    With several policies the largest wanted fleet wins, and all that may shrink it have to agree.
    """

    limits: Limits
    tracking: tuple[TargetTracking, ...]
    burst: StepScaling
    timezone: str
    monthly: tuple[MonthlyPeak, ...] = ()
    promotions: tuple[Promotion, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an unknown time zone, limits out of order and peaks whose ends would cut another short."""
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise InvalidScalingPlan(
                f"time zone {self.timezone!r} is not known here; write one as Europe/Berlin, and have tzdata installed"
            ) from None
        if not 1 <= self.limits.min_instances <= self.limits.max_instances:
            raise InvalidScalingPlan(f"{self.limits} is out of order")
        for peak in self._peaks():
            if not self.limits.min_instances <= peak.min_instances <= self.limits.max_instances:
                raise InvalidScalingPlan(f"{peak.name}: {peak.min_instances} instances lie outside {self.limits}")
        if len({(peak.from_hour, peak.to_hour, peak.min_instances) for peak in self.monthly}) > 1:
            raise InvalidScalingPlan("monthly peaks may meet on one day: give them the same hours and minimum")

    def minimum_at(self, at_ms: int) -> int:
        """Return the smallest fleet allowed at a time (epoch ms).

        Examples
        --------
        >>> payday = datetime(2026, 3, 25, 12, tzinfo=UTC)
        >>> PLAN.minimum_at(int(payday.timestamp() * 1000)), PLAN.minimum_at(0)
        (15, 4)
        """
        local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo(self.timezone))
        return max([self.limits.min_instances, *(peak.min_instances for peak in self._peaks() if peak.covers(local))])

    def _peaks(self) -> "tuple[MonthlyPeak | Promotion, ...]":
        return (*self.monthly, *self.promotions)


@dataclass(frozen=True)
class Raise:
    """One scheduled action: at ``when`` (cron or at expression, local time) the minimum becomes ``min_instances``."""

    name: str
    when: str
    min_instances: int


def scheduled_actions(plan: ScalingPlan) -> Sequence[Raise]:
    """Return what has to be scheduled so that the minimum is always :meth:`ScalingPlan.minimum_at`.

    A monthly peak ends by restoring the base minimum; where that happens within a promotion, the promotion's minimum
    is set again one minute later.
    """
    actions = []
    base = plan.limits.min_instances
    for peak in plan.monthly:
        days = ",".join("L" if day == LAST_DAY else str(day) for day in peak.days)
        for verb, hour, minimum in (("start", peak.from_hour, peak.min_instances), ("end", peak.to_hour, base)):
            actions.append(Raise(f"{peak.name}-{verb}", f"cron(0 {hour} {days} * ? *)", minimum))
    for promotion in plan.promotions:
        actions += _promotion_actions(plan, promotion)
    return actions


def _promotion_actions(plan: ScalingPlan, promotion: Promotion) -> list[Raise]:
    zone = ZoneInfo(plan.timezone)
    day = timedelta(days=1)
    start = datetime.combine(promotion.first, datetime.min.time(), zone)
    end = datetime.combine(promotion.last + day, datetime.min.time(), zone)
    moments = [start]
    for number in range((promotion.last - promotion.first).days + 1):
        midnight = start + number * day
        hours = {hour for peak in plan.monthly for hour in (peak.from_hour, peak.to_hour)}
        bounds = [midnight.replace(hour=hour) for hour in sorted(hours)]
        moments += [bound + timedelta(minutes=1) for bound in bounds if _meets_peak(plan, bound)]
    moments.append(end)
    return [
        Raise(
            f"{promotion.name}-{moment:%Y%m%d-%H%M}",
            f"at({moment:%Y-%m-%dT%H:%M:%S})",
            plan.minimum_at(int(moment.timestamp() * 1000)),
        )
        for moment in moments
    ]


def _meets_peak(plan: ScalingPlan, bound: datetime) -> bool:
    return any(
        peak.covers(bound) or (bound.hour == peak.to_hour and peak.covers(bound - timedelta(hours=1)))
        for peak in plan.monthly
    )


def spread(needed: int, zones: int) -> int:
    """Return the smallest fleet of which ``needed`` are left when one of ``zones`` is lost (N+1).

    Examples
    --------
    >>> spread(2, 3), spread(4, 3), spread(5, 3)
    (3, 6, 8)
    """
    fleet = needed
    while fleet - math.ceil(fleet / zones) < needed:
        fleet += 1
    return fleet


INSTANCE_RATE: Final = 1_000
"""Requests per second one instance (2 vCPU) answers within the deadline. An assumption until a load test on the account
replaces it; the scorer answered several times that on one shared core, without the platform in front of it."""

SAFETY: Final = 0.5
"""Share of ``INSTANCE_RATE`` that is planned for: AWS's own advice for a first target."""

INVOCATIONS: Final = TargetTracking(
    name="invocations-per-instance",
    metric="SageMakerVariantInvocationsPerInstance",
    target=INSTANCE_RATE * SAFETY * 60,
    period_s=60,
    breaches_out=3,
    breaches_in=15,
    scale_out_cooldown_s=60,
    scale_in_cooldown_s=600,
)
"""The primary policy: invocations per minute and instance."""

CONCURRENCY: Final = TargetTracking(
    name="concurrent-requests",
    metric="SageMakerVariantConcurrentRequestsPerModelHighResolution",
    target=10.0,
    period_s=10,
    breaches_out=3,
    breaches_in=90,
    scale_out_cooldown_s=60,
    scale_in_cooldown_s=600,
    scale_in=False,
)
"""The guard: at some 10 ms a request, ten in flight per instance mean that it is saturated."""

BURST: Final = StepScaling(
    name="burst",
    metric="InvocationsPerInstance",
    statistic="Sum",
    threshold=INSTANCE_RATE * 0.7 * 60,
    period_s=60,
    evaluation_periods=1,
    steps=(Step(0.0, INSTANCE_RATE * 0.2 * 60, 50), Step(INSTANCE_RATE * 0.2 * 60, None, 100)),
    min_added=2,
    cooldown_s=120,
)
"""For bursts: above 70 % of what an instance can do the fleet grows by half, above 90 % it doubles."""

SURGE: Final = 10
"""Instances at ``INSTANCE_RATE`` that carry the surge of a payday, 9,600 requests per second, with nothing to spare."""

PAYDAY_MINIMUM: Final = spread(SURGE, 3)
"""A surge is there before a new instance has started: the minimum carries it alone, and without one zone of three."""

PLAN: Final = ScalingPlan(
    limits=Limits(min_instances=4, max_instances=30),
    tracking=(INVOCATIONS, CONCURRENCY),
    burst=BURST,
    timezone="Europe/Berlin",
    monthly=(
        MonthlyPeak("payday", (25, 26, 27, 28), 4, 23, PAYDAY_MINIMUM),
        MonthlyPeak("month-end", (LAST_DAY,), 4, 23, PAYDAY_MINIMUM),
        MonthlyPeak("month-start", (1,), 4, 23, PAYDAY_MINIMUM),
    ),
    promotions=(Promotion("black-friday", date(2026, 11, 26), date(2026, 11, 30), PAYDAY_MINIMUM),),
)
"""The plan that the capacity model studies, and production's: ``infra/environments/prod.toml`` spells the same limits
and peaks, other environments their own. Four instances: two carry the normal peak, N+1 over three zones asks for three,
a canary for four."""
