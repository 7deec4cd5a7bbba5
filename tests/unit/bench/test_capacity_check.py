"""The capacity check on scorers that are the model itself, so that its error is known to be none."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.capacity_calibration import CONNECTIONS, NUMBERS, Busy, calibration, saturation, service_json
from bench.capacity_check import compared
from bench.poll_load import Load
from simulation.service import ServiceTimes, idle_fleet, read_service

RATE = 2_000.0


def busy(*, slower: float = 1.0) -> dict[int, Busy]:
    """Return what a scorer takes that is a third faster with many requests than with two."""
    counts = (*NUMBERS, CONNECTIONS)
    return {
        count: Busy((150e-6 + 100e-6 / count) * slower, 3e-6 * slower, 160e-6 * slower, 0.9 * count) for count in counts
    }


@pytest.fixture
def service(tmp_path: Path) -> ServiceTimes:
    rng = np.random.default_rng(1)
    worker = rng.lognormal(np.log(300e-6), 0.1, (3, 300))
    found = calibration([(spent, spent + 80e-6) for spent in worker], [busy(), busy(slower=9.0), busy()], 0.4)
    path = tmp_path / "service.json"
    path.write_text(json.dumps(service_json(found, 300, 6)))
    return read_service(path)


def load_of(service: ServiceTimes, *, slower: float, seconds: float = 20.0) -> Load:
    """Return the load that a scorer answers which is the model, on a machine that is ``slower``."""
    rng = np.random.default_rng(2)
    arrival = np.cumsum(rng.exponential(1.0 / RATE, int(RATE * seconds)))
    worker, beyond = service.draw(rng, len(arrival))
    pause = service.pause_per_request * slower
    fleet = idle_fleet(replace(service, pause_per_request=pause), instances=1, workers=1)
    known = [fleet.serve([0], np.stack([arrival, worker * slower, beyond])), fleet.finish()]
    latencies = np.concatenate(known).tolist()
    each = float(fleet.worked().sum()) / len(arrival)
    marks = [(answers, answers * each) for answers in range(0, len(arrival), round(RATE / 4))]
    load = Load(latencies=latencies, sent=(arrival + 7.0).tolist(), late=[0.0] * len(arrival), marks=marks)
    load.statuses[200] = len(arrival)
    return load


def test_calibration_takes_medians_and_says_how_much_slower_few_requests_are(service: ServiceTimes) -> None:
    many = 150e-6 + 100e-6 / CONNECTIONS
    assert service.worker.mean() == pytest.approx(many, rel=1e-3)
    assert service.cold == pytest.approx(301.5e-6 / many, rel=0.01)
    assert service.with_others[:2] == pytest.approx([200e-6 / many, 200e-6 / many], rel=0.03)
    assert list(service.with_others) == sorted(service.with_others, reverse=True)
    assert service.with_others[-1] == 1.0
    assert service.pause_per_request == pytest.approx(3e-6)
    assert saturation([busy(), busy(slower=9.0), busy()]) == pytest.approx(1.0 / (many + 3e-6))


@pytest.mark.parametrize("slower", [0.8, 1.0, 1.5])
def test_check_finds_no_error_where_the_scorer_is_the_model(service: ServiceTimes, slower: float) -> None:
    figures = compared(0.3, RATE, [load_of(service, slower=slower)] * 2, service)
    assert figures["p95_met"]
    assert figures["error"]["p50"] == pytest.approx(0.0, abs=0.02)
    assert figures["error"]["p95"] == pytest.approx(0.0, abs=0.04)


def test_check_finds_a_scorer_that_waits_longer_than_it_works(service: ServiceTimes) -> None:
    load = load_of(service, slower=1.0)
    rng = np.random.default_rng(3)
    load.latencies = [latency + 1e-3 * (rng.random() < 0.1) for latency in load.latencies]
    figures = compared(0.3, RATE, [load] * 2, service)
    assert not figures["p95_met"]
    assert not figures["p95_within_noise"]
    assert figures["error"]["p95"] < -0.2


def test_check_is_given_when_requests_were_sent(service: ServiceTimes) -> None:
    load = load_of(service, slower=1.0)
    in_pairs = load_of(service, slower=1.0)
    sent = np.array(in_pairs.sent)
    sent[1::2] = sent[::2]
    in_pairs.sent = sent.tolist()
    one, other = (compared(0.3, RATE, [some] * 2, service)["model_ms"]["p95"] for some in (load, in_pairs))
    assert other > 1.1 * one
