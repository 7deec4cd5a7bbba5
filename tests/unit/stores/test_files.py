"""Parquet read by columns and time."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stores.errors import UnreadableSource
from stores.files import Location, Span, read_files
from tests.support.lakes import START_MS, random_payments, write_lake

COLUMNS = ("transaction_id", "event_timestamp")


def times_in(folder: Path, span: Span) -> list[int]:
    table = read_files(Location(str(folder)), COLUMNS, "event_timestamp", span)
    return sorted(table["event_timestamp"].cast(pa.int64()).to_pylist())


def test_a_span_returns_its_rows_and_both_its_ends(tmp_path: Path) -> None:
    payments = random_payments(1, 200)
    write_lake(tmp_path, payments)
    every = sorted(payment.event_time_ms * 1000 for payment in payments)
    first, last = every[50], every[150]
    expected = [time for time in every if first <= time <= last]
    for by_day in (False, True):
        assert times_in(tmp_path / "transactions", Span(first, last, by_day=by_day)) == expected


def test_days_outside_a_span_are_not_opened(tmp_path: Path) -> None:
    payments = random_payments(2, 100)
    write_lake(tmp_path, payments)
    days = sorted((tmp_path / "transactions").iterdir())
    (days[1] / "part-0.parquet").write_bytes(b"not Parquet")
    last = payments[-1].event_time_ms * 1000
    assert times_in(tmp_path / "transactions", Span(last, None, by_day=True))[-1] == last
    with pytest.raises(UnreadableSource, match=r"part-0\.parquet"):
        times_in(tmp_path / "transactions", Span(None, None, by_day=True))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write_lake(tmp_path, random_payments(3, 5))
    with pytest.raises(UnreadableSource, match="'colour'"):
        read_files(Location(str(tmp_path / "transactions")), ("colour",), "event_timestamp", Span())


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match="does not exist"):
        times_in(tmp_path / "nowhere", Span())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableSource, match="no Parquet file"):
        times_in(tmp_path / "empty", Span())


def test_a_time_without_zone_is_utc(tmp_path: Path) -> None:
    times = pa.array([START_MS, START_MS + 1], pa.int64()).cast(pa.timestamp("ms"))
    pq.write_table(pa.table({"transaction_id": ["a", "b"], "event_timestamp": times}), tmp_path / "naive.parquet")
    assert times_in(tmp_path / "naive.parquet", Span(START_MS * 1000 + 1)) == [(START_MS + 1) * 1000]
