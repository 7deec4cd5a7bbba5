import json
from pathlib import Path

import numpy as np
import pytest

from fraud.errors import InvalidSetting
from simulation.service import QUANTILES, SHIPPED, ServiceTimes, from_percentiles, from_samples, read_service


def test_percentiles_are_honoured_and_draws_follow_them() -> None:
    times = ServiceTimes(from_percentiles({0.5: 2.0, 0.95: 5.0, 0.99: 9.0}), np.zeros(QUANTILES), "stated")
    drawn, beyond = times.draw(np.random.default_rng(1), 400_000)
    assert np.quantile(drawn, [0.5, 0.95, 0.99]) == pytest.approx([2.0, 5.0, 9.0], rel=0.02)
    assert not beyond.any()


def test_two_percentiles_make_a_lognormal() -> None:
    quantiles = from_percentiles({0.5: 1.0, 0.841344746: np.e})
    logs = np.log(quantiles)
    assert (logs.mean(), logs.std()) == (pytest.approx(0.0, abs=1e-6), pytest.approx(1.0, rel=0.01))


def test_samples_keep_their_distribution() -> None:
    samples = np.random.default_rng(2).gamma(2.0, 1.0, 5_000)
    table = from_samples(samples.tolist())
    assert table.mean() == pytest.approx(samples.mean(), rel=0.01)
    assert np.quantile(table, 0.99) == pytest.approx(np.quantile(samples, 0.99), rel=0.02)


def test_scaled_times_saturate_where_asked() -> None:
    times = read_service(SHIPPED).saturating_at(1_000.0, workers=2)
    assert times.mean == pytest.approx(0.002)


def test_file_of_percentiles_and_samples_is_read_in_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "service.json"
    path.write_text(json.dumps({"service_ms": {"p50": 1.0, "p95": 2.0}, "beyond_ms": [0.5] * 100, "source": "lab"}))
    times = read_service(path)
    assert np.median(times.worker) == pytest.approx(0.001, rel=0.001)
    assert set(times.beyond.tolist()) == {0.0005}
    assert times.source == "lab"
    assert (times.cold, times.first_turn, times.with_others) == (1.0, 1.0, (1.0,))


def test_cold_worker_and_turns_are_read_and_no_part_of_saturation(tmp_path: Path) -> None:
    path = tmp_path / "service.json"
    content = {"service_ms": [1.0] * 100, "cold": 1.25, "first_turn": 0.4, "with_others": [1.5, 1.2, 1]}
    path.write_text(json.dumps(content))
    times = read_service(path)
    assert (times.cold, times.first_turn, times.mean) == pytest.approx((1.25, 0.4, 0.001))
    slower = times.saturating_at(500.0, workers=1)
    assert (slower.cold, slower.with_others) == (1.25, (1.5, 1.2, 1.0))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1", "service.json"),
        ("{}", "service_ms"),
        ('{"service_ms": [1, 2]}', "2 samples"),
        ('{"service_ms": {"p50": 2, "p95": 1}}', "ascending"),
        ('{"service_ms": {"p50": 2}}', "two or more"),
        ('{"service_ms": {"half": 2, "p95": 3}}', "half"),
        ('{"service_ms": {"p50": 1, "p95": 2}, "cold": 0.5}', "less than once"),
        ('{"service_ms": {"p50": 1, "p95": 2}, "first_turn": 0}', "no share"),
        ('{"service_ms": {"p50": 1, "p95": 2}, "with_others": []}', "1 to 32 factors"),
        ('{"service_ms": {"p50": 1, "p95": 2}, "with_others": [0.9, 1]}', "from 1 on"),
        ('{"service_ms": {"p50": 1, "p95": 2}, "with_others": [1.4, 1.2]}', "ends with 1.2"),
        ('{"service_ms": {"p50": 1, "p95": 2}, "with_others": 1.4}', "does not hold service times"),
        ('{"service_ms": {"p50": 1, "p95": 2}, "wake_ms": 1}', "'wake_ms' is none of"),
    ],
)
def test_bad_file_is_refused_with_what_is_wrong(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "service.json"
    path.write_text(content)
    with pytest.raises(InvalidSetting, match=said):
        read_service(path)


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"nowhere\.json"):
        read_service(tmp_path / "nowhere.json")


def test_negative_sample_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="negative"):
        from_samples([1.0] * 100 + [-1.0])
