"""The public benchmark as a proof: the book's figures to the third decimal."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost

from tests.support.handbook import PARQUET, SUNDAY, needs_benchmark, small_world, write_source
from training.errors import InvalidSplit, UnreadableSource
from training.handbook import HandbookTransactions, read_handbook
from training.handbook_protocol import BOOK_FEATURES, book_features, book_split
from training.metrics import average_precision, card_precision_by_day, roc_auc
from training.ranking import DAY_MS


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
