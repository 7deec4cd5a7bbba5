"""The stream of a rehearsal is as bad as the contract allows, and not worse."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud.record import parse_record, records_of
from fraud.tiles import LATENESS_MS
from fraud.windows import HOUR
from monitoring.deliveries import Deliveries, Turbulence, deliveries_of, slots_of, transactions_of
from tests.support.lakes import log_row, random_payments, some_reports, write_lake
from training.dataset import read_log

SEED = 4


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, pa.Table]:
    folder: Path = tmp_path_factory.mktemp("deliveries")
    payments = random_payments(SEED, 400)
    write_lake(folder, payments, some_reports(payments, SEED))
    return read_log(folder, 0, 2**42), pq.read_table(folder / "labels.parquet")


@pytest.fixture(scope="module")
def stream(log: tuple[pa.Table, pa.Table]) -> Deliveries:
    return deliveries_of(*log, seed=SEED, turbulence=Turbulence())


def test_transactions_come_back_as_they_were(log: tuple[pa.Table, pa.Table]) -> None:
    table, _ = log
    back = [log_row(transaction) for transaction in transactions_of(table)]
    assert back == table.select(list(back[0])).to_pylist()


def test_every_record_is_delivered_and_a_share_of_them_again(stream: Deliveries) -> None:
    wanted = sorted((r.entity, r.key, r.transaction_id) for t in stream.transactions for r in records_of(t))
    sent = [parse_record(data, currency="EUR") for data, _, _, _ in stream.batch(0, len(stream.row))]
    paid = [(r.entity, r.key, r.transaction_id) for r in sent if r.kind == "transaction"]
    reports = {(r.entity, r.transaction_id) for r in sent if r.kind == "report"}
    assert sorted(set(paid)) == wanted
    assert reports
    assert len(sent) == len(wanted) + len(reports) + stream.repeats
    assert stream.repeats > 0


def test_delivery_is_in_order_of_due_time_and_reorders_events(stream: Deliveries) -> None:
    assert (np.diff(stream.due_ms) >= 0).all()
    times = np.array([t.event_time_ms for t in stream.transactions])[stream.row]
    paid = stream.known_ms < 0
    assert (np.diff(times[paid]) < 0).any()


def test_first_delivery_lies_within_the_stated_lateness(stream: Deliveries) -> None:
    times = np.array([t.event_time_ms for t in stream.transactions])[stream.row]
    moment = np.where(stream.known_ms < 0, times, stream.known_ms)
    late = stream.due_ms - moment
    keys = np.stack([stream.row, stream.entity, stream.known_ms], axis=1)
    _, first = np.unique(keys, axis=0, return_index=True)
    assert late.min() >= 0
    assert late[first].max() < LATENESS_MS
    assert late.max() < LATENESS_MS + HOUR


def test_slots_cover_every_request_once_and_never_straddle_an_edge(stream: Deliveries) -> None:
    times = np.array([t.event_time_ms for t in stream.transactions])
    edges = times[[50, 51, 300]] + 1
    slots = list(slots_of(stream, times, edges, seed=SEED))
    assert [slot.first for slot in slots] == [0, *(slot.last for slot in slots[:-1])]
    assert slots[-1].last == len(times)
    for slot in slots:
        inside = times[slot.first : slot.last]
        assert not any(inside[0] < edge <= inside[-1] for edge in edges)


def test_nothing_is_delivered_before_the_first_request_of_its_slot(stream: Deliveries) -> None:
    times = np.array([t.event_time_ms for t in stream.transactions])
    for slot in slots_of(stream, times, np.empty(0, np.int64), seed=SEED):
        assert slot.until == 0 or stream.due_ms[slot.until - 1] <= times[slot.first]


def test_same_seed_gives_the_same_stream(log: tuple[pa.Table, pa.Table], stream: Deliveries) -> None:
    again = deliveries_of(*log, seed=SEED, turbulence=Turbulence())
    other = deliveries_of(*log, seed=SEED + 1, turbulence=Turbulence())
    assert again.batch(0, 50) == stream.batch(0, 50)
    assert other.batch(0, 50) != stream.batch(0, 50)
