"""The handler against a real Valkey: repeats, order, poison, conflicts, outages; and Lambda's event and answer."""

import base64
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fraud.errors import StoreUnavailable
from fraud.record import parse_record
from fraud.settings import Settings
from stores.guards import state_view
from stores.layout import encode_value, entity_key
from streaming import folders, handler
from streaming.applied import ChangeLog
from streaming.arrivals import Arrival
from streaming.batches import ATTEMPTS, BatchResult, Collaborators, apply_batch
from streaming.deadletters import DeadLetterFolder
from streaming.folders import BucketFolder, DiskFolder, FolderBusy
from streaming.offline import TransactionLog, compact
from streaming.opening import open_states
from streaming.states import Held, RedisStates, Swap, connect
from tests.support.emulators import aws_client, aws_environment, free_port, start_moto, start_valkey, valkey_client
from tests.support.payments import START, arrivals, payment, payments, revisions, states_of, stored

SEEN_MS = START + 10**9


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with start_valkey() as number:
        yield number


@pytest.fixture
def client(port: int) -> Iterator["redis.Redis[bytes]"]:
    with valkey_client(port) as made:
        made.flushall()
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

    def rows(self) -> list[dict[str, Any]]:
        self.log.flush()
        return [
            row
            for path in sorted(self.folder.root.glob("changes/*.parquet"))
            for row in pq.ParquetFile(path).read().to_pylist()
        ]

    def poison(self) -> list[tuple[str, bytes]]:
        letters = DeadLetterFolder(self.folder).read()
        return [(letter.reason, letter.arrival().data) for _, some in letters for letter in some]


def states_on(client: "redis.Redis[bytes]") -> RedisStates:
    port = int(client.connection_pool.connection_kwargs["port"])
    return RedisStates(connect(Settings(redis_port=port)), project="fraud")


def make_bench(client: "redis.Redis[bytes]", directory: Path) -> Bench:
    folder = DiskFolder(directory)
    log, transactions = ChangeLog(folder, directory / "journal"), TransactionLog(folder)
    states = states_on(client)
    made = Collaborators(states, DeadLetterFolder(folder), log, transactions, lambda: SEEN_MS, "EUR")
    return Bench(made, log, transactions, folder)


@pytest.fixture
def bench(client: "redis.Redis[bytes]", tmp_path: Path) -> Bench:
    return make_bench(client, tmp_path)


def test_batches_leave_the_states_of_applying_one_by_one(client: "redis.Redis[bytes]", bench: Bench) -> None:
    some = arrivals(payments(400))
    result = bench.apply(some)
    expected = states_of(some)
    assert (result.applied, result.repeated) == (len(some), 0)
    assert stored(client, expected) == expected


def test_repeat_changes_no_byte_and_no_revision(client: "redis.Redis[bytes]", bench: Bench) -> None:
    some = arrivals(payments(300))
    bench.apply(some)
    keys = states_of(some)
    before, numbers = stored(client, keys), revisions(client, keys)
    writes = client.info("commandstats")["cmdstat_hset"]["calls"]
    result = bench.apply(some, size=37)
    assert (result.applied, result.repeated + result.too_late) == (0, len(some))
    assert (stored(client, keys), revisions(client, keys)) == (before, numbers)
    assert client.info("commandstats")["cmdstat_hset"]["calls"] == writes


def test_record_of_a_fast_clock_blinds_no_merchant(client: "redis.Redis[bytes]", bench: Bench) -> None:
    """One of 2,001 records is stamped 299 s ahead: it alone is refused, and every other one is taken."""
    steady = [payment(7 * number, time_ms=START + number * 100) for number in range(2_000)]
    ahead = payment(1_400_007, time_ms=START + 100_000 + 299_000, card="c-fast")
    fast = [replace(arrival, arrival_ms=START + 100_000) for arrival in arrivals([ahead])]
    some = arrivals(steady[:1_000]) + fast + arrivals(steady[1_000:])
    result = bench.apply(some, size=500)
    assert (result.dead_lettered, result.too_late) == (len(fast), 0)
    assert result.applied == len(some) - len(fast)
    assert {reason.partition(",")[0] for reason, _ in bench.poison()} == {"event_time_ms: lies in the future"}


def test_what_comes_too_late_is_counted_apart_from_repeats(client: "redis.Redis[bytes]", bench: Bench) -> None:
    some = arrivals([payment(7, time_ms=START), payment(14, time_ms=START + 90_000)])
    bench.apply(some)
    merchant = {"merchant:m0"}
    late = [a for a in arrivals([payment(21, time_ms=START - 10)]) if a.partition_key in merchant]
    result = bench.apply(late + some[-1:])
    assert some[-1].partition_key in merchant
    assert (result.applied, result.repeated, result.too_late) == (0, 1, 1)


def test_repeat_within_one_batch_is_applied_once(client: "redis.Redis[bytes]", bench: Bench) -> None:
    some = arrivals([payment(1), payment(2), payment(1), payment(1)])
    result = bench.apply(some)
    unique = arrivals([payment(1), payment(2)])
    assert (result.applied, result.repeated) == (len(unique), len(some) - len(unique))
    expected = states_of(unique)
    assert stored(client, expected) == expected


def test_reordered_stream_converges_for_cards_and_devices(client: "redis.Redis[bytes]", bench: Bench) -> None:
    some = arrivals(payments(300))
    shuffled = list(some)
    random.Random(3).shuffle(shuffled)
    bench.apply(shuffled)
    expected = {key: state for key, state in states_of(some).items() if key[0] != "merchant"}
    assert len(expected) > 10
    assert stored(client, expected) == expected


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 25), st.booleans())
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_repetition_and_batching_equals_applying_one_by_one(
    client: "redis.Redis[bytes]", tmp_path: Path, numbers: list[int], size: int, crowded: bool
) -> None:
    client.flushall()
    bench = make_bench(client, tmp_path / "logs")
    some = arrivals(payment(n, time_ms=START + (n // 4 if crowded else n * 1_900)) for n in numbers)
    bench.apply(some, size=size)
    expected = states_of(some)
    assert stored(client, expected) == expected
    assert revisions(client, expected) == {
        key: len({arrival.data for arrival in some if arrival.partition_key == ":".join(key)}) for key in expected
    }


def test_poison_is_kept_whole_and_its_neighbours_are_applied(client: "redis.Redis[bytes]", bench: Bench) -> None:
    good = [payment(1), payment(2)]
    bad = b'{"schema": 99, \xff'
    some = arrivals([good[0], bad, good[1]])
    result = bench.apply(some)
    expected = states_of(arrivals(good))
    assert (result.dead_lettered, result.applied) == (1, len(some) - 1)
    assert stored(client, expected) == expected
    ((reason, data),) = bench.poison()
    assert data == bad
    assert reason.startswith("body: ")


def test_torn_state_sends_its_entity_to_the_dead_letters_only(client: "redis.Redis[bytes]", bench: Bench) -> None:
    view = state_view("card")
    client.hset(entity_key("card_id", "c1", "fraud"), view.state, encode_value(b"\x01\x01torn"))
    some = arrivals([payment(1), payment(2, card="c2")])
    result = bench.apply(some)
    assert (result.dead_lettered, result.applied) == (1, len(some) - 1)
    ((reason, data),) = bench.poison()
    assert data == some[0].data
    assert "ring" in reason


def test_rows_tell_which_transaction_made_which_revision(client: "redis.Redis[bytes]", bench: Bench) -> None:
    some = arrivals(payments(250))
    bench.apply(some + some[:40])
    rows = bench.rows()
    assert len(rows) == len(some)
    expected = states_of(some)
    for key, revision in revisions(client, expected).items():
        own = [row for row in rows if (row["entity"], row["key"]) == key]
        records = [parse_record(a.data, currency="EUR") for a in some if a.partition_key == ":".join(key)]
        assert [row["revision_after"] for row in own] == list(range(1, revision + 1))
        assert [row["transaction_id"] for row in own] == [record.transaction_id for record in records]
    assert {row["visible_ms"] for row in rows} == {SEEN_MS}


def test_accepted_transactions_are_logged_once(bench: Bench) -> None:
    some = payments(120)
    bench.apply(arrivals([*some, *some[:50]]))
    bench.transactions.flush("x")
    assert compact(bench.folder) == 120


def test_scripts_forgotten_by_the_server_are_loaded_again(client: "redis.Redis[bytes]", bench: Bench) -> None:
    bench.apply(arrivals([payment(1)]))
    client.script_flush()
    some = arrivals([payment(2)])
    assert bench.apply(some).applied == len(some)


class Meddling(RedisStates):
    """Real states where, between read and write, somebody else writes first."""

    def __init__(self, client: "redis.Redis[bytes]", meddle: Callable[[], object]) -> None:
        super().__init__(states_on(client)._wires, project="fraud")
        self.meddle = meddle

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        self.meddle()
        return super().swap(swaps)


def test_other_writers_change_survives_and_only_its_entity_is_written_again(
    client: "redis.Redis[bytes]", bench: Bench
) -> None:
    other = arrivals([payment(1)])[:1]
    left = [1]

    def meddle() -> None:
        if left.pop() if left else 0:
            assert apply_batch(other, bench.collaborators).applied == 1

    made = bench.collaborators
    mine = Collaborators(
        Meddling(client, meddle), made.dead_letters, made.applied, made.transactions, made.clock_ms, "EUR"
    )
    some = arrivals([payment(8), payment(9, card="c2")])
    result = apply_batch(some, mine)
    assert (result.conflicts, result.applied, result.failed) == (1, len(some), None)
    expected = states_of(other + some)
    assert stored(client, expected) == expected
    own = [row for row in bench.rows() if (row["entity"], row["key"]) == ("card", "c1")]
    assert [(row["revision_after"], row["transaction_id"]) for row in own] == [(1, "t000001"), (2, "t000008")]


def test_writer_that_always_loses_reports_its_first_record(client: "redis.Redis[bytes]", bench: Bench) -> None:
    number = iter(range(100, 1000))

    def meddle() -> None:
        bench.apply(arrivals([payment(next(number), card="c2")])[:1])

    made = bench.collaborators
    mine = Collaborators(
        Meddling(client, meddle), made.dead_letters, made.applied, made.transactions, made.clock_ms, "EUR"
    )
    some = arrivals([payment(1), payment(2, card="c2"), b"poison"])
    position = next(i for i, a in enumerate(some) if a.partition_key == "card:c2")
    result = apply_batch(some, mine)
    assert (result.failed, result.error.code if result.error else "") == (position, "state_conflict")
    assert result.conflicts == ATTEMPTS
    assert bench.poison() == []  # it lies behind the failure and will be delivered again


def test_two_writers_on_the_same_entities_lose_no_update(
    client: "redis.Redis[bytes]", tmp_path: Path, port: int
) -> None:
    some = arrivals(payment(number, card=f"c{number % 4}") for number in range(600))
    totals: list[BatchResult] = []

    def write(part: int) -> None:
        with valkey_client(port) as own:
            half = make_bench(own, tmp_path / str(part))
            for start in range(part, len(some), 40):
                batch = some[start : start + 40 : 2]
                while (result := apply_batch(batch, half.collaborators)).failed is not None:
                    totals.append(result)
                totals.append(result)

    threads = [threading.Thread(target=write, args=(part,)) for part in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = states_of(some)
    assert stored(client, expected) == expected
    assert sum(result.applied for result in totals) == len(some)
    assert sum(revisions(client, expected).values()) == len(some)


def test_store_down_reports_the_first_record_and_loses_nothing(tmp_path: Path) -> None:
    port = free_port()
    some = arrivals(payments(50))
    client: redis.Redis[bytes] = redis.Redis(port=port)
    bench = make_bench(client, tmp_path)
    down = apply_batch(some, bench.collaborators)
    assert (down.failed, down.error.code if down.error else "") == (0, "store_unavailable")
    assert down.applied == 0
    with start_valkey(port):
        assert bench.apply(some).applied == len(some)
        expected = states_of(some)
        assert stored(client, expected) == expected
        client.close()
    assert len(bench.rows()) == len(some)


class LosingTheAnswer(RedisStates):
    """Real states whose first answer to a write is lost on the way back."""

    def __init__(self, client: "redis.Redis[bytes]") -> None:
        super().__init__(states_on(client)._wires, project="fraud")
        self.lost = 0

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        written = super().swap(swaps)
        if self.lost == 0:
            self.lost = len(written)
            raise StoreUnavailable("the answer was lost")
        return written


def test_lost_answer_loses_neither_change_nor_row(client: "redis.Redis[bytes]", bench: Bench) -> None:
    made = bench.collaborators
    states = LosingTheAnswer(client)
    mine = Collaborators(states, made.dead_letters, made.applied, made.transactions, made.clock_ms, "EUR")
    some = arrivals(payments(40))
    assert apply_batch(some, mine).failed == 0
    assert apply_batch(some, mine).failed is None
    expected = states_of(some)
    assert stored(client, expected) == expected
    assert sorted((r["entity"], r["key"], r["revision_after"]) for r in bench.rows()) == sorted(
        (*key, revision) for key, last in revisions(client, expected).items() for revision in range(1, last + 1)
    )


def test_every_write_renews_the_lifetime_and_a_repeat_does_not(
    client: "redis.Redis[bytes]", port: int, bench: Bench
) -> None:
    states = open_states(Settings(redis_port=port, redis_key_ttl_s=2_678_400))
    made = replace(bench.collaborators, states=states)
    some = arrivals([payment(1), payment(2)])
    keys = client.keys
    assert apply_batch(some[:4], made).error is None
    assert {client.ttl(key) > 2_678_000 for key in keys()} == {True}
    for key in keys():
        client.expire(key, 100)
    assert apply_batch(some[:4], made).applied == 0
    assert {0 < client.ttl(key) <= 100 for key in keys()} == {True}
    assert apply_batch(arrivals([payment(8)]), made).applied > 0
    assert client.ttl(entity_key("card_id", "c1", "fraud")) > 2_678_000
    states.close()
    assert bench.apply(arrivals([payment(3, card="c9")])).error is None
    assert client.ttl(entity_key("card_id", "c9", "fraud")) == -1


def test_held_of_an_unknown_entity_is_empty(client: "redis.Redis[bytes]") -> None:
    assert states_on(client).read([("card", "nobody")]) == [Held(b"", 0, b"")]


def test_one_process_at_a_time_holds_a_lock_in_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    with start_moto() as endpoint, aws_client("s3", endpoint) as s3:
        s3.create_bucket(Bucket="tollgate", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        one, other = BucketFolder(s3, "tollgate"), BucketFolder(s3, "tollgate")
        with one.locked("landing/lock"):
            with pytest.raises(FolderBusy, match="landing/lock"), other.locked("landing/lock"):
                pass
            assert compacts_not(other)
            monkeypatch.setattr(folders, "LOCK_LIFE_S", -1)  # its holder must be dead by now
            with other.locked("landing/lock"):
                pass
        monkeypatch.setattr(folders, "LOCK_LIFE_S", 3_600)
        assert compact(other) == 0
        assert "Contents" not in s3.list_objects_v2(Bucket="tollgate")


def compacts_not(folder: BucketFolder) -> bool:
    with pytest.raises(FolderBusy):
        compact(folder)
    return True


def lambda_event(some: Sequence[Arrival]) -> dict[str, Any]:
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": arrival.partition_key,
                    "sequenceNumber": arrival.sequence_number,
                    "data": base64.b64encode(arrival.data).decode(),
                    "approximateArrivalTimestamp": arrival.arrival_ms / 1000,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"{arrival.shard}:{arrival.sequence_number}",
                "eventName": "aws:kinesis:record",
                "awsRegion": "eu-west-1",
            }
            for arrival in some
        ]
    }


def test_lambda_applies_reports_and_keeps_whole(
    client: "redis.Redis[bytes]", port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = arrivals([payment(1), b"poison", payment(2, card="c-marked")], first=70)
    with start_moto() as endpoint, aws_client("s3", endpoint) as s3:
        s3.create_bucket(Bucket="tollgate", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        for name, value in aws_environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TOLLGATE_AWS_ENDPOINT", endpoint)
        monkeypatch.setenv("TOLLGATE_REDIS_PORT", str(free_port()))
        handler._from_environment.cache_clear()
        down = handler.lambda_handler(lambda_event(some), None)
        assert down == {"batchItemFailures": [{"itemIdentifier": "70"}]}
        monkeypatch.setenv("TOLLGATE_REDIS_PORT", str(port))
        handler._from_environment.cache_clear()
        assert handler.lambda_handler(lambda_event(some), None) == {"batchItemFailures": []}
        handler._from_environment.cache_clear()
        names = sorted(item["Key"] for item in s3.list_objects_v2(Bucket="tollgate")["Contents"])
    expected = states_of([arrival for arrival in some if arrival.data != b"poison"])
    assert stored(client, expected) == expected
    assert [name.split("/")[0] for name in names] == ["changes", "dead-letters", "landing"]
    assert "c-marked" not in capsys.readouterr().err
