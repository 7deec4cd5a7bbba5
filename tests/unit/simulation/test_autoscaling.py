"""The autoscaler on hand-made metrics."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from fraud.scaling import BURST, CONCURRENCY, INVOCATIONS, PLAN, Limits, MonthlyPeak, ScalingPlan
from simulation.autoscaling import Autoscaler, Datapoint
from simulation.capacity import ALIASES

QUIET = datetime(2026, 3, 10, 12, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
PER_MINUTE = INVOCATIONS.target
BASE = PLAN.limits.min_instances


class Feed:
    """Publishes one value of invocations per instance each minute, seen at once, and keeps the fleet's size."""

    def __init__(self, size: int = BASE, plan: ScalingPlan = PLAN, start: float = QUIET) -> None:
        self.autoscaler = Autoscaler(plan, metrics=ALIASES)
        self.size, self.now = size, start

    def minute(self, share_of_target: float, *, updating: bool = False) -> int:
        self.now += 60.0
        point = Datapoint(INVOCATIONS.metric, share_of_target * PER_MINUTE, self.size, self.now)
        self.autoscaler.publish(point)
        self.size = self.autoscaler.desired(self.now, self.size, updating=updating)
        return self.size


def test_fleet_grows_after_the_alarms_values_and_to_what_the_load_needs() -> None:
    feed = Feed()
    assert [feed.minute(1.3) for _ in range(INVOCATIONS.breaches_out - 1)] == [BASE] * (INVOCATIONS.breaches_out - 1)
    assert feed.minute(1.3) == 6  # ceil(4 * 1.3)


def test_value_between_target_and_margin_changes_nothing() -> None:
    feed = Feed(size=8)
    assert {feed.minute(0.95) for _ in range(60)} == {8}


def test_one_value_below_target_ends_the_alarm() -> None:
    feed = Feed()
    sizes = [feed.minute(share) for share in (1.3, 1.3, 0.99, 1.3, 1.3)]
    assert sizes == [BASE] * 5


def test_metric_is_not_seen_before_it_is_published() -> None:
    autoscaler = Autoscaler(PLAN, metrics=ALIASES)
    for number in range(3):
        autoscaler.publish(Datapoint(INVOCATIONS.metric, 1.3 * PER_MINUTE, BASE, QUIET + 60 * number + 90))
    assert autoscaler.desired(QUIET + 200, BASE) == BASE
    assert autoscaler.desired(QUIET + 210, BASE) == 6


def test_fleet_shrinks_slowly_and_waits_for_its_cooldown() -> None:
    feed = Feed(size=16)
    values = INVOCATIONS.breaches_in
    assert [feed.minute(0.5) for _ in range(values - 1)] == [16] * (values - 1)
    assert feed.minute(0.5) == 8
    cooldown = INVOCATIONS.scale_in_cooldown_s // 60
    assert [feed.minute(0.6) for _ in range(cooldown - 1)] == [8] * (cooldown - 1)
    assert feed.minute(0.6) == 5


def test_growth_ends_the_wait_for_shrinking_but_needs_its_own_values() -> None:
    feed = Feed(size=16)
    for _ in range(INVOCATIONS.breaches_in):
        feed.minute(0.5)
    assert feed.size == 8
    for _ in range(INVOCATIONS.breaches_out):
        feed.minute(1.2)
    assert feed.size == 10


def test_fleet_never_leaves_its_limits() -> None:
    feed = Feed(size=20)
    for _ in range(5):
        feed.minute(20.0)
    assert feed.size == PLAN.limits.max_instances
    for _ in range(200):
        feed.minute(0.0)
    assert feed.size == BASE


def test_burst_grows_by_half_at_once_and_doubles_further_up() -> None:
    above = BURST.threshold / PER_MINUTE
    assert Feed(size=8).minute(above * 1.01) == 12
    assert Feed(size=8).minute((BURST.threshold + BURST.steps[1].above) / PER_MINUTE * 1.01) == 16
    assert Feed(size=8).minute(above * 0.99) == 8


def test_burst_adds_its_least_number() -> None:
    small = ScalingPlan(Limits(1, 30), PLAN.tracking, BURST, PLAN.timezone)
    assert Feed(size=1, plan=small).minute(BURST.threshold / PER_MINUTE * 1.01) == 1 + BURST.min_added


def test_burst_does_not_add_up_within_its_cooldown() -> None:
    feed = Feed(size=8)
    share = BURST.threshold / PER_MINUTE * 1.01
    assert feed.minute(share) == 12
    assert feed.minute(share) == 12  # 60 s later: what was added counts
    assert feed.minute(share) == 18  # the cooldown of 120 s is over


def test_larger_step_within_the_cooldown_counts_from_where_it_began() -> None:
    feed = Feed(size=8)
    assert feed.minute(BURST.threshold / PER_MINUTE * 1.01) == 12
    assert feed.minute((BURST.threshold + BURST.steps[1].above) / PER_MINUTE * 1.01) == 16


def test_concurrency_guards_growth_and_never_shrinks() -> None:
    autoscaler, size = Autoscaler(PLAN, metrics=ALIASES), 8
    for number in range(CONCURRENCY.breaches_out):
        now = QUIET + 10 * number
        autoscaler.publish(Datapoint(CONCURRENCY.metric, CONCURRENCY.target * 1.5, size, now))
        size = autoscaler.desired(now, size)
    assert size == 12
    for number in range(3, 400):
        now = QUIET + 10 * number
        autoscaler.publish(Datapoint(CONCURRENCY.metric, 0.0, size, now))
        assert autoscaler.desired(now, size) == size


def test_updating_endpoint_is_left_alone_and_metrics_are_kept() -> None:
    feed = Feed()
    for _ in range(5):
        assert feed.minute(1.3, updating=True) == BASE
    assert feed.minute(1.3) == 6


@pytest.mark.parametrize("day", [date(2026, 3, 28), date(2026, 3, 31), date(2026, 10, 25), date(2026, 10, 26)])
def test_scheduled_minimum_begins_at_the_local_hour_on_both_sides_of_the_change_of_clocks(day: date) -> None:
    peak = MonthlyPeak("payday", (25, 26, 27, 28), 4, 23, 8)
    ends = MonthlyPeak("month-end", (0,), 4, 23, 8)
    plan = ScalingPlan(PLAN.limits, PLAN.tracking, BURST, "Europe/Berlin", (peak, ends))
    zone = ZoneInfo("Europe/Berlin")
    begins = datetime(day.year, day.month, day.day, 4, tzinfo=zone).timestamp()
    autoscaler = Autoscaler(plan, metrics=ALIASES)
    assert autoscaler.desired(begins - 10, BASE) == BASE
    assert autoscaler.desired(begins, BASE) == 8
    offset = datetime.fromtimestamp(begins, zone).utcoffset()
    assert offset is not None
    assert (begins / 3600 + offset.total_seconds() / 3600) % 24 == 4


def test_fleet_stays_at_the_scheduled_minimum_however_quiet() -> None:
    start = datetime(2026, 3, 25, 10, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    feed = Feed(size=12, start=start)
    for _ in range(120):
        feed.minute(0.01)
    assert feed.size == PLAN.minimum_at(round(start * 1000)) > BASE
