import numpy as np
import pyarrow as pa
import pytest

from fraud.errors import InvalidSetting
from simulation.live import split_live_hour
from simulation.world import World, WorldConfig, fraud_counts, generate

HOUR_US = 3_600_000_000


def times(table: pa.Table, column: str = "event_timestamp") -> np.ndarray:
    return np.asarray(table[column].cast(pa.int64()).to_numpy())


def test_history_ends_where_the_hour_begins(live_world: World) -> None:
    history, live = split_live_hour(live_world)
    start = live.start_ms * 1000
    assert times(history.transactions)[-1] < start
    assert times(live.transactions)[0] >= start
    assert times(live.transactions)[-1] < start + HOUR_US
    total = np.count_nonzero(times(live_world.transactions) < start + HOUR_US)
    assert history.transactions.num_rows + live.transactions.num_rows == total
    assert live.truth["transaction_id"].equals(live.transactions["transaction_id"])
    assert history.truth["transaction_id"].equals(history.transactions["transaction_id"])
    assert history.config.days == live_world.config.days


def test_hour_is_a_peak_with_attack_cash_out_and_takeover(live_world: World) -> None:
    history, live = split_live_hour(live_world)
    hourly = history.transactions.num_rows / ((live.start_ms - live_world.config.start_ms) / 3_600_000)
    assert live.transactions.num_rows > 4 * hourly
    counts = fraud_counts(live.truth)
    assert counts["card_testing"] >= 40
    assert counts["cash_out"] >= 5
    assert counts["account_takeover"] >= 4
    kinds = np.array(live.truth["fraud_type"].fill_null("").to_pylist())
    attack = times(live.transactions)[kinds == "card_testing"]
    assert attack.max() - attack.min() < 20 * 60_000_000
    assert np.median(times(live.transactions)[kinds == "cash_out"]) > np.median(attack)


def test_hour_shares_cards_merchants_and_devices_with_the_history(live_world: World) -> None:
    history, live = split_live_hour(live_world)
    for column, share in (("card_id", 0.9), ("merchant_id", 0.95), ("device_id", 0.5)):
        seen = set(history.transactions[column].to_pylist()) - {None}
        now = [value for value in live.transactions[column].to_pylist() if value is not None]
        assert np.mean([value in seen for value in now]) > share


def test_history_knows_only_labels_that_had_arrived_unless_asked(live_world: World) -> None:
    known, live = split_live_hour(live_world)
    later, _ = split_live_hour(live_world, future_labels=True)
    assert times(known.labels, "created_timestamp").max() < live.start_ms * 1000
    assert times(later.labels, "created_timestamp").max() >= live.start_ms * 1000
    assert set(later.labels["transaction_id"].to_pylist()) <= set(later.transactions["transaction_id"].to_pylist())
    assert known.labels.num_rows < later.labels.num_rows


def test_world_without_peak_hour_cannot_be_split() -> None:
    with pytest.raises(InvalidSetting, match="with_live_day"):
        split_live_hour(generate(WorldConfig(days=1, transactions_per_day=100)))
