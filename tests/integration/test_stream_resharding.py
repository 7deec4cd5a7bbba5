"""Shards that split and merge: parents before children, every entity in order, nothing lost, nothing twice."""

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fraud.record import records_of
from fraud.transaction import Transaction
from streaming.producer import create_stream, publish
from streaming.shards import list_shards, read_checkpoints
from tests.support.emulators import EmulatorMissing, aws_client, start_kinesalite, start_valkey, valkey_client
from tests.support.payments import payments, revisions, stored
from tests.support.workers import PATIENCE_S, expected_states, landed, rows, run_until_idle, worker

MIDDLE = 2**127


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    try:
        with start_kinesalite() as address:
            yield address
    except EmulatorMissing as missing:
        pytest.skip(f"no emulator that splits and merges shards: {missing}")


@pytest.fixture
def kinesis(endpoint: str) -> Iterator[Any]:
    with aws_client("kinesis", endpoint) as client:
        yield client


def await_active(kinesis: Any, stream: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while kinesis.describe_stream(StreamName=stream)["StreamDescription"]["StreamStatus"] != "ACTIVE":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def split(kinesis: Any, stream: str, shard: str, at: int) -> None:
    kinesis.split_shard(StreamName=stream, ShardToSplit=shard, NewStartingHashKey=str(at))
    await_active(kinesis, stream)


def merge(kinesis: Any, stream: str, shard: str, adjacent: str) -> None:
    kinesis.merge_shards(StreamName=stream, ShardToMerge=shard, AdjacentShardToMerge=adjacent)
    await_active(kinesis, stream)


def open_shards(kinesis: Any, stream: str) -> list[str]:
    """Names of the shards that still take records, in order of their hash keys."""
    shards = kinesis.list_shards(StreamName=stream)["Shards"]
    alive = [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
    return [s["ShardId"] for s in sorted(alive, key=lambda s: int(s["HashKeyRange"]["StartingHashKey"]))]


def reshard(kinesis: Any, stream: str, turn: int) -> None:
    """Split the one shard, split a half again, merge across, merge into one; one step per turn."""
    alive = open_shards(kinesis, stream)
    if turn == 0:
        split(kinesis, stream, alive[0], MIDDLE)
    elif turn == 1:
        split(kinesis, stream, alive[1], MIDDLE + MIDDLE // 2)
    else:
        merge(kinesis, stream, alive[0], alive[1])


def publish_resharded(kinesis: Any, stream: str, some: list[Transaction]) -> None:
    """Publish in five parts, the shards different for each."""
    size = len(some) // 5
    for turn in range(5):
        if turn:
            reshard(kinesis, stream, turn - 1)
        publish(kinesis, stream, some[turn * size : (turn + 1) * size])


def assert_each_entity_in_order(directory: Path, some: list[Transaction]) -> None:
    """The revisions of every entity were made by its transactions in the order they were published, once each."""
    made: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for entity, key, revision, name in rows(directory):
        made.setdefault((entity, key), []).append((revision, name))
    wanted: dict[tuple[str, str], list[str]] = {}
    for item in some:
        for record in records_of(item):
            wanted.setdefault((record.entity, record.key), []).append(item.transaction_id)
    assert {owner: sorted(found) for owner, found in made.items()} == {
        owner: list(enumerate(names, start=1)) for owner, names in wanted.items()
    }


def assert_parents_before_children(kinesis: Any, stream: str, directory: Path) -> None:
    """No reader of a shard started before the reader of each parent had come to its end."""
    events = [json.loads(line) for line in (directory / "log").read_text().splitlines() if line.startswith("{")]
    ended: set[str] = set()
    opened: set[str] = set()
    parents = {shard.name: shard.parents for shard in list_shards(kinesis, stream)}
    for event in events:
        if event["event"] == "shard_ended":
            ended.add(event["shard"])
        elif event["event"] == "shard_opened":
            opened.add(event["shard"])
            assert set(parents[event["shard"]]) <= ended
    assert opened == set(parents)
    assert len(parents) == 7  # one, two, two, one and one
    held = read_checkpoints(directory / "state", stream).shards
    assert {name for name, checkpoint in held.items() if checkpoint.ended} == set(parents) - set(
        open_shards(kinesis, stream)
    )


def test_backlog_of_a_resharded_stream_is_read_in_order_across_kills(
    kinesis: Any, endpoint: str, tmp_path: Path
) -> None:
    rng = random.Random(3)
    some = payments(600)
    expected = expected_states(some)
    create_stream(kinesis, "backlog", 1)
    publish_resharded(kinesis, "backlog", some)
    with start_valkey() as port, valkey_client(port) as client:
        reached = 0
        total = sum(1 + 1 + (item.device_id is not None) for item in some)
        for _ in range(3):
            target = reached + rng.randrange(total // 8, total // 4)
            with worker(endpoint, "backlog", port, tmp_path, "--batch", "20") as process:
                deadline = time.monotonic() + PATIENCE_S
                while sum(revisions(client, stored(client, expected)).values()) < target:
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                process.kill()
            reached = sum(revisions(client, stored(client, expected)).values())
        assert reached < total  # every kill came in the middle
        figures = run_until_idle(endpoint, "backlog", port, tmp_path)
        assert 0 < figures["records"] < total  # the checkpoints survived
        assert stored(client, expected) == expected
    assert_each_entity_in_order(tmp_path, some)
    assert_parents_before_children(kinesis, "backlog", tmp_path)
    assert sorted(landed(tmp_path)) == sorted(item.transaction_id for item in some)


def test_shards_split_and_merge_under_a_running_worker(kinesis: Any, endpoint: str, tmp_path: Path) -> None:
    some = payments(500, seed=9)
    expected = expected_states(some)
    create_stream(kinesis, "live", 1)
    with start_valkey() as port, valkey_client(port) as client:
        publishing = threading.Thread(target=publish_resharded, args=(kinesis, "live", some))
        with worker(endpoint, "live", port, tmp_path) as process:
            assert process.stdout is not None
            process.stdout.readline()
            publishing.start()
            publishing.join(PATIENCE_S)
            process.kill()
        run_until_idle(endpoint, "live", port, tmp_path)
        assert stored(client, expected) == expected
    assert_each_entity_in_order(tmp_path, some)
    assert_parents_before_children(kinesis, "live", tmp_path)
    assert sorted(landed(tmp_path)) == sorted(item.transaction_id for item in some)
