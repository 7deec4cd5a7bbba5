"""A lake in a bucket answers as the same lake on disk does."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from fraud.windows import ENTITIES
from stores.errors import UnreadableSource
from stores.files import Location, append_rows
from stores.log import load_log
from tests.support.emulators import aws_client, aws_environment, start_moto
from tests.support.lakes import DAY_MS, MOMENT, START_MS, random_payments, some_reports, write_lake


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
