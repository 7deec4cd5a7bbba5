"""Rows are the transactions in order, and the future changes no byte of an earlier row; through Feast itself."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fraud.features import FEATURE_NAMES
from tests.support.feast_lakes import MIDDLE_MS, PAYMENTS, REPO, REPORTS, FeastLake
from tests.support.lakes import DAY_MS, FraudReport
from training.challenger import TrainingPlan
from training.dataset import read_log
from training.errors import InvalidSplit, RepositoryNotApplied, UnreadableSource
from training.feast_store import compiled_plan, open_lake_store
from training.frames import write_training_set

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_one_row_for_each_transaction_in_order(filled: FeastLake) -> None:
    rows = filled.rows()
    expected = sorted(PAYMENTS, key=lambda p: (p.event_time_ms, p.transaction_id))
    assert rows.transaction_id.to_pylist() == [p.transaction_id for p in expected]
    assert rows.amount_minor.tolist() == [p.amount_minor for p in expected]
    assert rows.event_time_ms.tolist() == [p.event_time_ms for p in expected]
    assert rows.matrix.shape == (len(PAYMENTS), len(FEATURE_NAMES))
    cards = [p.card_id for p in expected]
    assert len(set(zip(cards, rows.card.tolist(), strict=True))) == len(set(cards))


def test_labels_are_those_that_had_arrived(filled: FeastLake) -> None:
    rows = filled.rows(as_of_ms=MIDDLE_MS)
    known = {report.transaction_id for report in REPORTS if report.known_ms <= MIDDLE_MS}
    found = {name for name, fraud in zip(rows.transaction_id.to_pylist(), rows.is_fraud, strict=True) if fraud}
    assert found == known
    assert 0 < len(known) < len(REPORTS)


def test_the_future_changes_no_byte_of_an_earlier_row(filled: FeastLake) -> None:
    whole = filled.rows(end_ms=MIDDLE_MS, as_of_ms=MIDDLE_MS)
    past = [p for p in PAYMENTS if p.event_time_ms < MIDDLE_MS]
    known = [report for report in REPORTS if report.known_ms <= MIDDLE_MS]
    filled.fill(past, known)
    alone = filled.rows(end_ms=MIDDLE_MS, as_of_ms=MIDDLE_MS)
    later = [
        msgspec.structs.replace(p, amount_minor=p.amount_minor * 7 + 1)
        for p in PAYMENTS
        if p.event_time_ms >= MIDDLE_MS
    ]
    filled.fill(past + later, known)
    another = filled.rows(end_ms=MIDDLE_MS, as_of_ms=MIDDLE_MS)
    assert len(alone.is_fraud) == len(past) > 100
    for other in (alone, another):
        assert other.matrix.tobytes() == whole.matrix.tobytes()
        assert other.is_fraud.tobytes() == whole.is_fraud.tobytes()
    assert np.isfinite(whole.matrix[:, whole.columns(("card_amount_sum_30d",))]).any()


def test_a_later_label_changes_no_feature_of_an_earlier_row(filled: FeastLake) -> None:
    before = filled.rows(end_ms=MIDDLE_MS)
    later = [FraudReport(p.transaction_id, MIDDLE_MS + 1) for p in PAYMENTS[3:300:7]]
    filled.fill(PAYMENTS, [*REPORTS, *later])
    after = filled.rows(end_ms=MIDDLE_MS)
    assert after.matrix.tobytes() == before.matrix.tobytes()
    assert after.is_fraud.sum() > before.is_fraud.sum()


def test_columns_and_spans_are_found_by_name_and_time(filled: FeastLake) -> None:
    rows = filled.rows()
    taken = rows.between(MIDDLE_MS, MIDDLE_MS + DAY_MS)
    inside = (rows.event_time_ms >= MIDDLE_MS) & (rows.event_time_ms < MIDDLE_MS + DAY_MS)
    assert np.flatnonzero(inside).tolist() == list(range(taken.start, taken.stop))
    assert rows.columns(FEATURE_NAMES[5:2:-1]).tolist() == [5, 4, 3]


def test_equal_sets_give_equal_files(filled: FeastLake, tmp_path: Path) -> None:
    digests = [write_training_set(filled.rows(), tmp_path / f"{name}.parquet") for name in "ab"]
    assert digests[0] == digests[1]
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == [
        "transaction_id",
        "event_timestamp",
        "card",
        "amount_minor",
        *FEATURE_NAMES,
        "is_fraud",
    ]
    rows = filled.rows()
    for position, name in enumerate(FEATURE_NAMES):
        assert table[name].null_count == int(np.isnan(rows.matrix[:, position]).sum())
    assert pc.sum(table["is_fraud"]).as_py() == rows.is_fraud.sum()


def test_a_span_without_rows_says_which_days_there_are(filled: FeastLake) -> None:
    with pytest.raises(InvalidSplit, match=r"no transaction from 1970-01-01 to 1970-01-02 \(exclusive\); it has 20"):
        filled.rows(end_ms=DAY_MS)


def test_the_log_is_read_to_the_millisecond(filled: FeastLake) -> None:
    time = PAYMENTS[100].event_time_ms
    one = read_log(filled.folder, time, time + 1)
    expected = sorted(p.transaction_id for p in PAYMENTS if p.event_time_ms == time)
    assert one["transaction_id"].to_pylist() == expected


def test_a_missing_log_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match="transactions is missing: generate or import"):
        read_log(tmp_path, 0, DAY_MS)


def test_each_lake_has_a_registry_of_its_own_that_names_its_log(filled: FeastLake) -> None:
    source = filled.store.get_feature_view("card_velocity").batch_source
    assert source.path == str(filled.folder.resolve() / "transactions")
    registry = filled.folder / "feast" / "registry.db"
    written = registry.stat().st_mtime_ns
    open_lake_store(REPO, filled.folder)
    assert registry.stat().st_mtime_ns == written


def test_the_compiled_plan_covers_the_contract(filled: FeastLake) -> None:
    plan = compiled_plan(filled.store)
    assert {entity["join_key"] for entity in plan["entities"]} == {"card_id", "device_id", "ip", "merchant_id"}
    assert sorted(plan["features"]) == sorted(FEATURE_NAMES)


def test_a_folder_that_is_no_feast_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotApplied, match=r"feature_store\.yaml is missing: --repo must name"):
        open_lake_store(tmp_path, tmp_path)


def test_plans_count_back_from_the_day_whose_labels_are_mature() -> None:
    plan = TrainingPlan(train_days=30, validation_days=7, test_days=5, label_delay_days=21)
    edges = plan.edges(100 * DAY_MS + 12_345)
    assert [edge / DAY_MS for edge in edges] == [37, 67, 74, 79]
    assert plan.days == 42


@pytest.mark.parametrize(
    ("name", "value"), [("train_days", 0), ("test_days", 0), ("label_delay_days", -1), ("review_share", 1.5)]
)
def test_a_plan_out_of_range_names_its_value(name: str, value: float) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(InvalidSplit, match=f"{name} {value} is not"):
        TrainingPlan(**options)


def test_pyarrow_ids_are_text(filled: FeastLake) -> None:
    assert filled.rows().transaction_id.type == pa.string()
