"""Two states made one hold what both knew, or are not joined at all."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import ring, states, tiles, velocity
from fraud.errors import InvalidState
from fraud.hashing import hash64
from fraud.merging import merge
from fraud.velocity import Changes
from tests.oracle import Event, tile_values
from tests.unit.fraud.test_velocity import DAY, START, assert_same, changes, events, table_of

HOUR = 3_600_000


def ordered(some: list[Event]) -> list[Event]:
    return sorted(some, key=lambda e: (e.time_ms, hash64(e.name), e.report))


def state_of(entity: str, some: list[Event]) -> bytes:
    return velocity.update(entity, b"", changes(ordered(some)))[0]  # type: ignore[arg-type]


def steady(first_ms: int, count: int, gap_ms: int, name: str = "t") -> list[Event]:
    """Payments, some declined, some small and one in ten a report; none unusually large."""
    return [
        Event(first_ms + n * gap_ms, f"{name}{n}", 100 + n % 150, "c", "", "DE", n % 7 == 0, n % 10 == 9)
        for n in range(count)
    ]


@given(events(), st.data())
@settings(max_examples=100, deadline=None)
def test_two_rings_made_one_are_the_ring_of_all_changes(some: list[Event], data: st.DataObject) -> None:
    where = [data.draw(st.sampled_from(["batch", "stream", "both"])) for _ in some]
    batch = [e for e, place in zip(some, where, strict=True) if place != "stream"]
    stream = [e for e, place in zip(some, where, strict=True) if place != "batch"]
    assert merge("card", state_of("card", batch), state_of("card", stream)) == state_of("card", some)


@pytest.mark.parametrize("shared", [0, 3])
def test_tiles_of_which_nothing_is_folded_are_joined_exactly_though_some_are_shared(shared: int) -> None:
    batch = steady(START - 20 * DAY, 400, HOUR) + steady(START, 5, 1_000, "b")
    stream = batch[len(batch) - shared :] + steady(batch[-1].time_ms + 1_000, 20, 500, "s")
    streamed = state_of("merchant", stream)
    assert states.unpack_tiles(streamed)[1] == 0
    every = list(dict.fromkeys(batch + stream))
    assert merge("merchant", state_of("merchant", batch), streamed) == state_of("merchant", every)


@pytest.mark.parametrize("gap_ms", [40, 700, 9_000, 400_000])
@pytest.mark.parametrize("pause_ms", [DAY, 6 * HOUR, 4 * DAY, 31 * DAY])
def test_sums_of_todays_stream_are_added_to_yesterdays_history(gap_ms: int, pause_ms: int) -> None:
    batch = steady(START - 20 * DAY, 400, HOUR)
    stream = steady(batch[-1].time_ms + pause_ms, 1_500, gap_ms, "s")
    streamed = state_of("merchant", stream)
    assert states.unpack_tiles(streamed)[1] > 0
    merged = merge("merchant", state_of("merchant", batch), streamed)
    assert merged is not None
    for later in (1, 30_000, 5 * HOUR, 3 * DAY):
        as_of = stream[-1].time_ms + later
        assert_same(table_of("merchant", merged, as_of, "c"), tile_values(batch + stream, as_of))
    assert tile_values(batch + stream, stream[-1].time_ms)["transaction_count_30d"] > 0
    assert velocity.update("merchant", merged, changes(stream)) == (merged, 0)  # the stream over again
    later_still = steady(stream[-1].time_ms + 10, 50, gap_ms, "n")
    grown, took = velocity.update("merchant", merged, changes(later_still))
    assert took == 50
    as_of = later_still[-1].time_ms + 1
    assert_same(table_of("merchant", grown, as_of, "c"), tile_values(batch + stream + later_still, as_of))


def test_what_was_large_is_as_the_stream_judged_it() -> None:
    batch = steady(START - 20 * DAY, 400, HOUR)
    stream = [Event(batch[-1].time_ms + DAY + n * 30_000, f"s{n}", 90_000, "c", "", "DE") for n in range(10)]
    merged = merge("merchant", state_of("merchant", batch), state_of("merchant", stream))
    assert merged is not None
    found = table_of("merchant", merged, stream[-1].time_ms + 1, "c")
    assert found["transaction_count_24h"] == 10
    assert 0 < found["large_share_24h"] * 10 < 10  # the pending are judged anew, the folded are not


def test_sums_that_may_overlap_are_not_joined() -> None:
    batch = steady(START - DAY, 600, 60_000)
    stream = batch[-30:] + steady(batch[-1].time_ms + 1_000, 300, 1_000, "s")
    assert merge("merchant", state_of("merchant", batch), state_of("merchant", stream)) is None


@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(1, 40 * DAY))
@settings(max_examples=60, deadline=None)
def test_tiles_are_joined_to_the_sums_of_all_or_not_at_all(seed: int, count: int, span_ms: int) -> None:
    draw = random.Random(seed)
    every = ordered([Event(START + draw.randrange(span_ms), f"t{n}", 100, "c", "", "DE") for n in range(count)])
    cut = draw.randrange(count + 1)
    began = max(0, cut - draw.choice([0, 0, 1, 20]))
    merged = merge("merchant", state_of("merchant", every[:cut]), state_of("merchant", every[began:]))
    if merged is not None:
        as_of = every[-1].time_ms + 1
        assert_same(table_of("merchant", merged, as_of, "c"), tile_values(every, as_of))


def test_torn_state_is_refused() -> None:
    good = state_of("merchant", steady(START, 30, HOUR))
    with pytest.raises(InvalidState):
        merge("merchant", good, good[:-1])
    with pytest.raises(InvalidState):
        merge("merchant", good[:-1], state_of("merchant", steady(START + 9 * DAY, 30, HOUR)))


def test_merged_tiles_stay_bounded() -> None:
    batch = steady(START - 29 * DAY, 29 * 24, HOUR)
    stream = steady(START + HOUR, 5_000, 40, "s")
    merged = merge("merchant", state_of("merchant", batch), state_of("merchant", stream))
    assert merged is not None
    assert states.unpack_tiles(merged)[3].max() <= tiles.ROOM
    done = velocity.update_many("merchant", [merged], _one(stream[-1].time_ms + 5), np.array([0, 1], np.int64))
    assert (done.refused, done.took.tolist()) == ({}, [True])


def _one(time_ms: int) -> Changes:
    row = np.zeros(1, ring.ENTRY)
    row["time"], row["id"] = time_ms, 7
    return row
