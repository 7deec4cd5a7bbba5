"""How the worker gathers and deals what it reads: the batch window, the lanes, and when a checkpoint moves."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.applied import ChangeLog
from streaming.arrivals import Arrival
from streaming.batches import Collaborators
from streaming.deadletters import DeadLetterFolder
from streaming.folders import DiskFolder
from streaming.mapping import lanes
from streaming.offline import TransactionLog
from streaming.shards import read_checkpoints
from streaming.worker import Pace, Worker

KEYS = [f"card:c{number % 5}" for number in range(12)]


class Pages:
    """A closed shard that is read page by page."""

    def __init__(self, size: int) -> None:
        self.size = size

    def list_shards(self, **_: str) -> dict[str, Any]:
        return {"Shards": [{"ShardId": "s"}]}

    def get_shard_iterator(self, **asked: str) -> dict[str, str]:
        return {"ShardIterator": str(int(asked.get("StartingSequenceNumber", "-1")) + 1)}

    def get_records(self, *, ShardIterator: str, Limit: int) -> dict[str, Any]:  # noqa: N803 - boto3's names
        start = int(ShardIterator)
        stop = min(start + min(self.size, Limit), len(KEYS))
        now = datetime.now(UTC)
        records = [
            {
                "Data": b"",
                "SequenceNumber": str(place),
                "PartitionKey": KEYS[place],
                "ApproximateArrivalTimestamp": now,
            }
            for place in range(start, stop)
        ]
        return {"Records": records} if stop == len(KEYS) else {"Records": records, "NextShardIterator": str(stop)}


class Noting(Worker):
    """Notes the batches instead of applying them; ``fails`` is refused for ever."""

    def __init__(self, directory: Path, pages: Pages, pace: Pace, fails: str = "") -> None:
        folder = DiskFolder(directory)
        log, transactions = ChangeLog(folder), TransactionLog(folder)
        nothing: Any = None
        made = Collaborators(nothing, DeadLetterFolder(folder), log, transactions, lambda: 0, "EUR")
        super().__init__(
            pages, "stream", state_dir=directory, collaborators=made, applied=log, transactions=transactions, pace=pace
        )
        self.batches: list[list[str]] = []
        self.fails = fails
        self.tried = 0
        self.noting = threading.Lock()

    def _deliver(self, batch: Sequence[Arrival]) -> int | None:
        numbers = [arrival.sequence_number for arrival in batch]
        with self.noting:
            if self.fails in numbers:
                self.tried += 1
                if self.tried == 3:
                    self.stop()
                return numbers.index(self.fails)
            self.batches.append(numbers)
        return None


def pace(**changes: float) -> Pace:
    told: Any = {"poll_s": 0.0, "flush_s": 0.01, "until_idle_s": 0.01, **changes}
    return Pace(**told)


@pytest.mark.parametrize(
    ("window_s", "batch", "sizes"),
    [(0.0, 10, [3, 3, 3, 3]), (600.0, 10, [10, 2]), (600.0, 6, [6, 6]), (600.0, 500, [12]), (0.0, 2, [2, 1] * 4)],
)
def test_window_waits_for_a_full_batch_or_the_end_of_the_shard(
    tmp_path: Path, window_s: float, batch: int, sizes: list[int]
) -> None:
    worker = Noting(tmp_path, Pages(3), pace(window_s=window_s, batch=batch))
    worker._read_shard("s")
    assert [len(some) for some in worker.batches] == sizes
    assert [number for some in worker.batches for number in some] == [str(place) for place in range(len(KEYS))]


def test_lanes_apply_everything_once_and_keep_the_order_of_each_key(tmp_path: Path) -> None:
    worker = Noting(tmp_path, Pages(12), pace(parallel=4, batch=2))
    worker._read_shard("s")
    done = [number for some in worker.batches for number in some]
    assert sorted(done, key=int) == [str(place) for place in range(len(KEYS))]
    for key in set(KEYS):
        own = [int(number) for number in done if KEYS[int(number)] == key]
        assert own == sorted(own)
    assert max(len(some) for some in worker.batches) <= 2


def test_checkpoint_stays_before_what_one_lane_could_not_apply(tmp_path: Path) -> None:
    worker = Noting(tmp_path, Pages(6), pace(parallel=4), fails="8")
    worker.run()
    assert worker.tried >= 3
    assert read_checkpoints(tmp_path, "stream").shards["s"].sequence_number == "5"  # the page before
    assert {number for some in worker.batches for number in some} >= {str(place) for place in range(6)}


@given(st.lists(st.sampled_from(KEYS), max_size=40), st.integers(1, 10))
def test_every_record_is_in_one_lane_and_every_key_too(keys: list[str], count: int) -> None:
    some = [Arrival(b"", str(place), key, "s", 0) for place, key in enumerate(keys)]
    dealt = lanes(some, count)
    assert sorted((a for lane in dealt for a in lane), key=lambda a: int(a.sequence_number)) == some
    assert len(dealt) <= count
    assert all(dealt)
    homes = {(arrival.partition_key, place) for place, lane in enumerate(dealt) for arrival in lane}
    assert len(homes) == len(set(keys))
    assert all([int(a.sequence_number) for a in lane] == sorted(int(a.sequence_number) for a in lane) for lane in dealt)
