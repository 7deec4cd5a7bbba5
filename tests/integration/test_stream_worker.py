"""The worker as a process, between a real Kinesis emulator and a real Valkey: kills, outages, dead letters."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fraud.record import records_of
from fraud.transaction import Transaction
from streaming.producer import Entry, create_stream, publish
from tests.support.emulators import aws_client, free_port, start_moto, start_valkey, valkey_client
from tests.support.payments import payment, payments, revisions, stored
from tests.support.workers import (
    PATIENCE_S,
    ROOT,
    environment,
    expected_states,
    landed,
    rows,
    run_until_idle,
    worker,
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with start_moto() as address:
        yield address


@pytest.fixture
def kinesis(endpoint: str) -> Iterator[Any]:
    with aws_client("kinesis", endpoint) as client:
        yield client


@pytest.fixture
def stream(kinesis: Any, request: pytest.FixtureRequest) -> str:
    name = f"stream-{abs(hash(request.node.name)):x}"
    create_stream(kinesis, name, 2)
    return name


def await_records(directory: Path, count: int) -> None:
    """Wait until the running worker's own figures tell of at least ``count`` records."""
    deadline = time.monotonic() + PATIENCE_S
    path = directory / "state" / "metrics.json"
    while not path.exists() or json.loads(path.read_bytes())["records"] < count:
        assert time.monotonic() < deadline, (directory / "log").read_text()
        time.sleep(0.05)


def test_stream_is_applied_and_told_about(kinesis: Any, endpoint: str, stream: str, tmp_path: Path) -> None:
    some = payments(400)
    expected = expected_states(some)
    with start_valkey() as port, valkey_client(port) as client:
        sent = publish(kinesis, stream, some)
        figures = run_until_idle(endpoint, stream, port, tmp_path)
        assert stored(client, expected) == expected
        again = run_until_idle(endpoint, stream, port, tmp_path)
    assert sent.records == sum(1 for item in some for _ in records_of(item))
    assert (figures["records"], figures["applied"], figures["repeated"]) == (sent.records, sent.records, 0)
    assert figures["freshness_ms"]["p99"] >= figures["freshness_ms"]["p50"] >= 0
    assert figures["event_freshness_ms"]["p50"] > figures["freshness_ms"]["p99"]  # these payments are old
    assert again["records"] == 0  # the checkpoints held
    assert len(rows(tmp_path)) == len(set(rows(tmp_path))) == sent.records
    assert sorted(landed(tmp_path)) == sorted(item.transaction_id for item in some)


def test_killed_worker_loses_and_doubles_nothing(kinesis: Any, endpoint: str, stream: str, tmp_path: Path) -> None:
    rng = random.Random(5)
    some = payments(1_200)
    expected = expected_states(some)
    with start_valkey() as port, valkey_client(port) as client:
        total = publish(kinesis, stream, some).records
        reached = [0]
        for _ in range(4):
            with worker(endpoint, stream, port, tmp_path, "--batch", "20") as process:
                target = reached[-1] + rng.randrange(1, total // 8)
                deadline = time.monotonic() + PATIENCE_S
                while sum(revisions(client, stored(client, expected)).values()) < target:
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                process.send_signal(signal.SIGKILL)
            reached.append(sum(revisions(client, stored(client, expected)).values()))
        assert 0 < reached[1] < reached[-1] < total  # every kill came in the middle
        run_until_idle(endpoint, stream, port, tmp_path)
        assert stored(client, expected) == expected
        numbers = revisions(client, expected)
    every = {(*key, revision) for key, last in numbers.items() for revision in range(1, last + 1)}
    found = [row[:3] for row in rows(tmp_path)]
    assert len(found) == len(set(found))
    assert set(found) == every
    assert sorted(landed(tmp_path)) == sorted(item.transaction_id for item in some)


def test_sigterm_drains_flushes_and_ends_with_zero(kinesis: Any, endpoint: str, stream: str, tmp_path: Path) -> None:
    some = payments(150)
    with start_valkey() as port, valkey_client(port) as client:
        sent = publish(kinesis, stream, some)
        with worker(endpoint, stream, port, tmp_path) as process:
            await_records(tmp_path, sent.records)
            process.terminate()
            out, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        expected = expected_states(some)
        assert stored(client, expected) == expected
    assert json.loads(out.splitlines()[-1])["records"] == sent.records
    assert len(rows(tmp_path)) == sent.records


def test_store_that_is_down_is_waited_for(kinesis: Any, endpoint: str, stream: str, tmp_path: Path) -> None:
    some = payments(200)
    expected = expected_states(some)
    port = free_port()
    data = tmp_path / "valkey"
    data.mkdir()
    with worker(endpoint, stream, port, tmp_path) as process:
        first = publish(kinesis, stream, some[:100])
        await_failures(tmp_path, 2)
        with start_valkey(port, data):
            await_records(tmp_path, first.records)
        second = publish(kinesis, stream, some[100:])
        await_failures(tmp_path, 2)
        with start_valkey(port, data), valkey_client(port) as client:
            await_records(tmp_path, first.records + second.records)
            process.terminate()
            process.communicate(timeout=PATIENCE_S)
            assert stored(client, expected) == expected
            numbers = revisions(client, expected)
    assert sum(numbers.values()) == len(rows(tmp_path)) == first.records + second.records


def await_failures(directory: Path, count: int) -> None:
    """Wait until the worker has told of ``count`` more failed batches."""
    deadline = time.monotonic() + PATIENCE_S
    start = (directory / "log").read_text().count('"batch_failed"')
    while (directory / "log").read_text().count('"batch_failed"') < start + count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_dead_letters_are_put_back_after_the_fix(kinesis: Any, endpoint: str, stream: str, tmp_path: Path) -> None:
    good, foreign = payments(30), payment(900, card="c900")
    changed = Transaction(**{**{f: getattr(foreign, f) for f in foreign.__struct_fields__}, "currency": "USD"})
    with start_valkey() as port, valkey_client(port) as client:
        publish(kinesis, stream, [*good, changed, Entry(b"never a record", "x")])
        count = sum(1 for _ in records_of(changed))
        figures = run_until_idle(endpoint, stream, port, tmp_path)
        assert figures["dead_lettered"] == count + 1
        expected = expected_states(good)
        assert stored(client, expected) == expected
        command = [sys.executable, "-m", "streaming", "replay", "--applied", str(tmp_path / "applied"), "--json", "-"]
        fixed = {**environment(endpoint, stream, port), "TOLLGATE_CURRENCY": "USD"}
        out = subprocess.run(command, env=fixed, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        assert json.loads(out) == {"replayed": count, "refused": 1}
        out = subprocess.run(command, env=fixed, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        assert json.loads(out) == {"replayed": 0, "refused": 1}


def test_partial_failure_leaves_every_key_in_order(kinesis: Any, stream: str) -> None:
    some = payments(300, cards=3)
    dropped: list[list[int]] = []

    def drop(params: dict[str, Any], **_: object) -> None:
        if len(dropped) < 3:
            count = len(params["Records"])
            dropped.append([place for place in range(count) if place % 7 == 0])
            params["Records"] = [r for place, r in enumerate(params["Records"]) if place % 7]

    def refuse(parsed: dict[str, Any], **_: object) -> None:
        if dropped and dropped[-1] and "Records" in parsed:
            taken, refused = iter(parsed["Records"]), dropped[-1]
            total = len(parsed["Records"]) + len(refused)
            throttled = {"ErrorCode": "ProvisionedThroughputExceededException"}
            parsed["Records"] = [throttled if place in refused else next(taken) for place in range(total)]
            parsed["FailedRecordCount"] = len(refused)
            dropped[-1] = []

    kinesis.meta.events.register("provide-client-params.kinesis.PutRecords", drop)
    kinesis.meta.events.register("after-call.kinesis.PutRecords", refuse)
    sent = publish(kinesis, stream, some, pause=lambda _: None)
    assert sent.again > 0
    last: dict[str, list[bytes]] = {}
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        for record in kinesis.get_records(ShardIterator=iterator)["Records"]:
            last.setdefault(record["PartitionKey"], []).append(record["Data"])
    wanted: dict[str, list[str]] = {}
    for item in some:
        for record in records_of(item):
            wanted.setdefault(record.partition_key, []).append(item.transaction_id)
    for key, names in wanted.items():
        found = [json.loads(data)["transaction"]["transaction_id"] for data in last[key]]
        newest_first = list(dict.fromkeys(reversed(found)))
        assert newest_first[::-1] == names


def test_setting_out_of_bounds_ends_with_one_sentence(endpoint: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streaming", "replay", "--applied", str(tmp_path / "applied")]
    wrong = {**environment(endpoint, "absent", 1), "TOLLGATE_REDIS_PORT": "0"}
    done = subprocess.run(command, env=wrong, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == ["streaming: TOLLGATE_REDIS_PORT=0 is not in 1..65535 (invalid_setting)"]
