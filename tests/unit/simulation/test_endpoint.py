import numpy as np
import pytest

from fraud.errors import InvalidSetting
from simulation.endpoint import Endpoint, Platform


def endpoint(start_delay_s: float = 240.0, zones: int = 3) -> Endpoint:
    return Endpoint(Platform(start_delay_s=start_delay_s), zones, np.random.default_rng(1))


def zones(found: Endpoint) -> list[int]:
    return found._population()


def test_instance_takes_requests_only_after_its_start_delay() -> None:
    found = Endpoint(Platform(start_delay_s=100.0, start_delay_p95=1.0), 3, np.random.default_rng(1))
    found.start(2, 1_000.0)
    found.open_ready(1_099.9)
    assert found.open == []
    found.open_ready(1_100.1)
    assert found.open == [0, 1]


def test_start_delays_have_the_stated_median_and_tail() -> None:
    platform = Platform(start_delay_s=200.0, start_delay_p95=1.5)
    rng = np.random.default_rng(2)
    delays = [platform.draw_start_delay(rng) for _ in range(20_000)]
    assert np.median(delays) == pytest.approx(200.0, rel=0.02)
    assert np.quantile(delays, 0.95) == pytest.approx(300.0, rel=0.02)


def test_instances_are_spread_over_zones_and_stay_so_when_some_close() -> None:
    found = endpoint()
    found.start(8, 0.0, at_once=True)
    assert sorted(zones(found)) == [2, 3, 3]
    found.close(3, 10.0)
    assert sorted(zones(found)) == [1, 2, 2]
    assert len(found.open) == 5


def test_last_instance_is_never_closed() -> None:
    found = endpoint()
    found.start(2, 0.0, at_once=True)
    found.close(9, 1.0)
    assert len(found.open) == 1


def test_lost_zone_is_not_used_again() -> None:
    found = endpoint()
    found.start(7, 0.0, at_once=True)
    assert found.lose_zone(10.0) == 3
    found.start(4, 20.0, at_once=True)
    assert sorted(zones(found)) == [0, 4, 4]


def test_only_zone_cannot_be_lost() -> None:
    found = endpoint(zones=1)
    found.start(2, 0.0, at_once=True)
    with pytest.raises(InvalidSetting, match="one zone"):
        found.lose_zone(1.0)


def test_hours_are_paid_from_asking_to_closing() -> None:
    found = endpoint(start_delay_s=600.0)
    found.start(2, 0.0, at_once=True)
    found.start(1, 3600.0)
    found.close(1, 5400.0)
    assert found.hours(7200.0) == pytest.approx(2.0 + 1.5 + 1.0)


def test_number_out_of_range_is_named() -> None:
    with pytest.raises(InvalidSetting, match=r"start_delay_s -1\.0"):
        Platform(start_delay_s=-1.0)
