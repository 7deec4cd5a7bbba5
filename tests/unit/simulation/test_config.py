from datetime import date

import pytest

from fraud.errors import InvalidSetting
from simulation.config import WorldConfig


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"days": 0}, "days 0"),
        ({"days": -3}, "days -3"),
        ({"transactions_per_day": 5}, "transactions_per_day 5"),
        ({"seed": -1}, "seed -1"),
        ({"start": date(1970, 1, 1)}, "1970"),
        ({"currency": "euro"}, "'euro'"),
        ({"fraud_share": 0.9}, "fraud_share 0.9"),
        ({"fraud_share": float("nan")}, "fraud_share nan"),
        ({"peak_hour": 24}, "peak_hour 24"),
        ({"peak_multiplier": 0.5}, "peak_multiplier 0.5"),
        ({"days": 3000, "transactions_per_day": 1_000_000}, "more than"),
    ],
)
def test_value_out_of_range_is_refused_and_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidSetting, match=named):
        WorldConfig(**({"days": 10, "transactions_per_day": 1000} | changes))  # type: ignore[arg-type]  # wrong on purpose


def test_times_follow_from_the_first_day() -> None:
    config = WorldConfig(days=2, transactions_per_day=100, start=date(2026, 1, 5), peak_hour=18)
    assert config.start_ms == 1_767_571_200_000
    assert config.end_ms - config.start_ms == 2 * 86_400_000
    assert config.peak_start_ms == config.end_ms - 6 * 3_600_000
