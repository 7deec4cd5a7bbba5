"""A file is there whole or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stores.errors import UnreadableSource
from stores.files import Location
from stores.table_writing import write_tables


def tables(count: int) -> Iterator[pa.Table]:
    for number in range(count):
        yield pa.table({"x": [number] * 10})


def test_tables_become_one_file_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.parquet"
    assert write_tables(tables(7), Location(str(path))) == 70
    assert pq.read_table(path)["x"].to_pylist() == [number for number in range(7) for _ in range(10)]
    assert [item.name for item in path.parent.iterdir()] == ["rows.parquet"]


def test_what_fails_halfway_leaves_the_file_before_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_tables(tables(1), Location(str(path)))

    def failing() -> Iterator[pa.Table]:
        yield from tables(3)
        raise UnreadableSource("the source broke")

    with pytest.raises(UnreadableSource, match="the source broke"):
        write_tables(failing(), Location(str(path)))
    assert pq.read_table(path).num_rows == 10
    assert [item.name for item in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(UnreadableSource, match=r"file/rows\.parquet cannot be written"):
        write_tables(tables(1), Location(str(tmp_path / "file" / "rows.parquet")))
