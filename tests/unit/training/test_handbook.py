"""The public benchmark, as an import and as a proof: the book's figures to the third decimal."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import xgboost

from training.errors import InvalidSplit, UnreadableSource, UnwritableOutput
from training.handbook import HandbookTransactions, import_handbook, read_handbook
from training.handbook_protocol import BOOK_FEATURES, book_features, book_split
from training.metrics import average_precision, card_precision_by_day, roc_auc
from training.ranking import DAY_MS
from training.transaction_log import LABELS_SCHEMA, TRANSACTIONS_SCHEMA, TRUTH_SCHEMA

DATA = Path(os.environ.get("TOLLGATE_DATA", Path(__file__).parents[4] / "shared" / "data"))
PARQUET = DATA / "handbook" / "transactions.parquet"
HOUR_MS = DAY_MS // 24
SUNDAY = 17_622 * DAY_MS
"""2018-04-01, a Sunday."""

needs_benchmark = pytest.mark.skipif(
    not PARQUET.is_file(), reason=f"the Handbook data are not at {PARQUET}; set TOLLGATE_DATA to their folder"
)


def small_world(rows: int = 600, seed: int = 0) -> HandbookTransactions:
    """Few customers and terminals over fifty days, with shared milliseconds, and amounts down to nothing."""
    rng = np.random.default_rng(seed)
    scenario = rng.choice(4, rows, p=[0.85, 0.05, 0.05, 0.05])
    return HandbookTransactions(
        transaction=np.arange(rows),
        customer=rng.integers(0, 6, rows),
        terminal=rng.integers(0, 5, rows),
        amount_minor=rng.integers(0, 30_000, rows),
        event_time_ms=SUNDAY + np.sort(rng.integers(0, 50 * 24, rows)) * HOUR_MS,
        is_fraud=scenario > 0,
        scenario=scenario,
    )


def write_source(path: Path, world: HandbookTransactions) -> Path:
    table = pa.table(
        {
            "TRANSACTION_ID": pa.array(world.transaction, pa.int32()),
            "TX_DATETIME": pa.array(world.event_time_ms.astype("datetime64[ms]")).cast(pa.timestamp("ns")),
            "CUSTOMER_ID": pa.array(world.customer, pa.int32()),
            "TERMINAL_ID": pa.array(world.terminal, pa.int32()),
            "TX_AMOUNT": pa.array(world.amount_minor / 100.0),
            "TX_FRAUD": pa.array(world.is_fraud).cast(pa.int8()),
            "TX_FRAUD_SCENARIO": pa.array(world.scenario, pa.int8()),
        }
    )
    pq.write_table(table, path)
    return path


def oracle_row(world: HandbookTransactions, row: int, delay_ms: int) -> list[float]:
    """Fifteen features of one row by walking over every row, as the book words them."""
    now = int(world.event_time_ms[row])
    moment = np.datetime64(now, "ms").item()
    features = [world.amount_minor[row] / 100, float(moment.weekday() >= 5), float(moment.hour <= 6)]
    for days in (1, 7, 30):
        amounts = [
            int(world.amount_minor[i])
            for i in range(row + 1)
            if world.customer[i] == world.customer[row] and now - days * DAY_MS < world.event_time_ms[i] <= now
        ]
        features += [len(amounts), sum(amounts) / 100 / len(amounts)]
    for days in (1, 7, 30):
        frauds = [
            bool(world.is_fraud[i])
            for i in range(len(world.customer))
            if world.terminal[i] == world.terminal[row]
            and now - delay_ms - days * DAY_MS < world.event_time_ms[i] <= now - delay_ms
        ]
        features += [len(frauds), sum(frauds) / len(frauds) if frauds else 0.0]
    return features


@pytest.mark.parametrize("delay_days", [2, 7])
def test_features_equal_a_walk_over_every_row(delay_days: int) -> None:
    world = small_world()
    values = book_features(world, label_delay_ms=delay_days * DAY_MS)
    assert values.shape == (600, len(BOOK_FEATURES))
    for row in range(0, 600, 7):
        assert values[row].tolist() == pytest.approx(oracle_row(world, row, delay_days * DAY_MS), rel=1e-12)


def test_a_future_transaction_changes_no_earlier_feature() -> None:
    world = small_world()
    before = book_features(world)
    changed = replace(
        world,
        is_fraud=np.where(np.arange(600) >= 400, ~world.is_fraud, world.is_fraud),
        amount_minor=np.where(np.arange(600) >= 400, world.amount_minor + 7, world.amount_minor),
    )
    after = book_features(changed)
    assert np.array_equal(before[:400], after[:400])
    assert not np.array_equal(before[400:], after[400:])


def test_a_label_younger_than_the_delay_changes_no_feature() -> None:
    world = small_world()
    young = world.event_time_ms > world.event_time_ms[-1] - 7 * DAY_MS
    changed = replace(world, is_fraud=world.is_fraud ^ young)
    assert np.array_equal(book_features(world), book_features(changed))


def test_split_leaves_out_customers_as_their_labels_arrive() -> None:
    world = small_world(rows=900, seed=2)
    world = replace(world, customer=np.random.default_rng(2).integers(0, 150, 900))
    split = book_split(world, train_start_ms=SUNDAY + 10 * DAY_MS, train_days=7, delay_days=5, test_days=6)
    day = (world.event_time_ms - SUNDAY) // DAY_MS
    assert split.train.tolist() == np.flatnonzero((day >= 10) & (day < 17)).tolist()
    known = set(world.customer[(day >= 10) & (day < 17) & world.is_fraud].tolist())
    expected: list[int] = []
    for test_day in range(22, 28):
        known |= set(world.customer[(day == test_day - 5 - 1) & world.is_fraud].tolist())
        expected += [row for row in np.flatnonzero(day == test_day).tolist() if world.customer[row] not in known]
    assert split.test.tolist() == expected
    assert 0 < len(expected) < int(((day >= 22) & (day < 28)).sum())


def test_a_split_without_rows_is_refused() -> None:
    with pytest.raises(InvalidSplit, match="rows to train"):
        book_split(small_world(), train_start_ms=0)
    with pytest.raises(InvalidSplit, match="midnight"):
        book_split(small_world(), train_start_ms=SUNDAY + 1)


def test_import_writes_the_log_row_for_row(tmp_path: Path) -> None:
    world = small_world()
    calls: list[tuple[int, int]] = []
    source = write_source(tmp_path / "source.parquet", world)
    report = import_handbook(source, tmp_path / "log", lambda done, total: calls.append((done, total)))
    days = sorted((tmp_path / "log" / "transactions").iterdir())
    parts = [pq.read_table(day / "part-0.parquet", partitioning=None) for day in days]
    table = pa.concat_tables(parts)
    assert table.schema.equals(TRANSACTIONS_SCHEMA)
    assert report.rows == len(table) == 600
    assert report.days == len(days) == len(set((world.event_time_ms // DAY_MS).tolist()))
    assert calls[-1] == (600, 600)
    assert len(calls) == len(days)
    assert days[0].name == "dt=2018-04-01"
    for day, part in zip(days, parts, strict=True):
        assert set(pc.strftime(part["event_timestamp"], "dt=%Y-%m-%d").to_pylist()) == {day.name}
    assert pc.cast(table["event_timestamp"], pa.int64()).to_pylist() == (world.event_time_ms * 1000).tolist()
    assert table["created_timestamp"].equals(table["event_timestamp"])
    assert table["amount_minor"].to_pylist() == np.maximum(world.amount_minor, 1).tolist()
    assert table["card_id"].to_pylist() == [f"c{c:05d}" for c in world.customer]
    assert table["merchant_id"].to_pylist() == [f"m{t:05d}" for t in world.terminal]
    assert table["device_id"].null_count == table["authorised"].null_count == 600


def test_import_writes_one_late_label_per_fraud_and_the_truth(tmp_path: Path) -> None:
    world = small_world()
    source = write_source(tmp_path / "source.parquet", world)
    report = import_handbook(source, tmp_path / "log", lambda *_: None, label_delay_ms=3 * DAY_MS)
    labels, truth = (pq.read_table(tmp_path / "log" / f"{name}.parquet") for name in ("labels", "truth"))
    assert labels.schema.equals(LABELS_SCHEMA)
    assert truth.schema.equals(TRUTH_SCHEMA)
    frauds = np.flatnonzero(world.is_fraud)
    assert labels["transaction_id"].to_pylist() == [f"t{row:07d}" for row in frauds]
    assert set(labels["source"].to_pylist()) == {"chargeback"}
    arrival = pc.cast(labels["created_timestamp"], pa.int64()).to_numpy()
    assert (arrival // 1000 - world.event_time_ms[frauds] == 3 * DAY_MS).all()
    names = [None, "amount_over_220", "terminal_compromised", "card_details_stolen"]
    assert truth["fraud_type"].to_pylist() == [names[scenario] for scenario in world.scenario]
    manifest = json.loads((tmp_path / "log" / "manifest.json").read_text())
    assert manifest["frauds"] == report.frauds == len(frauds) == sum(manifest["fraud_types"].values())
    assert manifest["first_day"] == "2018-04-01"


def test_amounts_round_half_to_even_and_nothing_becomes_one_unit(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.parquet", small_world(rows=4))
    table = pq.read_table(source)
    amounts = pa.array([0.125, 0.375, 57.16, 0.0])
    pq.write_table(table.set_column(table.schema.get_field_index("TX_AMOUNT"), "TX_AMOUNT", amounts), source)
    assert sorted(read_handbook(source).amount_minor.tolist()) == [0, 12, 38, 5716]
    report = import_handbook(source, tmp_path / "log", lambda *_: None)
    assert report.raised_amounts == 1
    days = (tmp_path / "log" / "transactions").iterdir()
    written = [pq.read_table(day / "part-0.parquet", partitioning=None)["amount_minor"].to_pylist() for day in days]
    assert sorted(amount for part in written for amount in part) == [1, 12, 38, 5716]


def test_a_missing_file_and_a_missing_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match=r"absent\.parquet: no such file"):
        read_handbook(tmp_path / "absent.parquet")
    source = write_source(tmp_path / "source.parquet", small_world())
    pq.write_table(pq.read_table(source).drop_columns(["TERMINAL_ID"]), source)
    with pytest.raises(UnreadableSource, match=r"source\.parquet: column TERMINAL_ID is missing"):
        read_handbook(source)
    source.write_bytes(b"no parquet")
    with pytest.raises(UnreadableSource, match=r"source\.parquet: not readable as Parquet"):
        read_handbook(source)


def test_nulls_and_unknown_scenarios_are_named(tmp_path: Path) -> None:
    world = small_world()
    source = write_source(tmp_path / "source.parquet", world)
    table = pq.read_table(source)
    holed = pa.array([None, *world.customer[1:].tolist()], pa.int32())
    pq.write_table(table.set_column(2, "CUSTOMER_ID", holed), source)
    with pytest.raises(UnreadableSource, match="CUSTOMER_ID holds 1 nulls"):
        read_handbook(source)
    write_source(source, replace(world, scenario=world.scenario + 3))
    with pytest.raises(UnreadableSource, match="TX_FRAUD_SCENARIO"):
        read_handbook(source)


def test_an_import_never_mixes_into_a_folder_in_use(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.parquet", small_world())
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "kept.txt").write_text("mine")
    with pytest.raises(UnwritableOutput, match="exists already"):
        import_handbook(source, tmp_path / "log", lambda *_: None)
    assert [path.name for path in (tmp_path / "log").iterdir()] == ["kept.txt"]


def test_an_import_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise OSError(28, "No space left on device")

    source = write_source(tmp_path / "source.parquet", small_world())
    with pytest.raises(UnwritableOutput, match="No space left on device"):
        import_handbook(source, tmp_path / "log", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["source.parquet"]


@needs_benchmark
def test_the_books_xgboost_row_is_reproduced_to_the_third_decimal() -> None:
    rows = read_handbook(PARQUET)
    assert (len(rows.customer), int(rows.is_fraud.sum())) == (1_754_155, 14_681)
    start_ms = int(np.datetime64("2018-07-25", "ms").astype(np.int64))
    split = book_split(rows, train_start_ms=start_ms)
    assert (len(split.train), int(rows.is_fraud[split.train].sum())) == (67_240, 598)
    assert (len(split.test), int(rows.is_fraud[split.test].sum())) == (58_264, 385)
    features = book_features(rows)
    model = xgboost.XGBClassifier(tree_method="exact", base_score=0.5, random_state=0, n_jobs=1)
    model.fit(features[split.train], rows.is_fraud[split.train])
    scores = model.predict_proba(features[split.test])[:, 1].astype(np.float64)
    is_fraud, day = rows.is_fraud[split.test], rows.event_time_ms[split.test] // DAY_MS
    precision = card_precision_by_day(scores, is_fraud, rows.customer[split.test], day, k=100)
    assert round(roc_auc(scores, is_fraud), 3) == 0.862
    assert round(average_precision(scores, is_fraud), 3) == 0.639
    assert round(float(precision.mean()), 3) == 0.273


@needs_benchmark
def test_the_whole_benchmark_is_imported(tmp_path: Path) -> None:
    report = import_handbook(PARQUET, tmp_path / "log", lambda *_: None)
    assert (report.rows, report.days, report.labels, report.raised_amounts) == (1_754_155, 183, 14_681, 42)
    assert (report.first_day, report.last_day) == ("2018-04-01", "2018-09-30")
    assert report.fraud_types == {"amount_over_220": 973, "terminal_compromised": 9_077, "card_details_stolen": 4_631}
