"""Files dealt out are refused in the words of one machine, and give its rows."""

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pds
import pytest

from stores import parts
from stores.dealt_parts import DealtPart, deal_parts
from stores.errors import UnreadableSource
from stores.files import Location, Span, read_files
from stores.log import CHANGE_COLUMNS, LABELS_SCHEMA, LOG_SCHEMA, load_log, log_days
from tests.support.damages import DAMAGES
from tests.support.lakes import random_payments, some_reports, write_lake

PAYMENTS = random_payments(91, 200, days=12)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parts, "BUSY_DAY", 1)
    write_lake(tmp_path, PAYMENTS, some_reports(PAYMENTS, 91))
    return tmp_path


def dealt(lake: Path) -> list[DealtPart]:
    log = deal_parts(
        Location(str(lake / "transactions")), CHANGE_COLUMNS, "event_timestamp", declared=LOG_SCHEMA, by_day=True
    )
    labels = Location(str(lake / "labels.parquet"))
    wanted = pds.field("is_fraud")
    return log + deal_parts(labels, LABELS_SCHEMA.names, "created_timestamp", declared=LABELS_SCHEMA, wanted=wanted)


def read_apart(lake: Path) -> None:
    for part in dealt(lake):
        list(part.tables())


def read_whole(lake: Path) -> None:
    log_days(Location(str(lake)))
    load_log(Location(str(lake)))


def test_parts_read_apart_are_the_rows_of_one_machine(lake: Path) -> None:
    carried = [pickle.loads(pickle.dumps(part)) for part in dealt(lake)]
    transactions = pa.concat_tables(table for part in carried[:-1] for table in part.tables())
    expected = read_files(
        Location(str(lake / "transactions")), CHANGE_COLUMNS, "event_timestamp", Span(by_day=True), declared=LOG_SCHEMA
    )
    assert transactions.num_rows == len(PAYMENTS)
    assert transactions.equals(expected)
    reports = pa.concat_tables(carried[-1].tables())
    assert reports.num_rows == len(some_reports(PAYMENTS, 91)) > 0
    assert all(reports["is_fraud"].to_pylist())


@pytest.mark.parametrize("name", DAMAGES)
def test_what_one_machine_refuses_is_refused_apart_in_the_same_words(name: str, lake: Path) -> None:
    damage, said = DAMAGES[name]
    damage(lake)
    with pytest.raises(UnreadableSource) as whole:
        read_whole(lake)
    with pytest.raises(UnreadableSource) as apart:
        read_apart(lake)
    assert str(apart.value) == str(whole.value)
    assert said in str(apart.value)
