"""The prover finds nothing in the product's own offline path, and names every leak that is planted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fraud.features import FEATURE_NAMES
from stores.as_known import AsKnown
from stores.columns import same_bits
from stores.files import Span
from tests.support.lakes import random_payments, some_reports, write_lake
from training.dataset import read_log
from training.errors import NothingToAudit
from training.leaks import LeakAudit, Scope, as_data, audit
from training.offline_vectors import Evaluate, FloatArray, history_vectors
from training.probes import choose_probes, neighbourhood, read_tables, write_tables
from training.profiles import write_profiles

ROUNDS = 4
END = 2**42


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leaks") / "lake"
    payments = random_payments(5, 900)
    write_lake(folder, payments, some_reports(payments, 5))
    write_profiles(folder, progress=lambda _done, _all: None)
    return folder


def audited(evaluate: Evaluate, lake: Path) -> LeakAudit:
    return audit(evaluate, lake, seed=3, rounds=ROUNDS)


def with_column(vectors: FloatArray, name: str, values: FloatArray) -> FloatArray:
    out = vectors.copy()
    out[:, FEATURE_NAMES.index(name)] = values
    return out


def found(result: LeakAudit) -> set[tuple[str, str]]:
    return {(leak.feature, leak.kind) for leak in result.leaks}


def test_offline_path_leaks_nothing(lake: Path) -> None:
    result = audited(history_vectors, lake)
    assert result.passed
    assert result.leaks == ()
    assert result.probes >= ROUNDS
    assert all(count > 0 for count in result.changes.values())
    assert set(result.changes) == {"future", "same time", "late arrival", "own"}


def test_control_reaches_every_feature_that_is_not_the_request_itself(lake: Path) -> None:
    untested = set(audited(history_vectors, lake).untested)
    request = {"amount", "hour", "weekday", "channel", "merchant_category", "has_device"}
    assert untested <= {f"transaction_{name}" for name in request}
    assert "transaction_amount" in untested


def shifted(lake: Path, rows: pa.Table) -> FloatArray:
    """A tutorial's mistake: the amount of the card's next payment stands where its mean should."""
    log = read_log(lake, 0, END) if any((lake / "transactions").glob("dt=*")) else flat_log(lake)
    frame = log.select(["transaction_id", "card_id", "amount_minor"]).to_pandas()
    frame["next"] = frame.groupby("card_id")["amount_minor"].shift(-1)
    following = pd.Series(frame["next"].to_numpy(), index=frame["transaction_id"])
    values = following.reindex(rows["transaction_id"].to_pylist()).to_numpy(np.float64)
    return with_column(history_vectors(lake, rows), "card_amount_mean_24h", values)


def flat_log(lake: Path) -> pa.Table:
    order = [("event_timestamp", "ascending"), ("transaction_id", "ascending")]
    return pq.read_table(lake / "transactions").sort_by(order)


def inclusive(lake: Path, rows: pa.Table) -> FloatArray:
    """A window that is closed on the right: `<=` instead of `<`."""
    place = rows.schema.get_field_index("event_timestamp")
    later = pc.cast(pc.add(pc.cast(rows["event_timestamp"], pa.int64()), 1_000), rows.schema.field(place).type)
    after = history_vectors(lake, rows.set_column(place, rows.schema.field(place), later))
    name = "merchant_transaction_count_10m"
    return with_column(history_vectors(lake, rows), name, after[:, FEATURE_NAMES.index(name)])


def by_statement_time(lake: Path, rows: pa.Table) -> FloatArray:
    """Fraud reports counted from when they were made, not from when they became known."""
    other = lake.with_name(f"{lake.name}-early")
    other.mkdir(exist_ok=True)
    labels = pq.read_table(lake / "labels.parquet")
    place = labels.schema.get_field_index("created_timestamp")
    pq.write_table(labels.set_column(place, "created_timestamp", labels["event_timestamp"]), other / "labels.parquet")
    if not (other / "transactions").exists():
        (other / "transactions").symlink_to((lake / "transactions").resolve())
    name = "card_report_count_30d"
    return with_column(history_vectors(lake, rows), name, history_vectors(other, rows)[:, FEATURE_NAMES.index(name)])


def test_shift_leak_is_named(lake: Path) -> None:
    result = audited(shifted, lake)
    assert not result.passed
    assert ("card_amount_mean_24h", "future") in found(result)
    assert {feature for feature, _ in found(result)} == {"card_amount_mean_24h"}


def test_same_timestamp_leak_is_named(lake: Path) -> None:
    result = audited(inclusive, lake)
    assert ("merchant_transaction_count_10m", "same time") in found(result)
    assert ("merchant_transaction_count_10m", "own") in found(result)
    assert ("merchant_transaction_count_10m", "future") not in found(result)


def test_late_arrival_leak_is_named(lake: Path) -> None:
    result = audited(by_statement_time, lake)
    assert found(result) == {("card_report_count_30d", "late arrival")}
    assert all(leak.rows > 0 and leak.transaction_id for leak in result.leaks)


def late_payments(lake: Path, rows: pa.Table) -> FloatArray:
    """A set as known whose windows forget to ask when a payment arrived."""
    known = history_vectors(lake, rows, AsKnown(2_000))
    name = "card_transaction_count_24h"
    return with_column(known, name, history_vectors(lake, rows)[:, FEATURE_NAMES.index(name)])


def test_a_payment_that_arrived_too_late_is_a_leak_as_known(lake: Path) -> None:
    clean = audit(
        lambda lake, rows: history_vectors(lake, rows, AsKnown(2_000)), lake, rounds=2, scope=Scope(lag_ms=2_000)
    )
    assert clean.passed
    assert set(clean.changes) == {"future", "same time", "late arrival", "own", "unknown"}
    assert clean.changes["unknown"] > 0
    leaking = audit(late_payments, lake, rounds=2, scope=Scope(lag_ms=2_000))
    assert ("card_transaction_count_24h", "unknown") in found(leaking)
    assert {feature for feature, _ in found(leaking)} == {"card_transaction_count_24h"}
    by_event_time = audit(history_vectors, lake, rounds=2, scope=Scope(lag_ms=2_000))
    assert {kind for _, kind in found(by_event_time)} == {"unknown"}
    assert len(found(by_event_time)) > 50


def test_the_neighbourhood_of_the_audited_rows_answers_as_the_whole_lake(lake: Path, tmp_path: Path) -> None:
    tables = read_tables(lake, Span())
    log = tables.transactions
    drawn = choose_probes(log, np.arange(log.num_rows), most=3, seed=4)
    near, inside = neighbourhood(tables, drawn)
    asked = log.take(pa.array(drawn.place))
    assert near.transactions.take(pa.array(inside.place)).equals(asked)
    assert near.transactions.num_rows <= log.num_rows
    small = history_vectors(write_tables(near, tmp_path / "near"), asked)
    assert same_bits(small, history_vectors(lake, asked)).all()


def test_own_transaction_in_a_total_is_named(lake: Path) -> None:
    def counts_itself(lake: Path, rows: pa.Table) -> FloatArray:
        ids = flat_log(lake)["transaction_id"].combine_chunks()
        there = pc.is_in(rows["transaction_id"], ids).to_numpy(zero_copy_only=False)
        return with_column(history_vectors(lake, rows), "device_transaction_count_7d", there.astype(np.float64))

    assert found(audited(counts_itself, lake)) == {("device_transaction_count_7d", "own")}


def test_profile_of_the_next_night_is_named(lake: Path) -> None:
    def tomorrow(lake: Path, rows: pa.Table) -> FloatArray:
        profiles = pq.read_table(lake / "profiles" / "card").to_pandas()
        last = profiles.sort_values("event_timestamp").groupby("card_id")["card_amount_median_30d"].last()
        values = last.reindex(rows["card_id"].to_pylist()).to_numpy(np.float64)
        return with_column(history_vectors(lake, rows), "card_amount_median_30d", values)

    assert found(audited(tomorrow, lake)) == {("card_amount_median_30d", "future")}


def test_path_that_reads_nothing_proves_nothing(lake: Path) -> None:
    result = audit(lambda _lake, rows: np.zeros((rows.num_rows, len(FEATURE_NAMES))), lake)
    assert result.passed
    assert result.untested == FEATURE_NAMES


def test_audited_rows_are_drawn_from_those_given(lake: Path) -> None:
    rows = read_log(lake, 0, END).slice(100, 3)
    seen: set[str] = set()

    def remember(lake: Path, asked: pa.Table) -> FloatArray:
        seen.update(asked["transaction_id"].to_pylist())
        return history_vectors(lake, asked)

    audit(remember, lake, rows, rounds=3)
    assert seen <= set(rows["transaction_id"].to_pylist())
    assert seen


def test_no_row_to_audit_is_an_error(lake: Path) -> None:
    with pytest.raises(NothingToAudit):
        audit(history_vectors, lake, read_log(lake, 0, 1))


def test_same_seed_audits_the_same(lake: Path) -> None:
    assert as_data(audit(inclusive, lake, seed=9)) == as_data(audit(inclusive, lake, seed=9))
