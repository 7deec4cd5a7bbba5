"""Velocity from the log equals velocity from states, bit for bit."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fraud import ring
from fraud.features import CROSS_FEATURES, VELOCITY, velocity_columns
from fraud.transaction import Transaction
from fraud.velocity import entity_key, report_change, transaction_change, update
from fraud.windows import ENTITIES, Entity
from stores import windows_join
from stores.files import Location
from stores.log import load_log
from stores.windows_join import Asked, latest_states, states_at, velocity_arrays
from tests.support.lakes import (
    START_MS,
    FraudReport,
    entity_frame,
    entity_row,
    random_payments,
    some_reports,
    write_lake,
)

NAMES = [feature.name for feature in VELOCITY + CROSS_FEATURES]


def asked_of(payments: list[Transaction]) -> Asked:
    table = pa.Table.from_pandas(entity_frame(payments))
    times = np.array([payment.event_time_ms for payment in payments], np.int64)
    return Asked(table, times, np.array([payment.amount_minor for payment in payments], np.int64))


def streamed_states(payments: list[Transaction], reports: list[FraudReport], asked: Transaction) -> dict[Entity, bytes]:
    """The states a stream would have built of everything before one payment's time, change by change."""
    by_id = {payment.transaction_id: payment for payment in payments}
    out: dict[Entity, bytes] = {}
    for entity in ENTITIES:
        key, state = entity_key(entity, asked), b""
        parts = [(p.event_time_ms, transaction_change(entity, p)) for p in payments if entity_key(entity, p) == key]
        parts += [
            (report.known_ms, report_change(report.transaction_id, report.known_ms))
            for report in reports
            if entity_key(entity, by_id[report.transaction_id]) == key
        ]
        for time, change in sorted(parts, key=lambda part: part[0]):
            if key and time < asked.event_time_ms:
                state, _ = update(entity, state, change)
        out[entity] = state
    return out


@pytest.mark.parametrize("seed", [1, 2])
def test_windows_of_the_log_equal_windows_of_streamed_states(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows_join, "SLAB", 50)  # several slabs
    payments = random_payments(seed, 400)
    reports = some_reports(payments, seed)
    write_lake(tmp_path, payments, reports)
    asked = payments[::3]
    log = load_log(Location(str(tmp_path)), first_ms=asked[0].event_time_ms, last_ms=asked[-1].event_time_ms)
    found = velocity_arrays(log, asked_of(asked), NAMES)
    compared = 0
    for row, payment in enumerate(asked):
        states = streamed_states(payments, reports, payment)
        inputs = {name: [value] for name, value in entity_row(payment).items()}
        inputs |= {f"{entity}_state": [state or None] for entity, state in states.items()}
        for name, (value,) in velocity_columns(inputs).items():
            stored = found[name][row].as_py()
            assert stored == value or (stored is None and np.isnan(value)), (name, payment)
            compared += 1
    assert compared == len(asked) * len(NAMES)


def test_a_payment_never_counts_itself_nor_its_own_millisecond(tmp_path: Path) -> None:
    payments = random_payments(3, 30)
    write_lake(tmp_path, payments)
    log = load_log(Location(str(tmp_path)))
    first = min(payments, key=lambda payment: payment.event_time_ms)
    found = velocity_arrays(log, asked_of([first]), ["card_transaction_count_30d", "merchant_transaction_count_30d"])
    assert [column.to_pylist() for column in found.values()] == [[0], [0]]


def test_later_payments_change_no_earlier_value(tmp_path: Path) -> None:
    payments = random_payments(4, 200)
    write_lake(tmp_path / "all", payments)
    write_lake(tmp_path / "past", payments[:120])
    asked = [payment for payment in payments[:120] if payment.event_time_ms <= payments[119].event_time_ms][::5]
    whole, past = (
        velocity_arrays(load_log(Location(str(tmp_path / name))), asked_of(asked), NAMES) for name in ("all", "past")
    )
    # Only payments of the very last millisecond could differ, and none sees its own.
    assert all(whole[name].equals(past[name]) for name in NAMES)


def test_a_state_at_a_time_is_the_streamed_one_and_none_for_a_stranger(tmp_path: Path) -> None:
    payments = random_payments(5, 150)
    write_lake(tmp_path, payments)
    history = load_log(Location(str(tmp_path))).history("card")
    log = load_log(Location(str(tmp_path)))
    asked = payments[-1]
    numbers = log.numbers("card", pa.array([asked.card_id, "stranger"]))
    states, revisions = states_at(history, numbers, np.full(2, asked.event_time_ms, np.int64))
    expected = streamed_states(payments, [], asked)["card"]
    assert states.to_pylist() == [expected, None]
    past = [p for p in payments if p.card_id == asked.card_id and p.event_time_ms < asked.event_time_ms]
    assert revisions.to_pylist() == [len(past), None]


def test_only_entities_that_changed_since_are_materialized_with_their_whole_past(tmp_path: Path) -> None:
    payments = random_payments(6, 200)
    write_lake(tmp_path, payments)
    log = load_log(Location(str(tmp_path)), last_ms=START_MS)
    since = payments[-3].event_time_ms
    table = latest_states(log, "card", first_ms=since, columns=["card_state", "card_revision"], time="event_timestamp")
    assert set(table["card_id"].to_pylist()) == {p.card_id for p in payments if p.event_time_ms >= since}
    for card, state, revision in zip(*(table[name].to_pylist() for name in table.column_names[:3]), strict=True):
        count = sum(payment.card_id == card for payment in payments)
        assert revision == count
        assert len(state) == 8 + ring.ENTRY.itemsize * min(count, 320)
