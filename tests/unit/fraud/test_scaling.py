import dataclasses
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from fraud.scaling import (
    BURST,
    CONCURRENCY,
    INSTANCE_RATE,
    INVOCATIONS,
    LAST_DAY,
    PAYDAY_MINIMUM,
    PLAN,
    InvalidScalingPlan,
    Limits,
    MonthlyPeak,
    Promotion,
    Raise,
    Step,
    scheduled_actions,
    spread,
)
from simulation.traffic import make_trace

BERLIN = ZoneInfo("Europe/Berlin")


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def minimum(*moment: int) -> int:
    return PLAN.minimum_at(milliseconds(datetime(*moment, tzinfo=BERLIN)))  # type: ignore[arg-type, misc]


def fires(action: Raise, moment: datetime) -> bool:
    """Return whether a scheduled action fires at a local minute, read from its expression alone."""
    if action.when.startswith("at("):
        return datetime.fromisoformat(action.when[3:-1]) == moment.replace(tzinfo=None)
    minute, hour, days, *_ = action.when.removeprefix("cron(").split()
    last = (moment + timedelta(days=1)).month != moment.month
    day = (last and days == "L") or (days != "L" and moment.day in {int(item) for item in days.split(",")})
    return day and (moment.hour, moment.minute) == (int(hour), int(minute))


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ((2026, 3, 25, 3, 59), 4),
        ((2026, 3, 25, 4, 0), 15),
        ((2026, 3, 25, 22, 59), 15),
        ((2026, 3, 25, 23, 0), 4),
        ((2026, 2, 28, 12, 0), 15),
        ((2026, 3, 30, 12, 0), 4),
        ((2026, 3, 31, 12, 0), 15),
        ((2026, 4, 1, 12, 0), 15),
        ((2026, 11, 27, 3, 0), 15),
        ((2026, 12, 1, 0, 0), 4),
    ],
)
def test_minimum_follows_local_time(moment: tuple[int, ...], expected: int) -> None:
    assert minimum(*moment) == expected


@pytest.mark.parametrize(
    "start",
    [datetime(2026, 11, 24, tzinfo=BERLIN), datetime(2026, 3, 24, tzinfo=BERLIN), datetime(2028, 2, 24, tzinfo=BERLIN)],
)
def test_scheduled_actions_keep_the_minimum_that_the_plan_promises(start: datetime) -> None:
    actions = scheduled_actions(PLAN)
    registered = PLAN.limits.min_instances
    broken = []
    moment = start
    for _ in range(9 * 24 * 60):
        fired = [action for action in actions if fires(action, moment)]
        assert len({action.min_instances for action in fired}) <= 1, fired
        if fired:
            registered = fired[0].min_instances
        if registered != PLAN.minimum_at(milliseconds(moment)):
            broken.append(moment)
        moment += timedelta(minutes=1)
    # Within a promotion the base minimum may stand for the one minute after a monthly peak's boundary.
    assert all(item.minute == 0 and PLAN.minimum_at(milliseconds(item)) == 15 for item in broken)
    assert len(broken) <= 8


def test_dst_day_keeps_local_hours() -> None:
    summer = datetime(2026, 3, 31, 4, 0, tzinfo=BERLIN)
    winter = datetime(2026, 10, 31, 4, 0, tzinfo=BERLIN)
    assert summer.astimezone(UTC).hour == 2
    assert winter.astimezone(UTC).hour == 3
    assert PLAN.minimum_at(milliseconds(summer)) == PLAN.minimum_at(milliseconds(winter)) == 15


def test_steps_with_a_gap_are_refused() -> None:
    with pytest.raises(InvalidScalingPlan, match="a step ends at 10"):
        dataclasses.replace(BURST, steps=(Step(0, 10, 50), Step(20, None, 100)))
    with pytest.raises(InvalidScalingPlan):
        dataclasses.replace(BURST, steps=(Step(0, 10, 50),))


@pytest.mark.parametrize("limits", [Limits(0, 5), Limits(6, 5)])
def test_limits_out_of_order_are_refused(limits: Limits) -> None:
    with pytest.raises(InvalidScalingPlan, match="out of order"):
        dataclasses.replace(PLAN, limits=limits, monthly=(), promotions=())


def test_peak_beyond_the_limits_is_refused() -> None:
    with pytest.raises(InvalidScalingPlan, match="sale: 31 instances"):
        dataclasses.replace(PLAN, promotions=(Promotion("sale", date(2027, 1, 1), date(2027, 1, 2), 31),))


def test_monthly_peaks_of_different_hours_are_refused() -> None:
    other = MonthlyPeak("late", (LAST_DAY,), 5, 23, 8)
    with pytest.raises(InvalidScalingPlan, match="same hours"):
        dataclasses.replace(PLAN, monthly=(*PLAN.monthly, other))


@pytest.mark.parametrize(
    ("days", "hours"),
    [((), (6, 20)), ((0, 15), (6, 20)), ((32,), (6, 20)), ((25,), (20, 6)), ((25,), (6, 24)), ((25,), (-1, 6))],
)
def test_monthly_peak_that_no_schedule_can_say_is_refused(days: tuple[int, ...], hours: tuple[int, int]) -> None:
    with pytest.raises(InvalidScalingPlan, match="payday"):
        MonthlyPeak("payday", days, *hours, min_instances=15)


def test_promotion_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(InvalidScalingPlan, match="sale: it ends on 2026-11-26, before"):
        Promotion("sale", date(2026, 11, 27), date(2026, 11, 26), min_instances=15)


@pytest.mark.parametrize("zone", ["Europe/Berlim", "", "../etc"])
def test_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidScalingPlan, match="time zone"):
        dataclasses.replace(PLAN, timezone=zone)


def test_normal_peak_survives_the_loss_of_a_zone() -> None:
    assert spread(2, PLAN.limits.zones) <= PLAN.limits.min_instances
    for needed in range(1, 40):
        fleet = spread(needed, 3)
        assert fleet - -(-fleet // 3) >= needed
        assert (fleet - 1) - -(-(fleet - 1) // 3) < needed


def test_payday_minimum_carries_the_surge_without_a_zone() -> None:
    left = PAYDAY_MINIMUM - -(-PAYDAY_MINIMUM // PLAN.limits.zones)
    assert left * INSTANCE_RATE >= make_trace("payday").rates.max()


def test_guard_never_shrinks_the_fleet_and_the_primary_may() -> None:
    assert INVOCATIONS.scale_in
    assert not CONCURRENCY.scale_in
    assert CONCURRENCY.period_s < INVOCATIONS.period_s


def test_burst_starts_above_the_target() -> None:
    assert BURST.threshold > INVOCATIONS.target
