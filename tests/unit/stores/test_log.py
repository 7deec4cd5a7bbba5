"""The log as histories: the very changes that the stream would have made, transaction by transaction."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud.velocity import entity_key, report_change, transaction_change
from fraud.windows import ENTITIES, Entity
from stores.appending import append_rows
from stores.errors import UnreadableSource
from stores.files import Location
from stores.log import REACH_MS, Log, load_log
from tests.support.lakes import (
    DAY_MS,
    SCHEMA,
    START_MS,
    FraudReport,
    log_row,
    random_payments,
    some_reports,
    write_lake,
)


def changes_of(log: Log, entity: Entity, key: str) -> bytes:
    history = log.history(entity)
    number = log.numbers(entity, pa.array([key]))[0]
    return b"" if number < 0 else history.of(number).tobytes()


def test_a_history_holds_what_the_stream_would_have_applied(tmp_path: Path) -> None:
    payments = random_payments(5, 300)
    reports = some_reports(payments, 5)
    write_lake(tmp_path, payments, reports)
    log = load_log(Location(str(tmp_path)))
    by_id = {payment.transaction_id: payment for payment in payments}
    assert len(reports) > 10
    for entity in ENTITIES:
        for key in {entity_key(entity, payment) for payment in payments} - {None}:
            assert key is not None
            parts = [transaction_change(entity, p) for p in payments if entity_key(entity, p) == key]
            parts += [
                report_change(report.transaction_id, report.known_ms)
                for report in reports
                if entity_key(entity, by_id[report.transaction_id]) == key
            ]
            expected = np.concatenate(parts)
            assert changes_of(log, entity, key) == np.sort(expected, order=("time", "id")).tobytes(), (entity, key)


def test_a_transaction_logged_twice_counts_once(tmp_path: Path) -> None:
    payments = random_payments(6, 50)
    write_lake(tmp_path / "once", payments)
    write_lake(tmp_path / "twice", payments)
    again = pa.Table.from_pylist([log_row(payment) for payment in payments[10:20]], SCHEMA)
    append_rows(Location(str(tmp_path / "twice" / "transactions")), again, time="event_timestamp")
    once, twice = (load_log(Location(str(tmp_path / name))) for name in ("once", "twice"))
    for card in range(10):
        assert changes_of(once, "card", f"c{card}") == changes_of(twice, "card", f"c{card}")


def test_a_log_reaches_back_as_far_as_a_window_and_never_to_its_last_time(tmp_path: Path) -> None:
    payments = random_payments(7, 400, days=90)
    write_lake(tmp_path, payments)
    first, last = payments[250].event_time_ms, payments[350].event_time_ms
    times = load_log(Location(str(tmp_path)), first_ms=first, last_ms=last).transactions["time"].tolist()
    every = [payment.event_time_ms for payment in payments]
    assert sorted(times) == [time for time in every if first - REACH_MS <= time < last]


def test_a_report_finds_its_payment_long_before_the_span(tmp_path: Path) -> None:
    payments = random_payments(8, 200, days=90)
    known = START_MS - DAY_MS
    write_lake(tmp_path, payments, [FraudReport(payments[0].transaction_id, known)])
    log = load_log(Location(str(tmp_path)), first_ms=START_MS - 2 * DAY_MS)
    assert payments[0].event_time_ms < START_MS - 2 * DAY_MS - REACH_MS
    assert log.reports["time"].tolist() == [known]
    assert log.keys["card"][log.report_keys["card"][0]].as_py() == payments[0].card_id


def test_a_report_about_an_unknown_payment_changes_nothing(tmp_path: Path) -> None:
    payments = random_payments(9, 20)
    write_lake(tmp_path, payments, [FraudReport("never-seen", START_MS)])
    assert len(load_log(Location(str(tmp_path))).reports) == 0


def test_a_lake_without_labels_has_no_reports(tmp_path: Path) -> None:
    write_lake(tmp_path, random_payments(10, 20))
    (tmp_path / "labels.parquet").unlink()
    log = load_log(Location(str(tmp_path)))
    assert (len(log.transactions), len(log.reports)) == (20, 0)


def test_a_null_where_the_schema_has_none_is_refused(tmp_path: Path) -> None:
    payments = random_payments(11, 5)
    write_lake(tmp_path, payments)
    broken = pa.Table.from_pylist([log_row(payments[0]) | {"card_id": None}], SCHEMA)
    pq.write_table(broken, min((tmp_path / "transactions").iterdir()) / "part-1.parquet")
    with pytest.raises(UnreadableSource, match="nulls in column 'card_id'"):
        load_log(Location(str(tmp_path)))
