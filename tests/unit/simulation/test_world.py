import hashlib

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from fraud.transaction import CHANNELS, Transaction, check_transaction
from simulation.rows import FRAUD_TYPES
from simulation.tables import LABELS, TRANSACTIONS, TRUTH
from simulation.world import STAGES, World, WorldConfig, fraud_counts, generate

DAY_US = 86_400_000_000


def digest(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def digests(seed: int) -> list[str]:
    made = generate(WorldConfig(days=6, transactions_per_day=1_000, seed=seed))
    return [digest(table) for table in (made.transactions, made.labels, made.truth)]


def times(table: pa.Table, column: str = "event_timestamp") -> np.ndarray:
    return np.asarray(table[column].cast(pa.int64()).to_numpy())


def codes(table: pa.Table, column: str) -> np.ndarray:
    encoded = table[column].combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64))


def kinds(world: World) -> np.ndarray:
    return np.array(world.truth["fraud_type"].fill_null("").to_pylist())


def test_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first = digests(11)
    assert first == digests(11)
    assert all(mine != other for mine, other in zip(first, digests(12), strict=True))


def test_tables_have_the_schema_of_the_log(world: World) -> None:
    assert world.transactions.schema.equals(TRANSACTIONS)
    assert world.labels.schema.equals(LABELS)
    assert world.truth.schema.equals(TRUTH)
    world.transactions.validate(full=True)
    for field in TRANSACTIONS:
        assert field.nullable or world.transactions[field.name].null_count == 0


def test_rows_are_sorted_by_time_and_id_and_ids_are_unique(world: World) -> None:
    ids = world.transactions["transaction_id"].to_pylist()
    keys = list(zip(times(world.transactions).tolist(), ids, strict=True))
    assert keys == sorted(keys)
    assert len(set(ids)) == len(ids)
    assert len({time for time, _ in keys}) < len(keys), "no tie: the order of ties was not tested"
    assert world.truth["transaction_id"].to_pylist() == ids


def test_every_row_is_a_valid_transaction(world: World) -> None:
    for row in world.transactions.slice(50_000, 3_000).to_pylist():
        moment = row.pop("event_timestamp")
        assert row.pop("created_timestamp") >= moment
        row["event_time_ms"] = round(moment.timestamp() * 1000)
        check_transaction(Transaction(**row), currency="EUR")
        assert row["channel"] in CHANNELS


def test_size_time_and_fraud_share_are_what_was_asked_for(world: World) -> None:
    rows, config = world.transactions.num_rows, world.config
    assert abs(rows / config.rows - 1) < 0.03
    stamps = times(world.transactions)
    assert stamps[0] >= config.start_ms * 1000
    assert stamps[-1] < config.end_ms * 1000
    assert np.all(stamps % 1000 == 0)
    counts = fraud_counts(world.truth)
    assert set(counts) == set(FRAUD_TYPES)
    assert 0.003 < sum(counts.values()) / rows < 0.008


def test_world_without_fraud_has_none() -> None:
    made = generate(WorldConfig(days=3, transactions_per_day=500, fraud_share=0.0))
    assert fraud_counts(made.truth) == {}
    assert made.transactions.num_rows > 1_000
    assert made.labels.num_rows == 0


def test_stages_are_reported_in_order() -> None:
    seen: list[str] = []
    generate(WorldConfig(days=1, transactions_per_day=100), progress=seen.append)
    assert seen == list(STAGES)


def test_arrival_lags_by_a_fifth_of_a_second_and_sometimes_by_seconds(world: World) -> None:
    lag = (times(world.transactions, "created_timestamp") - times(world.transactions)) / 1000
    assert lag.min() >= 0
    assert 150 < np.median(lag) < 250
    assert 0.001 < np.mean(lag > 3_000) < 0.02


def test_device_and_place_fit_the_channel(world: World) -> None:
    table = world.transactions
    channel = np.array(table["channel"].to_pylist())
    counter, remote = channel == "pos", np.isin(channel, ("online", "app"))
    device, ip = codes(table, "device_id"), codes(table, "ip")
    placed = np.asarray(table["latitude"].is_valid())
    assert np.array_equal(placed, counter)
    assert np.array_equal(placed, np.asarray(table["longitude"].is_valid()))
    assert np.all(device[~remote] == -1)
    assert np.all(ip[~remote] == -1)
    assert np.mean(device[remote] >= 0) > 0.75


def test_attackers_share_devices_across_cards_and_so_do_some_customers(world: World) -> None:
    device, card, fraud = (
        codes(world.transactions, "device_id"),
        codes(world.transactions, "card_id"),
        world.truth["is_fraud"].to_numpy(),
    )
    for group in (fraud, ~fraud):
        rows = group & (device >= 0)
        pairs = np.unique(np.stack([device[rows], card[rows]]), axis=1)
        assert np.bincount(pairs[0]).max() >= 10


def test_novel_type_appears_only_late(world: World) -> None:
    day = (times(world.transactions) // 1000 - world.config.start_ms) / 86_400_000
    assert day[kinds(world) == "mule_merchant"].min() >= world.config.novelty * world.config.days - 1
    assert day[kinds(world) == "stolen_number"].min() < 10


def test_card_testing_is_small_mostly_declined_and_followed_by_cash_out(world: World) -> None:
    kind, table = kinds(world), world.transactions
    tests, cash = kind == "card_testing", kind == "cash_out"
    amount, card, time = table["amount_minor"].to_numpy(), codes(table, "card_id"), times(table)
    assert amount[tests].min() >= 50
    assert amount[tests].max() <= 200
    assert 0.5 < np.mean(~table["authorised"].to_numpy()[tests]) < 0.9
    assert set(card[cash]) <= set(card[tests])
    for number in np.unique(card[cash]):
        first = time[cash & (card == number)].min()
        assert first > time[tests & (card == number)].min()


def test_limit_aware_amounts_fall_with_the_limit(world: World) -> None:
    rows = kinds(world) == "limit_aware"
    amount = world.transactions["amount_minor"].to_numpy()[rows]
    decade = (times(world.transactions)[rows] // 1000 - world.config.start_ms) // (10 * 86_400_000)
    assert np.all(amount < 60_000 * 0.85**decade)
    assert amount[decade == 0].max() > amount[decade == 4].max()


def test_declined_customers_try_the_same_again_within_minutes(world: World) -> None:
    table, honest = world.transactions, ~world.truth["is_fraud"].to_numpy()
    card, merchant, amount = codes(table, "card_id"), codes(table, "merchant_id"), table["amount_minor"].to_numpy()
    time, ok = times(table), table["authorised"].to_numpy()
    order = np.lexsort((time, amount, merchant, card))
    order = order[honest[order]]
    same = (np.diff(card[order]) == 0) & (np.diff(merchant[order]) == 0) & (np.diff(amount[order]) == 0)
    soon = same & (np.diff(time[order]) < 900_000_000) & ~ok[order][:-1]
    assert 0.01 < np.mean(~ok[honest]) < 0.06
    assert 0.3 < soon.sum() / (~ok[honest]).sum() < 0.7
    assert 0.2 < ok[order][1:][soon].mean() < 0.7


def test_promotions_are_bursts_that_exceed_a_card_testing_attack(world: World) -> None:
    honest = ~world.truth["is_fraud"].to_numpy()
    hour = times(world.transactions)[honest] // (DAY_US // 24)
    merchant = codes(world.transactions, "merchant_id")[honest]
    _, busiest = np.unique(merchant * 10_000_000 + hour % 10_000_000, return_counts=True)
    assert busiest.max() > 40


def test_paydays_bring_more_and_larger_payments(world: World) -> None:
    day = world.transactions["event_timestamp"].cast(pa.date32()).to_pylist()
    payday = np.array([25 <= moment.day <= 28 for moment in day])
    days_of_pay = len({moment for moment, pays in zip(day, payday, strict=True) if pays})
    rate = payday.sum() / days_of_pay
    other = (~payday).sum() / (world.config.days - days_of_pay)
    assert rate > 1.1 * other


@pytest.mark.parametrize("kind", FRAUD_TYPES)
def test_no_raw_column_alone_separates_a_fraud_type(world: World, kind: str) -> None:
    table = world.transactions
    fraud = kinds(world) == kind
    rows = fraud | (kinds(world) == "")
    stamps = times(table)
    columns = {
        "amount": table["amount_minor"].to_numpy(),
        "ending": table["amount_minor"].to_numpy() % 100,
        "hour": stamps // (DAY_US // 24) % 24,
        "millisecond": stamps // 1000 % 1000,
        "lag": times(table, "created_timestamp") - stamps,
        "channel": codes(table, "channel"),
        "category": table["merchant_category"].to_numpy(),
        "country": codes(table, "country"),
        "authorised": table["authorised"].to_numpy().astype(int),
        "has device": (codes(table, "device_id") < 0).astype(int),
        "transaction number": np.array([int(name[1:], 16) for name in table["transaction_id"].to_pylist()]),
        "device number": np.array([int((name or "d0")[1:], 16) for name in table["device_id"].to_pylist()]),
        "card number": np.array([int(name[1:]) for name in table["card_id"].to_pylist()]),
        "merchant number": np.array([int(name[1:]) for name in table["merchant_id"].to_pylist()]),
    }
    for name, column in columns.items():
        values = column[rows].astype(np.float64).reshape(-1, 1)
        tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=20, random_state=0).fit(values, fraud[rows])
        found = average_precision_score(fraud[rows], tree.predict_proba(values)[:, 1])
        assert found < 0.5, f"{name} alone finds {kind}: average precision {found:.2f}"


def test_plain_baseline_finds_some_fraud_but_not_most(world: World) -> None:
    table, fraud = world.transactions, world.truth["is_fraud"].to_numpy()
    time, card = times(table) // 1000 - world.config.start_ms, codes(table, "card_id")
    order = np.argsort(card, kind="stable")
    key = card[order] << 36 | time[order]
    seen = np.empty(len(order), np.int64)
    seen[order] = np.arange(len(order)) - np.searchsorted(
        key, np.maximum(key - 86_400_000, card[order] << 36), side="left"
    )
    columns = [
        table["amount_minor"].to_numpy(),
        time // 3_600_000 % 24,
        seen,
        codes(table, "channel"),
        table["merchant_category"].to_numpy(),
        codes(table, "country"),
    ]
    features = np.column_stack(columns).astype(np.float32)
    early, late = time < 30 * 86_400_000, time >= 35 * 86_400_000
    model = XGBClassifier(n_jobs=1, n_estimators=60, max_depth=5, learning_rate=0.15, random_state=0)
    model.fit(features[early], fraud[early])
    found = average_precision_score(fraud[late], model.predict_proba(features[late])[:, 1])
    assert 0.1 < found < 0.5, found
