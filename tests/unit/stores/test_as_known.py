"""As known, a question sees exactly what a lake without the later arrivals would show it."""

import random
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud.features import CROSS_FEATURES, VELOCITY
from fraud.transaction import Transaction
from fraud.windows import ENTITIES
from stores.as_known import AsKnown, asked_as_known, asking_as_known
from stores.errors import InvalidStoreConfig, UnsupportedRequest
from stores.files import Location
from stores.log import load_log
from stores.windows_join import Asked, known_states_at, states_at, velocity_arrays
from tests.support.lakes import (
    DAY_MS,
    SCHEMA,
    FraudReport,
    entity_frame,
    log_row,
    moment,
    random_payments,
    some_reports,
    write_lake,
)

NAMES = [feature.name for feature in VELOCITY + CROSS_FEATURES]
LAG_MS = 2_000


def asked_of(payments: list[Transaction], lag_ms: int | None = None) -> Asked:
    times = np.array([payment.event_time_ms for payment in payments], np.int64)
    until = None if lag_ms is None else AsKnown(lag_ms).newest_arrival_us(times * 1000)
    amounts = np.array([payment.amount_minor for payment in payments], np.int64)
    return Asked(pa.Table.from_pandas(entity_frame(payments)), times, amounts, until)


def late_arrivals(payments: list[Transaction], seed: int) -> dict[str, int]:
    """Most at once, some seconds late, one in ten by hours or weeks: the order of arrival is another one."""
    draw = random.Random(seed)
    spread = [0, 0, 0, 1, 1_999, 2_000, 2_001, 40_000, 3_600_000, 20 * DAY_MS]
    return {payment.transaction_id: draw.choice(spread) for payment in payments}


@pytest.mark.parametrize("lag_ms", [0, LAG_MS])
def test_each_row_equals_a_lake_of_what_had_arrived(lag_ms: int, tmp_path: Path) -> None:
    payments = random_payments(51, 240, days=20)
    reports = some_reports(payments, 51)
    delays = late_arrivals(payments, 51)
    delays |= {report.transaction_id: 0 for report in reports}  # a report of a payment nobody has is nobody's
    write_lake(tmp_path / "all", payments, reports, delays)
    asked = payments[8::24]
    log = load_log(Location(str(tmp_path / "all")), arrivals=True)
    found = velocity_arrays(log, asked_of(asked, lag_ms), NAMES)
    differs = 0
    plain = velocity_arrays(log, asked_of(asked), NAMES)
    for row, question in enumerate(asked):
        until = question.event_time_ms - lag_ms
        there = [p for p in payments if p.event_time_ms + delays[p.transaction_id] <= until]
        known = [r for r in reports if r.known_ms <= until]
        write_lake(tmp_path / str(row), there or [payments[-1]], known)
        alone = velocity_arrays(load_log(Location(str(tmp_path / str(row)))), asked_of([question]), NAMES)
        assert [found[n][row].as_py() for n in NAMES] == [alone[n][0].as_py() for n in NAMES], row
        differs += any(found[n][row] != plain[n][row] for n in NAMES)
    assert differs > len(asked) // 4


def test_a_second_copy_adds_its_decline_only_once_it_has_arrived(tmp_path: Path) -> None:
    payments = random_payments(52, 40)
    first = payments[10]
    write_lake(tmp_path, payments)
    again = log_row(first) | {"authorised": False, "created_timestamp": moment(first.event_time_ms + DAY_MS)}
    day = tmp_path / "transactions" / f"dt={moment(first.event_time_ms).date().isoformat()}"
    pq.write_table(pa.Table.from_pylist([log_row(first) | {"authorised": None}], SCHEMA), day / "part-0.parquet")
    pq.write_table(pa.Table.from_pylist([again], SCHEMA), day / "part-1.parquet")
    log = load_log(Location(str(tmp_path)), arrivals=True)
    asked = [
        msgspec.structs.replace(first, event_time_ms=first.event_time_ms + later, transaction_id=f"q{later}")
        for later in (1, DAY_MS - 1, DAY_MS)
    ]
    found = velocity_arrays(log, asked_of(asked, 0), ["card_transaction_count_24h", "card_declined_count_24h"])
    declined = found["card_declined_count_24h"].to_pylist()
    assert declined[2] == declined[1] + 1
    assert declined[0] <= declined[1]


def test_states_as_known_hold_what_had_arrived(tmp_path: Path) -> None:
    payments = random_payments(53, 200)
    delays = late_arrivals(payments, 53)
    write_lake(tmp_path / "all", payments, [], delays)
    question = payments[150]
    as_of = question.event_time_ms
    write_lake(
        tmp_path / "there", [p for p in payments if p.event_time_ms + delays[p.transaction_id] <= as_of - LAG_MS]
    )
    log = load_log(Location(str(tmp_path / "all")), arrivals=True)
    there = load_log(Location(str(tmp_path / "there")))
    times, until = np.array([as_of, as_of]), np.array([as_of - LAG_MS] * 2) * 1000
    for entity in ENTITIES:
        key = pa.array([question.card_id if entity == "card" else "m1", "stranger"])
        found = known_states_at(log.known_history(entity), log.numbers(entity, key), times, until)
        expected = states_at(there.history(entity), there.numbers(entity, key), times)
        assert [column.to_pylist() for column in found] == [column.to_pylist() for column in expected]


def test_a_log_without_arrivals_does_not_guess(tmp_path: Path) -> None:
    write_lake(tmp_path, random_payments(54, 5))
    with pytest.raises(UnsupportedRequest, match="arrivals=True"):
        load_log(Location(str(tmp_path))).known_history("card")


def test_the_block_around_a_request_goes_before_the_configuration() -> None:
    configured = AsKnown(5)
    assert asked_as_known(configured) == configured
    with asking_as_known(AsKnown(7)):
        assert asked_as_known(configured) == AsKnown(7)
        with asking_as_known(None):
            assert asked_as_known(configured) is None
        assert asked_as_known(None) == AsKnown(7)
    assert asked_as_known(None) is None


def test_a_negative_lag_is_refused() -> None:
    with pytest.raises(UnsupportedRequest, match="lag_ms=-1 is negative"):
        AsKnown(-1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_negative_lag_is_refused_in_the_configuration() -> None:
    from stores.offline_store import AsOfOfflineStoreConfig

    assert AsOfOfflineStoreConfig(as_known=True, lag_ms=2000).lag_ms == LAG_MS
    with pytest.raises(InvalidStoreConfig, match="lag_ms: -1 is negative"):
        AsOfOfflineStoreConfig(lag_ms=-1)


def test_reports_are_known_from_their_arrival_on(tmp_path: Path) -> None:
    payments = random_payments(55, 60)
    known = payments[-1].event_time_ms - 10_000
    write_lake(tmp_path, payments, [FraudReport(payments[5].transaction_id, known)])
    asked = [
        msgspec.structs.replace(payments[5], event_time_ms=known + later, transaction_id=f"q{later}")
        for later in (1, LAG_MS - 1, LAG_MS)
    ]
    log = load_log(Location(str(tmp_path)), arrivals=True)
    counts = [velocity_arrays(log, asked_of(asked, lag), ["card_report_count_30d"]) for lag in (0, LAG_MS)]
    assert [count["card_report_count_30d"].to_pylist() for count in counts] == [[1, 1, 1], [0, 0, 1]]
