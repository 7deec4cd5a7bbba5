"""Files are checked before they are read; what is wrong names the file and the column."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stores.errors import UnreadableSource
from stores.files import Location, Span, read_files
from stores.log import load_log
from stores.parts import missing_days
from tests.support.lakes import DAY_MS, MOMENT, START_MS, random_payments, write_lake


def written(folder: Path, **files: dict[str, Any]) -> Location:
    time = pa.array([START_MS * 1000], pa.int64()).cast(MOMENT)
    folder.mkdir()
    for name, columns in files.items():
        pq.write_table(pa.table({"event_timestamp": time} | columns), folder / f"{name}.parquet")
    return Location(str(folder))


def read(location: Location, *columns: str) -> list[Any]:
    values: list[Any] = read_files(location, columns, "event_timestamp", Span())[columns[0]].to_pylist()
    return values


def test_a_column_that_one_file_lacks_is_not_filled_with_nulls(tmp_path: Path) -> None:
    location = written(tmp_path / "drift", a={"x": [1], "y": ["p"]}, b={"x": [2]})
    assert read(location, "x") == [1, 2]
    with pytest.raises(UnreadableSource, match=r"drift/b\.parquet has no column 'y'; it has event_timestamp, x"):
        read(location, "y")


def test_a_type_that_would_change_values_names_file_and_column(tmp_path: Path) -> None:
    location = written(tmp_path / "drift", a={"x": [1]}, b={"x": [1.5]})
    with pytest.raises(UnreadableSource, match=r"drift/b\.parquet has column 'x' as double, .* as int64"):
        read(location, "x")


def test_the_first_file_is_held_to_what_the_others_have(tmp_path: Path) -> None:
    location = written(tmp_path / "drift", a={"x": [1]}, b={"x": [2], "y": ["p"]})
    with pytest.raises(UnreadableSource, match=r"drift/a\.parquet has no column 'y'; it has event_timestamp, x"):
        read(location, "y")


def test_a_declared_schema_holds_even_where_all_files_agree(tmp_path: Path) -> None:
    location = written(tmp_path / "agreed", a={"x": [1], "y": pa.array([None], pa.string())}, b={"x": [2], "y": ["p"]})
    right = pa.schema([pa.field("x", pa.int32()), pa.field("y", pa.string(), nullable=False)])
    table = read_files(location, ["x"], "event_timestamp", Span(), declared=right)
    assert (table["x"].type, table["x"].to_pylist()) == (pa.int32(), [1, 2])
    with pytest.raises(UnreadableSource, match=r"agreed/a\.parquet holds 1 nulls in column 'y'"):
        read_files(location, ["y"], "event_timestamp", Span(), declared=right)
    with pytest.raises(UnreadableSource, match=r"agreed/a\.parquet has column 'x' as int64, not string"):
        read_files(location, ["x"], "event_timestamp", Span(), declared=pa.schema([("x", pa.string())]))


def test_a_declared_time_may_be_finer_than_its_schema(tmp_path: Path) -> None:
    fine = pa.array([START_MS * 1_000_000 + 999], pa.int64()).cast(pa.timestamp("ns"))
    location = written(tmp_path / "fine", a={"seen": fine})
    table = read_files(location, ["seen"], "event_timestamp", Span(), declared=pa.schema([("seen", MOMENT)]))
    assert table["seen"].cast(pa.int64()).to_pylist() == [START_MS * 1000]


def test_types_that_keep_every_value_may_differ(tmp_path: Path) -> None:
    narrow, empty = pa.array([7], pa.int32()), pa.nulls(1)
    assert read(written(tmp_path / "widths", a={"x": [1]}, b={"x": narrow}, c={"x": empty}), "x") == [1, 7, None]


def test_a_broken_file_is_named_whatever_is_broken(tmp_path: Path) -> None:
    location = written(tmp_path / "torn", a={"x": list(range(1))}, b={"x": [2]})
    whole = (tmp_path / "torn" / "b.parquet").read_bytes()
    (tmp_path / "torn" / "b.parquet").write_bytes(whole[:40])
    with pytest.raises(UnreadableSource, match=r"torn/b\.parquet cannot be read"):
        read(location, "x")
    pages = bytearray(whole)
    pages[4:30] = b"\xff" * 26  # the footer is whole, the page in front of it is not
    (tmp_path / "torn" / "b.parquet").write_bytes(bytes(pages))
    with pytest.raises(UnreadableSource, match=r"torn/b\.parquet cannot be read"):
        read(location, "event_timestamp")


def test_a_drifted_partition_of_the_log_is_named(tmp_path: Path) -> None:
    write_lake(tmp_path, random_payments(71, 60))
    last = max((tmp_path / "transactions").rglob("*.parquet"))
    table = pq.read_table(last, partitioning=None)
    pq.write_table(table.drop_columns(["latitude"]), last)
    with pytest.raises(UnreadableSource, match=rf"{last.parent.name}/part-0\.parquet has no column 'latitude'"):
        load_log(Location(str(tmp_path)))


def rewritten(path: Path, times: Any, *, footer: bool = True) -> None:
    table = pq.read_table(path, partitioning=None)
    place = table.schema.get_field_index("event_timestamp")
    pq.write_table(table.set_column(place, "event_timestamp", times(table)), path, write_statistics=footer)


@pytest.mark.parametrize("footer", [True, False])
@pytest.mark.parametrize("bounded", [True, False])
def test_a_row_without_a_time_is_not_lost_between_two_bounds(tmp_path: Path, bounded: bool, footer: bool) -> None:
    write_lake(tmp_path, random_payments(72, 60))
    last = max((tmp_path / "transactions").rglob("*.parquet"))
    rewritten(last, lambda table: pa.array([None, *table["event_timestamp"].to_pylist()[1:]], MOMENT), footer=footer)
    first, end = (START_MS - 1, START_MS) if bounded else (None, None)
    with pytest.raises(UnreadableSource, match=r"part-0\.parquet holds 1 nulls in column 'event_timestamp'"):
        load_log(Location(str(tmp_path)), first_ms=first, last_ms=end)


def test_an_ordinary_source_without_a_time_is_named_too(tmp_path: Path) -> None:
    location = written(tmp_path / "timeless", a={"x": [1]}, b={"x": [2]})
    pq.write_table(pa.table({"x": [3], "event_timestamp": pa.nulls(1)}), tmp_path / "timeless" / "c.parquet")
    with pytest.raises(UnreadableSource, match=r"timeless/c\.parquet holds 1 nulls in column 'event_timestamp'"):
        read_files(location, ["x"], "event_timestamp", Span(0, START_MS * 1000))


@pytest.mark.parametrize("footer", [True, False])
def test_a_row_of_another_day_than_its_folders_is_not_lost(tmp_path: Path, footer: bool) -> None:
    payments = random_payments(73, 60)
    write_lake(tmp_path, payments)
    last = max((tmp_path / "transactions").rglob("*.parquet"))
    rewritten(
        last,
        lambda table: pc.subtract(table["event_timestamp"], pa.scalar(DAY_MS * 1000, pa.duration("us"))),
        footer=footer,
    )
    said = r"part-0\.parquet holds \d+ rows of other days in column 'event_timestamp'; move each to the folder"
    with pytest.raises(UnreadableSource, match=said):
        load_log(Location(str(tmp_path)), first_ms=START_MS - 1)
    table = pq.read_table(last, partitioning=None)
    elsewhere = Location(str(last.parent))  # the same file, where no folder says a day
    assert len(read_files(elsewhere, ["event_timestamp"], "event_timestamp", Span(by_day=True))) == len(table)


@pytest.mark.parametrize("day", ["20260131", "2026-1-31", "31.01.2026"])
def test_a_day_written_otherwise_is_refused(tmp_path: Path, day: str) -> None:
    write_lake(tmp_path, random_payments(74, 60))
    folder = min((tmp_path / "transactions").iterdir())
    folder.rename(folder.with_name(f"dt={day}"))
    with pytest.raises(UnreadableSource, match=f"lies in dt={day}; name the day as dt=2026-01-31"):
        load_log(Location(str(tmp_path)), first_ms=START_MS - 1)


def test_quiet_days_are_not_missing() -> None:
    assert missing_days({"2026-01-01": 999, "2026-01-03": 5000, "2026-01-04": 5000}) == []
    assert missing_days({"2026-01-01": 5000, "2026-01-04": 5000}) == ["2026-01-02", "2026-01-03"]
    assert missing_days({}) == []
