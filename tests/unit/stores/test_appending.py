"""Rows are added beside what is there, in its types, whole or not at all."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq
import pytest

from stores.appending import append_rows, fitted
from stores.errors import UnfitRows, UnreadableSource, UnsupportedRequest
from stores.files import Location, Span, read_files
from tests.support.lakes import DAY_MS, MOMENT, START_MS, random_payments, write_lake

TIMES = pa.array([START_MS * 1000, START_MS * 1000 + 1], pa.int64()).cast(MOMENT)
WHOLE = ("card_id", "event_timestamp")


@pytest.fixture
def place(tmp_path: Path) -> Location:
    """Two files: the first knows the type of all columns but ``note``, the second of ``note``."""
    (tmp_path / "seen").mkdir()
    rows = {"card_id": ["a", "b"], "seen": pa.array([1, 2]), "event_timestamp": TIMES}
    pq.write_table(pa.table(rows | {"note": pa.nulls(2)}), tmp_path / "seen" / "a.parquet")
    pq.write_table(pa.table(rows | {"note": ["x", None]}), tmp_path / "seen" / "b.parquet")
    return Location(str(tmp_path / "seen"))


def rows(**changed: Any) -> pa.Table:
    columns = {"card_id": ["a", "b"], "seen": pa.array([3, 4]), "event_timestamp": TIMES, "note": ["y", "z"]}
    return pa.table(columns | changed)


def test_appending_leaves_what_is_there_and_finds_the_day(tmp_path: Path) -> None:
    write_lake(tmp_path, random_payments(4, 20))
    log = tmp_path / "transactions"
    before = {path: path.read_bytes() for path in log.rglob("*.parquet")}
    time = START_MS + 3 * DAY_MS
    late = pa.table({"transaction_id": ["late"], "event_timestamp": pa.array([time * 1000], pa.int64()).cast(MOMENT)})
    append_rows(Location(str(log)), late, time="event_timestamp")
    append_rows(Location(str(log)), late, time="event_timestamp")
    assert {path: path.read_bytes() for path in before} == before
    span = Span(time * 1000, time * 1000, by_day=True)
    found = read_files(Location(str(log)), ("transaction_id", "event_timestamp"), "event_timestamp", span)
    assert found["transaction_id"].to_pylist() == ["late"] * 2


def test_one_file_takes_no_more_rows(tmp_path: Path) -> None:
    table = pa.table({"a": [1]})
    pq.write_table(table, tmp_path / "one.parquet")
    for add in (append_rows, lambda where, some: fitted(where, some, whole=())):
        with pytest.raises(UnsupportedRequest, match="is one file"):
            add(Location(str(tmp_path / "one.parquet")), table)


def test_rows_take_the_types_that_lie_there(place: Location) -> None:
    fine = TIMES.cast(pa.timestamp("ns"))
    made = fitted(place, rows(seen=[5.0, None], note=pa.nulls(2), event_timestamp=fine), whole=WHOLE)
    assert (made["seen"].type, made["seen"].to_pylist()) == (pa.int64(), [5, None])
    assert (made["note"].type, made["event_timestamp"].type) == (pa.string(), pa.timestamp("ns"))
    append_rows(place, made, time="event_timestamp")
    found = read_files(place, ["seen", "note"], "event_timestamp", Span())
    assert sorted(found["seen"].to_pylist(), key=str) == [1, 1, 2, 2, 5, None]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seen": [5.5, 1.0]}, "column 'seen' is double, which does not fit the int64 of .*/seen: .*5.5"),
        ({"seen": ["x", "1"]}, "column 'seen' is string, which does not fit the int64"),
        ({"card_id": ["a", None]}, "column 'card_id' holds 1 nulls, the first in row 1; .*/seen takes none there"),
        ({"event_timestamp": pa.nulls(2, MOMENT)}, "column 'event_timestamp' holds 2 nulls, the first in row 0"),
        (
            {"event_timestamp": ["soon", "later"]},
            "'event_timestamp' is string, which does not fit the timestamp",
        ),
    ],
)
def test_rows_that_would_spoil_a_source_are_not_added(place: Location, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UnfitRows, match=said):
        fitted(place, rows(**changed), whole=WHOLE)


def test_a_column_that_others_have_must_be_there(place: Location) -> None:
    for name in ("note", "seen", "card_id"):
        with pytest.raises(UnfitRows, match=f"no column '{name}'"):
            fitted(place, rows().drop_columns([name]), whole=WHOLE)
    assert fitted(Location(f"{place.address}-of-none"), rows().drop_columns(["note"]), whole=WHOLE).num_columns == 3


def test_a_writer_that_was_stopped_leaves_nothing_to_read(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    write = pds.write_dataset

    def stopped(*arguments: Any, **options: Any) -> None:
        write(*arguments, **options)
        for path in Path(place.address).rglob("*.parquet"):
            if path.name.startswith(".part-"):
                path.write_bytes(path.read_bytes()[:40])  # as far as it came
        raise KeyboardInterrupt

    monkeypatch.setattr(pds, "write_dataset", stopped)
    with pytest.raises(KeyboardInterrupt):
        append_rows(place, rows(), time="event_timestamp")
    assert read_files(place, ["seen"], "event_timestamp", Span())["seen"].to_pylist() == [1, 2, 1, 2]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnreadableSource, match="file/folder cannot be written"):
        append_rows(Location(str(tmp_path / "file" / "folder")), rows())
