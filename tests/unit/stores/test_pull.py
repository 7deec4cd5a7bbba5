"""What materializing reads: every row or the newest, and states only of a log without a gap."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from stores.errors import UnreadableSource
from stores.files import Location, Span
from tests.support.lakes import START_MS, random_payments, write_lake

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def test_a_state_is_not_made_of_a_log_that_lacks_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stores import parts
    from stores.pull import Pull

    monkeypatch.setattr(parts, "BUSY_DAY", 3)
    write_lake(tmp_path, random_payments(31, 600, days=20))
    place = Location(str(tmp_path / "transactions"))
    pull = Pull(place, ["card_id"], ["card_revision"], "event_timestamp", "", Span(None, START_MS * 1000))
    assert sum(pa.concat_tables(pull.states("card"))["card_revision"].to_pylist()) == 600
    lost = sorted((tmp_path / "transactions").iterdir())[4]
    shutil.rmtree(lost)
    with pytest.raises(UnreadableSource, match=f"has no rows of {lost.name.removeprefix('dt=')}"):
        pull.states("card")


def test_every_row_is_counted_before_it_is_read(tmp_path: Path) -> None:
    from stores.pull import Pull

    payments = random_payments(32, 300)
    write_lake(tmp_path, payments)
    span = Span(payments[100].event_time_ms * 1000, None)
    tables = Pull(
        Location(str(tmp_path / "transactions")), ["card_id"], ["country"], "event_timestamp", "", span
    ).every()
    assert 0 < tables.rows == sum(table.num_rows for table in tables) < 300
