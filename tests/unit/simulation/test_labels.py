import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from simulation.world import World


@pytest.fixture(scope="module")
def joined(world: World) -> dict[str, np.ndarray]:
    labels = world.labels
    row = pc.index_in(labels["transaction_id"], value_set=world.truth["transaction_id"].combine_chunks())
    positions = row.to_numpy()
    paid = world.transactions["event_timestamp"].cast(pa.int64()).to_numpy()[positions]
    stated = labels["event_timestamp"].cast(pa.int64()).to_numpy()
    arrived = labels["created_timestamp"].cast(pa.int64()).to_numpy()
    return {
        "says": labels["is_fraud"].to_numpy(),
        "truth": world.truth["is_fraud"].to_numpy()[positions],
        "source": np.array(labels["source"].to_pylist()),
        "paid": paid,
        "stated": stated,
        "arrived": arrived,
        "authorised": world.transactions["authorised"].to_numpy()[positions],
        "days": (arrived - paid) / 86_400_000_000,
        "frauds": np.array(world.truth["is_fraud"].to_numpy().sum()),
    }


def test_each_transaction_has_at_most_one_label_and_all_are_known(world: World) -> None:
    ids = world.labels["transaction_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert set(ids) <= set(world.truth["transaction_id"].to_pylist())


def test_labels_come_in_order_of_arrival_after_statement_after_payment(joined: dict[str, np.ndarray]) -> None:
    assert np.all(np.diff(joined["arrived"]) >= 0)
    assert np.all(joined["arrived"] >= joined["stated"])
    assert np.all(joined["stated"] > joined["paid"])


def test_fraud_becomes_known_after_ten_days_at_the_median_and_two_months_at_most_mostly(
    joined: dict[str, np.ndarray],
) -> None:
    days = joined["days"][joined["truth"] & joined["says"]]
    assert 7 < np.median(days) < 13
    assert np.quantile(days, 0.95) < 62
    assert days.max() > 30


def test_a_few_frauds_never_become_known(joined: dict[str, np.ndarray]) -> None:
    known = joined["truth"].sum() / joined["frauds"]
    assert 0.92 < known < 0.995


def test_five_to_ten_percent_of_labels_are_wrong_in_both_directions(joined: dict[str, np.ndarray]) -> None:
    wrong = joined["says"] != joined["truth"]
    assert 0.05 < wrong.mean() < 0.10
    assert (wrong & joined["says"]).sum() > 10
    assert (wrong & ~joined["says"]).sum() > 10


def test_honest_payments_mostly_have_no_label(world: World, joined: dict[str, np.ndarray]) -> None:
    assert 0 < (~joined["truth"]).sum() < 0.01 * world.transactions.num_rows


def test_sources_are_mixed_and_only_authorised_payments_are_charged_back(joined: dict[str, np.ndarray]) -> None:
    source, counts = np.unique(joined["source"], return_counts=True)
    assert source.tolist() == ["chargeback", "report", "verdict"]
    assert counts.min() > 0.1 * counts.sum()
    assert np.all(joined["authorised"][joined["source"] == "chargeback"])
    assert np.all(joined["source"][~joined["says"]] == "verdict")
