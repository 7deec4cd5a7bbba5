"""Queues against formulas, with fixed seeds; bounds are several standard errors of the sample means."""

from collections.abc import Sequence
from heapq import heappop, heappush
from math import factorial

import numpy as np
import pytest

from simulation.percentiles import percentile, share_above, tally
from simulation.queueing import Fleet
from simulation.randomness import FloatArray

COUNT = 2_000_000


def answered(fleet: Fleet, open_instances: Sequence[int], work: FloatArray) -> FloatArray:
    """Return the latencies (s) of all, in order of their last turns."""
    return np.concatenate([fleet.serve(open_instances, work), fleet.finish()])


def wait(service: FloatArray, *, utilisation: float, workers: int = 1, seed: int = 1) -> float:
    """Return the mean wait, in mean service times, at one instance under Poisson arrivals."""
    rate = utilisation * workers / service.mean()
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate, len(service)))
    work = np.stack([arrivals, service, np.zeros(len(service))])
    latency = answered(Fleet(1, workers=workers), [0], work)
    return float((latency - service).mean() / service.mean())


def erlang_c(utilisation: float, workers: int) -> float:
    """Return the probability of having to wait in M/M/c."""
    load = utilisation * workers
    busy = load**workers / factorial(workers) / (1.0 - utilisation)
    return float(busy / (sum(load**number / factorial(number) for number in range(workers)) + busy))


@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.8])
def test_wait_of_m_m_1(utilisation: float) -> None:
    service = np.random.default_rng(2).exponential(1.0, COUNT)
    assert wait(service, utilisation=utilisation) == pytest.approx(utilisation / (1 - utilisation), rel=0.03)


@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.8])
def test_wait_of_m_d_1(utilisation: float) -> None:
    assert wait(np.ones(COUNT), utilisation=utilisation) == pytest.approx(
        utilisation / (2 * (1 - utilisation)), rel=0.03
    )


def test_wait_of_m_g_1_follows_pollaczek_and_khinchine() -> None:
    service = np.random.default_rng(3).lognormal(0.0, 0.8, COUNT)
    variation = service.var() / service.mean() ** 2
    expected = 0.7 / 0.3 * (1 + variation) / 2
    assert wait(service, utilisation=0.7) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("workers", [2, 4, 16])
def test_wait_of_m_m_c(workers: int) -> None:
    service = np.random.default_rng(4).exponential(1.0, COUNT)
    expected = erlang_c(0.8, workers) / (workers * (1 - 0.8))
    assert wait(service, utilisation=0.8, workers=workers) == pytest.approx(expected, rel=0.04)


def test_latency_of_m_m_1_is_exponential() -> None:
    service = np.random.default_rng(5).exponential(1.0, COUNT)
    arrivals = np.cumsum(np.random.default_rng(6).exponential(2.0, COUNT))
    latency = answered(Fleet(1), [0], np.stack([arrivals, service, np.zeros(COUNT)]))
    shares = np.array([0.5, 0.95, 0.99])
    assert np.quantile(latency, shares) == pytest.approx(-2.0 * np.log1p(-shares), rel=0.03)


def test_least_outstanding_of_idle_instances_serves_like_one_queue_when_light() -> None:
    latency = answered(Fleet(3), [0, 1, 2], np.array([[0.0, 0.1, 0.2], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    assert latency == pytest.approx([1.0, 1.0, 1.0])


def test_request_goes_to_the_instance_with_the_fewest_outstanding() -> None:
    fleet = Fleet(2)
    latency = answered(fleet, [0, 1], np.array([[0.0, 0.1, 0.7, 0.8], [9.0, 0.5, 0.5, 0.5], [0.0] * 4]))
    assert latency == pytest.approx([0.5, 0.5, 9.0, 8.7])  # the last finds one outstanding at each: it goes round


def test_pause_stops_an_instance_for_what_its_requests_left_over() -> None:
    fleet = Fleet(1, pause_every_s=1.0, pause_per_request_s=0.1)
    arrivals = np.array([0.1, 0.5, 1.05, 1.9, 2.05])
    latency = answered(fleet, [0], np.stack([arrivals, np.full(5, 0.01), np.zeros(5)]))
    assert latency == pytest.approx([0.01, 0.01, 0.16, 0.01, 0.16])  # 2 requests pause 0.2 s from 1.0, 2 from 2.0


def test_worker_that_was_idle_takes_longer_for_its_first_request_only() -> None:
    fleet = Fleet(1, cold=1.5)
    latency = answered(fleet, [0], np.array([[0.0, 1.0, 4.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    assert latency == pytest.approx([1.5, 1.5, 1.5])  # the second waits half a second for the first and wakes nobody


def test_share_that_finds_the_worker_idle_follows_welch() -> None:
    rate, service, wake = 0.5, 1.0, 0.6
    arrivals = np.cumsum(np.random.default_rng(10).exponential(1.0 / rate, COUNT))
    latency = answered(
        Fleet(1, cold=1.0 + wake / service), [0], np.stack([arrivals, np.full(COUNT, service), np.zeros(COUNT)])
    )
    idle = (1 - rate * service) / (1 - rate * service + rate * (service + wake))
    assert (np.abs(latency - service - wake) < 1e-6).mean() == pytest.approx(idle, rel=0.01)


def test_time_beyond_the_worker_delays_nobody_else_but_is_outstanding() -> None:
    fleet = Fleet(1)
    assert not len(fleet.serve([0], np.array([[0.0, 0.5], [1.0, 1.0], [10.0, 0.0]])))
    assert fleet.outstanding(5.0).tolist() == [1]
    assert fleet.outstanding(11.0).tolist() == [0]
    assert fleet.finish() == pytest.approx([11.0, 1.5])


def test_second_turn_waits_for_first_turns_that_could_begin_before_it() -> None:
    fleet = Fleet(1, first_turn=0.5)
    latency = answered(fleet, [0], np.array([[0.0, 0.2, 0.4], [1.0, 1.0, 1.0], [0.1, 0.1, 0.1]]))
    assert latency == pytest.approx([2.0, 2.3, 2.6])  # first turns end at 0.5, 1.0, 1.5; second ones at 2.0, 2.5, 3.0


def test_second_turn_wakes_a_worker_that_was_idle_meanwhile() -> None:
    fleet = Fleet(1, first_turn=0.4, cold=1.5)
    assert answered(fleet, [0], np.array([[0.0], [1.0], [3.0]])) == pytest.approx([4.5])  # 0.4 + 0.2, 3, 0.6 + 0.3


@pytest.mark.parametrize("slower", [(1.0, (1.0,)), (1.5, (1.4, 1.2, 1.1, 1.0))])
@pytest.mark.parametrize("gap", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("first_turn", [0.2, 0.5, 0.9])
def test_two_turns_are_those_of_a_slow_twin(
    first_turn: float, gap: float, slower: tuple[float, tuple[float, ...]]
) -> None:
    rng = np.random.default_rng(11)
    arrivals, service = np.cumsum(rng.exponential(1.6, 5_000)), rng.lognormal(-0.2, 0.6, 5_000)
    beyond = gap * rng.exponential(1.0, 5_000)
    fleet = Fleet(1, first_turn=first_turn, cold=slower[0], with_others=slower[1])
    latency = answered(fleet, [0], np.stack([arrivals, service, beyond]))
    assert latency == pytest.approx(in_two_turns(arrivals, service, beyond, first_turn, *slower))


def in_two_turns(  # what a fleet is given
    arrivals: FloatArray,
    service: FloatArray,
    beyond: FloatArray,
    first_turn: float,
    cold: float,
    with_others: Sequence[float],
) -> list[float]:
    """Return latencies of one worker that always takes the turn that could begin first, in order of second turns."""
    waiting = [(arrival, number, first_turn) for number, arrival in enumerate(arrivals.tolist())]
    latencies: list[float] = []
    free = -1.0
    while waiting:
        ready, number, share = heappop(waiting)
        begins = max(free, ready)
        there = int((arrivals <= begins).sum()) - len(latencies)
        slower = cold if ready >= free else with_others[min(there, len(with_others)) - 1]
        free = begins + share * slower * service[number]
        if number >= 0:
            heappush(waiting, (free + beyond[number], number - len(arrivals), 1.0 - first_turn))
        else:
            latencies.append(free - arrivals[number])
    return latencies


def test_worker_with_many_requests_is_faster_than_with_few() -> None:
    fleet = Fleet(1, with_others=(2.0, 1.5, 1.0))
    latency = answered(fleet, [0], np.array([[0.0, 0.0, 0.0, 0.0], [1.0] * 4, [0.0] * 4]))
    assert latency == pytest.approx([1.0, 2.0, 3.5, 5.5])  # three are left when the second begins, then two, then one


def test_closed_instance_finishes_what_it_has_and_gets_nothing_new() -> None:
    fleet = Fleet(2)
    fleet.serve([0, 1], np.array([[0.0, 0.0], [5.0, 5.0], [0.0, 0.0]]))
    fleet.serve([1], np.array([[1.0], [1.0], [0.0]]))
    assert fleet.outstanding(5.5).tolist() == [0, 1]
    assert fleet.finish() == pytest.approx([5.0, 5.0, 5.0])


def test_every_arrival_is_served_once() -> None:
    rng = np.random.default_rng(7)
    fleet, served = Fleet(5, workers=2), 0
    for start in range(50):
        arrivals = np.sort(rng.uniform(start, start + 1, 400))
        served += len(fleet.serve([0, 2, 4], np.stack([arrivals, rng.exponential(0.01, 400), np.full(400, 0.003)])))
        assert fleet.outstanding(start + 1.0)[[1, 3]].sum() == 0
    assert served + len(fleet.finish()) == 20_000
    assert fleet.outstanding(1e9).sum() == 0


def test_steps_do_not_matter() -> None:
    rng = np.random.default_rng(8)
    work = np.stack(
        [np.cumsum(rng.exponential(0.01, 5_000)), rng.exponential(0.03, 5_000), rng.exponential(0.01, 5_000)]
    )
    whole = answered(Fleet(4, first_turn=0.4), [0, 1, 2, 3], work)
    fleet = Fleet(4, first_turn=0.4)
    parts = [fleet.serve([0, 1, 2, 3], part) for part in np.split(work, [17, 900, 901, 4_000], axis=1)]
    assert np.array_equal(whole, np.concatenate([*parts, fleet.finish()]))


def test_fleet_grows_without_forgetting() -> None:
    fleet = Fleet(1)
    fleet.serve([0], np.array([[0.0], [5.0], [0.0]]))
    fleet.grow(3)
    fleet.grow(2)
    latency = answered(fleet, [0, 2], np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]))
    assert latency == pytest.approx([1.0, 5.0, 5.0])


def test_tally_keeps_percentiles_within_its_buckets() -> None:
    latency = np.random.default_rng(9).lognormal(-5.0, 1.0, 200_000)
    buckets = tally(latency)
    assert buckets.sum() == len(latency)
    for share in (0.5, 0.95, 0.99):
        assert percentile(buckets, share) == pytest.approx(np.quantile(latency, share), rel=0.011)
    assert share_above(buckets, 0.02) == pytest.approx((latency > 0.02).mean(), rel=0.03)
    assert np.isnan(percentile(np.zeros(10), 0.5))
