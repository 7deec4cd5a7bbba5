"""A lake in a bucket answers as the same lake on disk does."""

import contextlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pfs
import pyarrow.parquet as pq
import pytest

from fraud.windows import ENTITIES
from stores.appending import append_rows
from stores.dealt_parts import deal_parts
from stores.errors import UnreadableSource
from stores.files import Location, Span, read_files
from stores.log import CHANGE_COLUMNS, LOG_SCHEMA, load_log
from stores.table_writing import write_tables
from stores.velocity_slabs import VelocitySlabs
from stores.windows_join import Asked
from tests.support.emulators import aws_client, aws_environment, start_moto
from tests.support.lakes import (
    DAY_MS,
    MOMENT,
    START_MS,
    entity_frame,
    moment,
    random_payments,
    some_reports,
    write_lake,
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with start_moto() as address:
        yield address


@pytest.fixture
def lakes(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Location, Location]:
    for name, value in aws_environment().items():
        monkeypatch.setenv(name, value)
    payments = random_payments(30, 120)
    write_lake(tmp_path, payments, some_reports(payments, 30))
    with aws_client("s3", endpoint) as client:
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        for path in tmp_path.rglob("*.parquet"):
            client.upload_file(str(path), "lake", f"all/{path.relative_to(tmp_path)}")
    return Location(str(tmp_path)), Location("s3://lake/all", endpoint)


def test_a_bucket_and_a_folder_hold_one_history(lakes: tuple[Location, Location]) -> None:
    disk, bucket = lakes
    first, last = START_MS - 5 * DAY_MS, START_MS
    one, two = (load_log(lake, first_ms=first, last_ms=last) for lake in (disk, bucket))
    assert len(one.transactions) > 50
    assert len(one.reports) > 0
    for entity in ENTITIES:
        left, right = one.history(entity), two.history(entity)
        assert left.changes.tobytes() == right.changes.tobytes()
        assert left.starts.tolist() == right.starts.tolist()
    rows = pa.table({"day": ["x"], "event_timestamp": pa.array([START_MS * 1000], pa.int64()).cast(MOMENT)})
    append_rows(bucket.within("log"), rows, time="event_timestamp")
    assert bucket.within("log").exists()
    with pytest.raises(UnreadableSource, match=r"s3://lake/nowhere/transactions does not exist"):
        load_log(Location("s3://lake/nowhere", bucket.endpoint))


def test_parts_of_a_bucket_can_be_sent_elsewhere_and_read_there(lakes: tuple[Location, Location]) -> None:
    held = []
    for lake in lakes:
        parts = deal_parts(
            lake.within("transactions"), CHANGE_COLUMNS, "event_timestamp", declared=LOG_SCHEMA, by_day=True
        )
        assert len(parts) > 5
        tables = [table for part in parts for table in pickle.loads(pickle.dumps(part)).tables()]
        held.append(pa.concat_tables(tables))
    assert held[0].num_rows == 120
    assert held[0].equals(held[1])


class CountedFile:
    """One object, its reads noted."""

    def __init__(self, file: pa.NativeFile, path: str, opened: dict[str, int]) -> None:
        self._file, self._path, self._opened = file, path, opened
        opened.setdefault(path, 0)
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(None if size < 0 else size)
        self._opened[self._path] += len(data)
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        return int(self._file.seek(place, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def size(self) -> int:
        return int(self._file.size())

    def readable(self) -> bool:
        return True

    seekable = readable

    def writable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        self.closed = True
        self._file.close()


class CountingFiles(pfs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """A bucket that notes which objects are opened and how many bytes of each are read."""

    def __init__(self, real: pfs.FileSystem) -> None:
        self.real = real
        self.opened: dict[str, int] = {}

    def get_type_name(self) -> str:
        return "counting"

    def get_file_info(self, paths: list[str]) -> list[pfs.FileInfo]:
        return list(self.real.get_file_info(paths))

    def get_file_info_selector(self, selector: pfs.FileSelector) -> list[pfs.FileInfo]:
        return list(self.real.get_file_info(selector))

    def normalize_path(self, path: str) -> str:
        return path

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(CountedFile(self.real.open_input_file(path), path, self.opened), mode="r")

    open_input_stream = open_input_file

    def _refuse(self, *_: object) -> None:
        raise NotImplementedError("this bucket is only read")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = _refuse
    move = copy_file = open_output_stream = open_append_stream = _refuse


def test_only_the_days_and_columns_asked_for_are_read(
    lakes: tuple[Location, Location], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, bucket = lakes
    counting = CountingFiles(bucket.open()[0])
    monkeypatch.setattr(
        Location, "open", lambda self: (pfs.PyFileSystem(counting), self.address.removeprefix("s3://").rstrip("/"))
    )
    log = bucket.within("transactions")
    sizes = {
        item.path: item.size
        for item in counting.real.get_file_info(pfs.FileSelector("lake/all/transactions", recursive=True))
        if item.size
    }
    first, last = (START_MS - 42 * DAY_MS) * 1000, (START_MS - 39 * DAY_MS) * 1000
    table = read_files(log, ("amount_minor",), "event_timestamp", Span(first, last, by_day=True))
    days = {moment(time // 1000).date().isoformat() for time in range(first, last + 1, DAY_MS * 500)}
    expected = {path for path in sizes if path.split("dt=")[1][:10] in days}
    assert table.num_rows > 5
    first_file = min(sizes)  # its footer says what columns there are
    assert set(counting.opened) == expected | {first_file}
    assert counting.opened[first_file] <= sizes[first_file]
    assert 0 < len(expected) < len(sizes) // 2
    narrow = sum(counting.opened.values())
    counting.opened.clear()
    every = tuple(name for name in pq.read_schema(counting.real.open_input_file(next(iter(expected)))).names)
    read_files(log, every, "event_timestamp", Span(first, last, by_day=True))
    assert set(counting.opened) == expected | {first_file}
    assert narrow < sum(counting.opened.values())


def test_windows_from_a_bucket_in_stretches_are_written_to_it(lakes: tuple[Location, Location]) -> None:
    disk, bucket = lakes
    payments = sorted(random_payments(30, 120), key=lambda payment: payment.event_time_ms)
    times = np.array([payment.event_time_ms for payment in payments], np.int64)
    amounts = np.array([payment.amount_minor for payment in payments], np.int64)
    asked = Asked(pa.Table.from_pandas(entity_frame(payments)), times, amounts)
    one, two = VelocitySlabs(disk, asked), VelocitySlabs(bucket, asked, most_rows=90)
    assert (one.stretches, two.stretches > 1) == (1, True)
    values = two.values(slice(0, 120))
    assert values.tobytes() == one.values(slice(0, 120)).tobytes()
    place = bucket.within("windows.parquet")
    assert write_tables(iter([pa.table({"x": values[:, 0]})] * 2), place) == 240
    assert place.exists()
