"""A rebuild that harmed a reader is told from one that did not, whatever the store."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from bench.rebuild import Reader, Rebuild
from fraud.errors import StoreUnavailable

UNHARMED = Rebuild("any", 100, 10, 2.0, 1.0, 100.0, reads=9, reads_failed=0, reads_fallen=0, newer_kept=True)


@pytest.mark.parametrize(
    "harmed",
    [
        replace(UNHARMED, reads=0),
        replace(UNHARMED, reads_failed=1),
        replace(UNHARMED, reads_fallen=1),
        replace(UNHARMED, newer_kept=False),
    ],
)
def test_one_failed_read_or_lost_state_harms(harmed: Rebuild) -> None:
    assert not UNHARMED.harmed
    assert harmed.harmed


def test_reader_counts_reads_that_fail_and_revisions_that_fall() -> None:
    answers: Iterator[int | Exception] = iter([3, 5, StoreUnavailable("busy"), 4, redis.ConnectionError(), 5, 7])
    last = threading.Event()

    def ask(_key: str) -> int:
        answer = next(answers, None)
        if answer is None:
            last.set()
            return 7
        if isinstance(answer, Exception):
            raise answer
        return answer

    reader = Reader(ask, ["c1"])
    with reader.watching():
        assert last.wait(10)
    assert (reader.failed, reader.fallen) == (2, 1)
    assert reader.reads > 5
