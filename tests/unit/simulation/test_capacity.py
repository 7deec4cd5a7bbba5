"""The whole model on small traces."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fraud.scaling import INSTANCE_RATE, PAYDAY_MINIMUM, PLAN, Limits, ScalingPlan
from simulation.capacity import Run, baselines, simulate, target_rate
from simulation.capacity_study import (
    LOST_AT_PEAK,
    LOST_IN_RISE,
    Variations,
    busiest_hours,
    expected_requests,
    steepest,
    steepest_rise,
    study,
    with_payday_minimum,
)
from simulation.endpoint import Platform
from simulation.service import QUANTILES, ServiceTimes, from_percentiles
from simulation.traffic import Trace, make_trace

NOON = datetime(2026, 3, 10, 12, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
SERVICE = ServiceTimes(from_percentiles({0.5: 0.008, 0.95: 0.016}), np.zeros(QUANTILES), "stated")
PLATFORM = Platform(overhead_ms=0.0, start_delay_s=120.0, start_delay_p95=1.0)


def small_plan() -> ScalingPlan:
    """The product's policies at a twentieth of its rates, so that tests stay small."""
    tracking = tuple(
        replace(policy, target=policy.target / 20) if "Invocations" in policy.metric else policy
        for policy in PLAN.tracking
    )
    steps = tuple(
        replace(step, above=step.above / 20, below=None if step.below is None else step.below / 20)
        for step in PLAN.burst.steps
    )
    burst = replace(PLAN.burst, threshold=PLAN.burst.threshold / 20, steps=steps)
    return replace(PLAN, tracking=tracking, burst=burst)


def step_trace(before: float, after: float, *, minutes: int = 40, at_minute: int = 10) -> Trace:
    return Trace(NOON + 60.0 * np.array([0, at_minute, minutes]), np.array([before, after]))


def run(trace: Trace, *, platform: Platform = PLATFORM, seed: int = 3, zone_lost_at: float | None = None) -> Run:
    return simulate(trace, SERVICE, plan=small_plan(), platform=platform, seed=seed, zone_lost_at=zone_lost_at)


def test_every_arrival_is_served_once() -> None:
    trace = step_trace(60.0, 200.0)
    found = run(trace)
    assert found.requests == found.buckets.sum() == sum(minute.requests for minute in found.minutes)
    expected = trace.transactions(trace.start, trace.end)
    assert found.requests == pytest.approx(expected, abs=5 * np.sqrt(expected))


def test_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    trace = step_trace(60.0, 150.0, minutes=20)
    first, again, other = run(trace), run(trace), run(trace, seed=4)
    assert first.minutes == again.minutes
    assert np.array_equal(first.buckets, again.buckets)
    assert first.minutes != other.minutes


def test_growth_shows_only_after_metric_alarm_and_start() -> None:
    found = run(step_trace(60.0, 170.0))
    asked = next(number for number, minute in enumerate(found.minutes) if minute.size > 4)
    opened = next(number for number, minute in enumerate(found.minutes) if minute.open > 4)
    assert asked >= 11  # the first minute of the step ends with the 11th, and its metric is published a minute later
    assert opened == asked + 2  # 120 s, every instance the same


def test_longer_start_delay_costs_latency() -> None:
    trace = step_trace(100.0, 800.0, minutes=30)
    quick, slow = (run(trace, platform=replace(PLATFORM, start_delay_s=delay)) for delay in (60.0, 480.0))
    assert slow.late_share > 2 * quick.late_share > 0.0


def test_fleet_follows_the_load_back_down() -> None:
    trace = Trace(NOON + 60.0 * np.array([0, 10, 30, 90]), np.array([60.0, 300.0, 60.0]))
    found = run(trace)
    assert found.most_open >= 12
    assert found.minutes[-1].open == 4


def test_endpoint_that_refuses_a_second_change_grows_later() -> None:
    trace = step_trace(100.0, 900.0, minutes=30)
    one, many = (run(trace, platform=replace(PLATFORM, one_update_at_a_time=alone)) for alone in (True, False))
    assert many.minutes[13].size >= one.minutes[13].size
    assert many.most_open >= one.most_open


def test_lost_zone_is_replaced_and_nothing_is_lost() -> None:
    found = run(step_trace(40.0, 40.0, minutes=20), zone_lost_at=NOON + 600)
    fleets = [minute.open for minute in found.minutes]
    assert fleets[8] == 4
    assert min(fleets) == 2
    assert fleets[-1] == 4
    assert found.requests == found.buckets.sum()


def test_baselines_are_the_busiest_minute_always_and_each_minute_alone() -> None:
    trace = Trace(NOON + 60.0 * np.array([0, 30, 60]), np.array([10 * target_rate(PLAN), 1.0]))
    found = baselines(trace, PLAN)
    assert (found.peak_fleet, found.peak_hours) == (10, 10.0)
    assert found.foresight_hours == pytest.approx(5.0 + 0.5 * PLAN.limits.min_instances)


def test_steady_load_needs_the_smallest_fleet_and_its_hours() -> None:
    found = run(step_trace(60.0, 60.0, minutes=60))
    assert {minute.size for minute in found.minutes} == {4}
    assert found.instance_hours == pytest.approx(4.0)


def test_saturated_fleet_of_one_follows_the_queue() -> None:
    """At 60 % of one worker without scaling, the mean of all latencies is Pollaczek and Khinchine's."""
    plan = replace(small_plan(), limits=Limits(1, 1), monthly=(), promotions=())
    rate = 0.6 / SERVICE.mean
    trace = Trace(np.array([NOON, NOON + 7200.0]), np.array([rate]))
    found = simulate(trace, SERVICE, plan=plan, platform=PLATFORM, seed=1)
    variation = SERVICE.worker.var() / SERVICE.mean**2
    expected = SERVICE.mean * (1 + 0.6 / 0.4 * (1 + variation) / 2)
    edges = 1e-5 * 1.01 ** (np.arange(len(found.buckets)) + 0.5)
    assert (found.buckets * edges).sum() / found.requests == pytest.approx(expected, rel=0.03)


def test_study_varies_what_it_says() -> None:
    trace = step_trace(60.0, 150.0, minutes=20)
    plan = with_payday_minimum(small_plan(), 10)
    variations = Variations(minimums=(12,), saturations=(50.0, 400.0), start_delays=(60.0, 240.0))
    seen: set[str] = set()
    found = study(
        trace, SERVICE, platform=PLATFORM, plan=plan, variations=variations, progress=lambda name, _: seen.add(name)
    )
    assert [other.name for other in found.circumstances] == ["payday minimum 12", LOST_AT_PEAK, LOST_IN_RISE]
    cells = {(cell.rate, cell.start_delay_s): cell.run for cell in found.sensitivity}
    assert list(cells) == [(50.0, 60.0), (50.0, 240.0), (400.0, 60.0), (400.0, 240.0)]
    assert cells[50.0, 60.0].worst.p95 > 10 * cells[400.0, 60.0].worst.p95
    assert cells[50.0, 240.0].platform.start_delay_s == 240.0
    assert len(seen) == 1 + sum(variations.runs)
    assert {peak.min_instances for peak in plan.monthly} == {10}
    assert found.saved == pytest.approx(1 - found.run.instance_hours / found.baselines.peak_hours)


def test_steepest_rise_is_found_before_a_later_and_higher_peak() -> None:
    rates = np.array([5.0, 50.0, 60.0, 5.0])
    trace = Trace(NOON + 60.0 * np.array([0, 30, 60, 90, 120]), rates)
    assert steepest(trace) == NOON + 1800
    part = steepest_rise(trace)
    assert (part.start, part.end) == (NOON + 900, NOON + 3600)
    assert expected_requests(trace, Variations((), (9.0,), (1.0, 2.0), zone_loss=False)) == pytest.approx(
        1800 * 120 + 2 * (900 * 5 + 1800 * 50)
    )


@pytest.mark.parametrize("rate", [850.0, INSTANCE_RATE])
def test_payday_holds_in_the_rise_at_rates_that_an_instance_is_sure_to_manage(rate: float) -> None:
    """The product's plan on its own payday, from ten minutes before the surge until the first new instance opens."""
    trace = make_trace("payday")
    rise = trace.between(steepest(trace) - 600, steepest(trace) + 300)
    times = SERVICE.saturating_at(rate, workers=1)
    found = simulate(rise, times, plan=PLAN, platform=Platform(start_delay_s=900.0))
    assert found.minutes_over == 0
    assert found.minutes[0].open == PAYDAY_MINIMUM
    small = simulate(rise, times, plan=with_payday_minimum(PLAN, 8), platform=Platform(start_delay_s=900.0))
    assert small.minutes_over > 0


def test_payday_takes_half_the_instance_hours_and_holds_its_latency_throughout() -> None:
    """Both days at a twentieth of the rates with instances twenty times slower.

    The fleet is the same and so are its hours; a queue that is not growing waits twenty times longer, one that grows
    as long. What holds here holds at full size, which ``python -m simulation capacity`` goes through.
    """
    trace = make_trace("payday")
    small = Trace(trace.edges, trace.rates / 20)
    found = simulate(
        small, SERVICE.saturating_at(INSTANCE_RATE / 20, workers=1), plan=small_plan(), platform=Platform()
    )
    assert found.instance_hours <= 0.5 * baselines(small, small_plan()).peak_hours
    assert found.minutes_over == 0
    assert found.worst.p95 <= 100.0
    assert len(found.minutes) == 2880
    bare = replace(small_plan(), monthly=())
    rise = small.between(steepest(small) - 600, steepest(small) + 300)
    late = simulate(rise, SERVICE.saturating_at(INSTANCE_RATE / 20, workers=1), plan=bare, platform=Platform())
    assert late.minutes_over > 0, "without its minimum the plan does not hold: the figure could have been another"


def test_busiest_hours_surround_the_peak() -> None:
    trace = Trace(NOON + 3600.0 * np.array([0, 10, 11, 24]), np.array([5.0, 9.0, 5.0]))
    part = busiest_hours(trace)
    assert (part.start, part.end) == (NOON + 9 * 3600, NOON + 10.5 * 3600)
    assert part.rates.max() == 9.0
