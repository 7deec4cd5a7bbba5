"""The stream's states in DynamoDB, as in Redis: repeats, order, conflicts, lost answers, outages."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fraud.errors import StoreUnavailable
from fraud.settings import Settings
from stores import dynamodb_tables
from stores.dynamodb_layout import entity_id, item, table_name
from stores.dynamodb_tables import Tables
from stores.layout import encode_value
from streaming import handler
from streaming.applied import ChangeLog
from streaming.arrivals import Arrival
from streaming.batches import ATTEMPTS, BatchResult, Collaborators, apply_batch
from streaming.deadletters import DeadLetterFolder
from streaming.dynamodb_states import DynamoDBStates
from streaming.folders import DiskFolder
from streaming.offline import TransactionLog, compact
from streaming.opening import open_states
from streaming.states import Held, RedisStates, States, Swap
from tests.support.emulators import aws_environment, free_port
from tests.support.payments import START, arrivals, payment, payments, states_of
from tests.support.tables import (
    empty_velocity_tables,
    everything,
    held_revisions,
    held_states,
    open_tables,
    start_dynamodb,
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws_environment().items():
            patch.setenv(name, value)
        patch.setattr(dynamodb_tables, "READ_S", 60.0)  # one request at a time: the others wait
        with start_dynamodb() as address:
            yield address


@pytest.fixture
def tables(endpoint: str) -> Iterator[Tables]:
    with open_tables(endpoint) as made:
        empty_velocity_tables(made)
        yield made


@dataclass(frozen=True)
class Bench:
    """The handler with real collaborators, and what they left behind."""

    collaborators: Collaborators
    log: ChangeLog
    transactions: TransactionLog
    folder: DiskFolder

    def apply(self, some: Sequence[Arrival], size: int = 100) -> BatchResult:
        total = BatchResult(0)
        for start in range(0, len(some), size):
            result = apply_batch(some[start : start + size], self.collaborators)
            assert result.failed is None, result.error
            for name in ("records", "applied", "repeated", "too_late", "dead_lettered", "conflicts"):
                setattr(total, name, getattr(total, name) + getattr(result, name))
        return total

    def through(self, states: States) -> Collaborators:
        return replace(self.collaborators, states=states)

    def rows(self) -> list[dict[str, Any]]:
        self.log.flush()
        paths = sorted(self.folder.root.glob("changes/*.parquet"))
        return [row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]


def make_bench(tables: Tables, directory: Path) -> Bench:
    folder = DiskFolder(directory)
    log, transactions = ChangeLog(folder, directory / "journal"), TransactionLog(folder)
    states = DynamoDBStates(tables, project="fraud")
    made = Collaborators(states, DeadLetterFolder(folder), log, transactions, lambda: START, "EUR")
    return Bench(made, log, transactions, folder)


@pytest.fixture
def bench(tables: Tables, tmp_path: Path) -> Bench:
    return make_bench(tables, tmp_path)


def test_batches_leave_the_states_of_applying_one_by_one(tables: Tables, bench: Bench) -> None:
    some = arrivals(payments(150))
    assert (result := bench.apply(some)).applied == len(some), result
    expected = states_of(some)
    assert held_states(tables, expected) == expected
    assert sum(held_revisions(tables, expected).values()) == len(some)


def test_repeat_changes_nothing(tables: Tables, bench: Bench) -> None:
    some = arrivals(payments(100))
    bench.apply(some)
    before = everything(tables)
    result = bench.apply(some, size=37)
    assert (result.applied, result.repeated) == (0, len(some))
    assert everything(tables) == before
    bench.transactions.flush("x")
    assert compact(bench.folder) == 100


def test_reordered_stream_converges_for_cards_and_devices(tables: Tables, bench: Bench) -> None:
    some = arrivals(payments(120))
    shuffled = list(some)
    random.Random(3).shuffle(shuffled)
    bench.apply(shuffled)
    expected = {key: state for key, state in states_of(some).items() if key[0] != "merchant"}
    assert len(expected) > 10
    assert held_states(tables, expected) == expected


@given(st.lists(st.integers(0, 12), max_size=20), st.integers(1, 25), st.booleans())
@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_repetition_and_batching_equals_applying_one_by_one(
    tables: Tables, tmp_path: Path, numbers: list[int], size: int, crowded: bool
) -> None:
    empty_velocity_tables(tables)
    bench = make_bench(tables, tmp_path / "logs")
    some = arrivals(payment(n, time_ms=START + (n // 4 if crowded else n * 1_900)) for n in numbers)
    bench.apply(some, size=size)
    expected = states_of(some)
    assert held_states(tables, expected) == expected
    assert held_revisions(tables, expected) == {
        key: len({arrival.data for arrival in some if arrival.partition_key == ":".join(key)}) for key in expected
    }


def test_torn_state_sends_its_entity_to_the_dead_letters_only(tables: Tables, bench: Bench) -> None:
    torn = item(entity_id("card_id", "c1"), {"card_state": encode_value(b"\x01\x01torn")}, START * 1000)
    tables.client.put_item(TableName=table_name("fraud", "card_velocity"), Item=torn)
    some = arrivals([payment(1), payment(2, card="c2")])
    result = bench.apply(some)
    assert (result.dead_lettered, result.applied) == (1, len(some) - 1)


class Meddling(DynamoDBStates):
    """Real states where, between read and write, somebody else writes first."""

    def __init__(self, tables: Tables, meddle: Callable[[], object]) -> None:
        super().__init__(tables, project="fraud")
        self.meddle = meddle

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        self.meddle()
        return super().swap(swaps)


def test_other_writers_change_survives_and_only_its_entity_is_written_again(tables: Tables, bench: Bench) -> None:
    other = arrivals([payment(1)])[:1]
    left = [1]

    def meddle() -> None:
        if left.pop() if left else 0:
            assert apply_batch(other, bench.collaborators).applied == 1

    some = arrivals([payment(8), payment(9, card="c2")])
    result = apply_batch(some, bench.through(Meddling(tables, meddle)))
    assert (result.conflicts, result.applied, result.failed) == (1, len(some), None)
    expected = states_of(other + some)
    assert held_states(tables, expected) == expected
    own = [row for row in bench.rows() if (row["entity"], row["key"]) == ("card", "c1")]
    assert [(row["revision_after"], row["transaction_id"]) for row in own] == [(1, "t000001"), (2, "t000008")]


def test_writer_that_always_loses_reports_its_first_record(tables: Tables, bench: Bench) -> None:
    number = iter(range(100, 1000))

    def meddle() -> None:
        bench.apply(arrivals([payment(next(number), card="c2")])[:1])

    some = arrivals([payment(1), payment(2, card="c2")])
    position = next(i for i, a in enumerate(some) if a.partition_key == "card:c2")
    result = apply_batch(some, bench.through(Meddling(tables, meddle)))
    assert (result.failed, result.error.code if result.error else "") == (position, "state_conflict")
    assert result.conflicts == ATTEMPTS


def test_two_writers_on_the_same_entities_lose_no_update(tables: Tables, tmp_path: Path, endpoint: str) -> None:
    some = arrivals(payment(number, card=f"c{number % 4}") for number in range(120))
    totals: list[BatchResult] = []
    rows: list[dict[str, Any]] = []
    together = threading.Barrier(2)

    def write(part: int) -> None:
        with open_tables(endpoint) as own:
            half = make_bench(own, tmp_path / str(part))
            together.wait(30)
            for start in range(part, len(some), 40):
                batch = some[start : start + 40 : 2]
                while (result := apply_batch(batch, half.collaborators)).failed is not None:
                    totals.append(result)
                totals.append(result)
            rows.extend(half.rows())

    threads = [threading.Thread(target=write, args=(part,)) for part in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = states_of(some)
    assert held_states(tables, expected) == expected
    assert sum(result.applied for result in totals) == len(some)
    assert sum(result.conflicts for result in totals) > 0
    made = held_revisions(tables, expected)
    assert sorted((row["entity"], row["key"], row["revision_after"]) for row in rows) == sorted(
        (*key, revision) for key, last in made.items() for revision in range(1, last + 1)
    )


class LosingTheAnswer(DynamoDBStates):
    """Real states whose first answer to a write is lost on the way back."""

    lost = 0

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        written = super().swap(swaps)
        if self.lost == 0:
            self.lost = len(written)
            raise StoreUnavailable("the answer was lost")
        return written


def test_lost_answer_loses_neither_change_nor_row(tables: Tables, bench: Bench) -> None:
    mine = bench.through(LosingTheAnswer(tables, project="fraud"))
    some = arrivals(payments(40))
    assert apply_batch(some, mine).failed == 0
    assert apply_batch(some, mine).failed is None
    expected = states_of(some)
    assert held_states(tables, expected) == expected
    assert sorted((r["entity"], r["key"], r["revision_after"]) for r in bench.rows()) == sorted(
        (*key, revision) for key, last in held_revisions(tables, expected).items() for revision in range(1, last + 1)
    )


def test_store_down_reports_the_first_record_and_loses_nothing(endpoint: str, tmp_path: Path) -> None:
    port = free_port()
    some = arrivals(payments(30))
    with open_tables(f"http://127.0.0.1:{port}") as tables:
        bench = make_bench(tables, tmp_path)
        down = apply_batch(some, bench.collaborators)
        assert (down.failed, down.error.code if down.error else "", down.applied) == (0, "store_unavailable", 0)
        with start_dynamodb(port):
            missing = apply_batch(some, bench.collaborators)
            assert (missing.failed, "apply the feature repository" in str(missing.error)) == (0, True)
            empty_velocity_tables(tables)
            assert bench.apply(some).applied == len(some)
            expected = states_of(some)
            assert held_states(tables, expected) == expected
    assert len(bench.rows()) == len(some)


def test_held_of_an_unknown_entity_is_empty_and_a_repeated_key_is_read_twice(tables: Tables, bench: Bench) -> None:
    bench.apply(arrivals([payment(1)]))
    states = bench.collaborators.states
    assert states.read([]) == []
    nobody, one, two = states.read([("card", "nobody"), ("card", "c1"), ("card", "c1")])
    assert nobody == Held(b"", 0, b"")
    assert one == two
    assert (one.revision, one.stored) == (1, encode_value(1))


def test_more_entities_than_one_request_takes_are_all_read(tables: Tables, bench: Bench) -> None:
    some = arrivals(payment(number, card=f"c{number}") for number in range(230))
    bench.apply(some, size=len(some))
    expected = states_of(some)
    found = bench.collaborators.states.read(list(expected))
    assert {key: held.state for key, held in zip(expected, found, strict=True)} == expected


def test_setting_chooses_the_store(tables: Tables, endpoint: str) -> None:
    redis_states = open_states(Settings())
    assert isinstance(redis_states, RedisStates)
    redis_states.close()
    states = open_states(Settings(online_store="dynamodb", aws_endpoint=endpoint))
    assert isinstance(states, DynamoDBStates)
    assert states.read([("card", "c1")]) == [Held(b"", 0, b"")]
    states.close()


def test_lambda_writes_to_the_chosen_store(tables: Tables, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_AWS_ENDPOINT", endpoint)
    monkeypatch.setenv("TOLLGATE_ONLINE_STORE", "dynamodb")
    handler._from_environment.cache_clear()
    made = handler._from_environment()
    some = arrivals(payments(20))
    assert apply_batch(some, made.collaborators).applied == len(some)
    made.collaborators.states.close()
    handler._from_environment.cache_clear()
    expected = states_of(some)
    assert held_states(tables, expected) == expected
