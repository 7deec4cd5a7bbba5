"""The worker as a process over DynamoDB: kills, and shards that split and merge, lose and double nothing there."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fraud.record import records_of
from fraud.transaction import Transaction
from stores.dynamodb_tables import Tables
from streaming.producer import create_stream, publish
from tests.integration.test_stream_resharding import (
    assert_each_entity_in_order,
    assert_parents_before_children,
    publish_resharded,
)
from tests.support.emulators import EmulatorMissing, aws_client, start_kinesalite, start_moto
from tests.support.payments import payments
from tests.support.tables import empty_velocity_tables, held_revisions, held_states, open_tables, start_dynamodb
from tests.support.workers import PATIENCE_S, expected_states, landed, rows, run_until_idle, worker


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[str]:
    with start_dynamodb() as address:
        yield address


@pytest.fixture
def tables(dynamodb: str) -> Iterator[Tables]:
    with open_tables(dynamodb, attempts=5) as made:
        empty_velocity_tables(made)
        yield made


@pytest.fixture(scope="module")
def kinesalite() -> Iterator[tuple[str, Any]]:
    try:
        with start_kinesalite() as address, aws_client("kinesis", address) as client:
            yield address, client
    except EmulatorMissing as missing:
        pytest.skip(f"no emulator that splits and merges shards: {missing}")


class Run:
    """One stream's worker, killed some times and then left to finish."""

    def __init__(self, tables: Tables, some: list[Transaction], stream: str, directory: Path) -> None:
        self.tables, self.some, self.stream, self.directory = tables, some, stream, directory
        self.expected = expected_states(some)

    def kill_and_finish(self, endpoint: str, store: str, *, kills: int) -> None:
        """Kill the worker after some more changes became visible each time, and never at the end."""
        total = sum(1 for item in self.some for _ in records_of(item))
        reached = 0
        for _ in range(kills):
            with worker(endpoint, self.stream, 1, self.directory, "--batch", "10", store=store) as process:
                deadline = time.monotonic() + PATIENCE_S
                while self._visible() < reached + total // 8:
                    assert time.monotonic() < deadline, (self.directory / "log").read_text()
                process.kill()
            made = self._visible()
            assert reached < made < total
            reached = made
        run_until_idle(endpoint, self.stream, 1, self.directory, store=store)

    def check(self) -> None:
        """The states are those of applying everything once, in order; both logs tell of everything once."""
        assert held_states(self.tables, self.expected) == self.expected
        made = held_revisions(self.tables, self.expected)
        every = sorted((*key, revision) for key, last in made.items() for revision in range(1, last + 1))
        assert sorted(row[:3] for row in rows(self.directory)) == every
        assert sorted(landed(self.directory)) == sorted(item.transaction_id for item in self.some)

    def _visible(self) -> int:
        return sum(held_revisions(self.tables, self.expected).values())


def test_killed_worker_loses_and_doubles_nothing(tables: Tables, dynamodb: str, tmp_path: Path) -> None:
    run = Run(tables, payments(150), "kills", tmp_path)
    with start_moto() as endpoint, aws_client("kinesis", endpoint) as kinesis:
        create_stream(kinesis, "kills", 2)
        publish(kinesis, "kills", run.some)
        run.kill_and_finish(endpoint, dynamodb, kills=3)
    run.check()


def test_resharded_stream_is_read_in_order_across_a_kill(
    tables: Tables, dynamodb: str, kinesalite: tuple[str, Any], tmp_path: Path
) -> None:
    endpoint, kinesis = kinesalite
    run = Run(tables, payments(150, seed=4), "resharded", tmp_path)
    create_stream(kinesis, "resharded", 1)
    publish_resharded(kinesis, "resharded", run.some)
    run.kill_and_finish(endpoint, dynamodb, kills=1)
    run.check()
    assert_each_entity_in_order(tmp_path, run.some)
    assert_parents_before_children(kinesis, "resharded", tmp_path)
