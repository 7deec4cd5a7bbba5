"""The sorted log: repeats joined, nobody's rows left out, and the states that the stream would have left."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import ring, tiles, velocity
from fraud.hashing import hash32, hash64
from fraud.history import History, Questions, read_history, sort_history, states
from fraud.velocity import Changes, FloatArray, Question
from fraud.windows import ENTITIES, RING_KEEP, Entity, reach_ms

START = 1_770_000_000_000
DAY = 86_400_000
SCRATCH = ring.new_scratch()
Item = tuple[int, int, str, int, int]  # key, time, name, amount, flags


def changes_of(items: list[Item]) -> Changes:
    rows = [
        (time, hash64(name), amount, hash32(f"m{amount % 3}"), 0, ring.NOWHERE, ring.NOWHERE, 83, flags, 0)
        for _, time, name, amount, flags in items
    ]
    return np.array(rows, ring.ENTRY)


def told(entity: Entity, items: list[Item], keys: int) -> History:
    return sort_history(entity, np.array([item[0] for item in items], np.int64), changes_of(items), keys)


def ask(history: History, key: list[int], as_of: list[int]) -> FloatArray:
    nowhere = np.full(len(key), ring.NOWHERE, np.int64)
    party = np.full(len(key), hash32("m1"), np.int64)
    return read_history(history, Questions(np.array(key, np.int64), np.array(as_of, np.int64), party, nowhere, nowhere))


def one_by_one(entity: Entity, changes: Changes) -> bytes:
    state = b""
    for index in range(len(changes)):
        state, _ = velocity.update(entity, state, changes[index : index + 1])
    return state


offsets = st.one_of(st.integers(0, 5), st.integers(0, 2 * tiles.LATENESS_MS), st.integers(0, 90 * DAY))
items = st.tuples(
    st.integers(-1, 3),
    offsets.map(lambda back: START - back),
    st.sampled_from([f"t{n}" for n in range(25)]),
    st.sampled_from([1, 200, 201, 10**12]),
    st.sampled_from([0, 0, 0, ring.DECLINED, ring.REPORT]),
)


@given(st.lists(items, max_size=60))
@settings(deadline=None)
def test_history_is_sorted_whole_and_free_of_repeats(some: list[Item]) -> None:
    history = told("card", some, 4)
    expected: dict[tuple[int, int, int, int], int] = {}
    for key, time, name, _, flags in some:
        if key >= 0:
            at = (key, time, hash64(name), flags & ring.REPORT)
            expected[at] = expected.get(at, 0) | flags
    found = [
        ((key, int(row["time"]), int(row["id"]), int(row["flags"]) & ring.REPORT), int(row["flags"]))
        for key in range(4)
        for row in history.of(key)
    ]
    assert found == sorted(expected.items())
    assert (history.starts[0], history.starts[-1]) == (0, len(history.changes))


def test_decline_learned_in_a_repeat_is_joined_to_the_transaction() -> None:
    history = told("card", [(0, START, "t", 500, 0), (0, START, "t", 500, ring.DECLINED), (0, START, "t", 500, 0)], 1)
    assert len(history.changes) == 1
    assert history.changes[0]["flags"] == ring.DECLINED


def test_sorting_leaves_its_input_alone() -> None:
    items = [(0, START, "t", 500, 0), (0, START, "t", 500, ring.DECLINED), (0, START - 5, "u", 500, 0)]
    changes = changes_of(items)
    before = changes.tobytes()
    sort_history("card", np.zeros(3, np.int64), changes, 1)
    assert changes.tobytes() == before


@pytest.mark.parametrize("entity", ENTITIES)
def test_row_without_the_entity_reads_like_one_never_seen(entity: Entity) -> None:
    history = told(entity, [(n % 2, START - n, f"t{n}", 500, 0) for n in range(20)], 3)
    values = ask(history, [-1, 2, 0], [START, START, START])
    unseen = velocity.read(entity, b"", Question(START, hash32("m1")), SCRATCH)
    assert values[0].tobytes() == values[1].tobytes() == unseen.tobytes()
    assert values[2].tobytes() != unseen.tobytes()


@pytest.mark.parametrize("entity", ENTITIES)
def test_changes_of_nobody_are_seen_by_nobody(entity: Entity) -> None:
    mine = [(0, START - 9, "t1", 500, 0)]
    nobodys = [(-1, START - 8, f"n{n}", 700, 0) for n in range(5)]
    with_them, without = told(entity, mine + nobodys, 1), told(entity, mine, 1)
    assert ask(with_them, [0, -1], [START] * 2).tobytes() == ask(without, [0, -1], [START] * 2).tobytes()


@pytest.mark.parametrize("entity", ENTITIES)
def test_empty_log_has_empty_states_and_reads_as_never_seen(entity: Entity) -> None:
    history = told(entity, [], 2)
    assert states(history) == [(b"", 0), (b"", 0)]
    unseen = velocity.read(entity, b"", Question(START, hash32("m1")), SCRATCH)
    assert ask(history, [1], [START])[0].tobytes() == unseen.tobytes()


@pytest.mark.parametrize("entity", ENTITIES)
@given(st.lists(items, max_size=60))
@settings(max_examples=60, deadline=None)
def test_state_of_the_log_is_the_state_the_ordered_stream_leaves(entity: Entity, some: list[Item]) -> None:
    history = told(entity, some, 4)
    for key, (state, took) in enumerate(states(history)):
        assert state == one_by_one(entity, history.of(key))
        assert took == len(history.of(key))


@pytest.mark.parametrize("entity", ENTITIES)
@pytest.mark.parametrize("gap_ms", [7, 400, 90_000, 3 * 3_600_000])
def test_state_of_a_busy_log_is_the_state_the_ordered_stream_leaves(entity: Entity, gap_ms: int) -> None:
    rng = random.Random(gap_ms)
    busy = [(0, START + n * gap_ms + rng.randrange(gap_ms), f"t{n}", rng.randrange(1, 900), 0) for n in range(1_500)]
    history = told(entity, busy, 1)
    assert len(history.changes) == 1_500 > max(RING_KEEP, tiles.PENDING_KEEP)
    [(state, took)] = states(history)
    assert state == one_by_one(entity, history.changes)
    assert took == 1_500


@pytest.mark.parametrize("entity", ENTITIES)
def test_future_changes_alter_no_bit_of_an_answer(entity: Entity) -> None:
    rng = random.Random(3)
    past = [(n % 4, START - rng.randrange(40 * DAY), f"p{n}", rng.randrange(1, 900), 0) for n in range(400)]
    future = [(n % 4, START + rng.randrange(DAY), f"f{n}", rng.randrange(1, 900), 0) for n in range(400)]
    keys = [0, 1, 2, 3]
    before, after = told(entity, past, 4), told(entity, past + future, 4)
    assert ask(before, keys, [START] * 4).tobytes() == ask(after, keys, [START] * 4).tobytes()
    assert ask(before, keys, [START + DAY] * 4).tobytes() != ask(after, keys, [START + DAY] * 4).tobytes()


def test_the_stated_reach_of_the_log_is_enough() -> None:
    """What lies further back than the reach changes no bit, though it made earlier payments usual or large."""
    rng = np.random.default_rng(11)
    as_of = 1_770_000_000_000
    times = np.sort(as_of - rng.integers(1, 100 * 86_400_000, 900))
    changes = np.zeros(len(times), ring.ENTRY)
    changes["time"], changes["id"] = times, np.arange(len(times))
    long_ago = times < as_of - 31 * 86_400_000
    changes["amount"] = np.where(long_ago, 100_000, rng.choice([100, 900], len(times), p=[0.9, 0.1]))
    asked = Questions(*(np.array([value], np.int64) for value in (0, as_of, 1, ring.NOWHERE, ring.NOWHERE)))
    near = changes[times >= as_of - reach_ms()]
    too_near = changes[times >= as_of - 31 * 86_400_000]
    whole, reached, short = (
        read_history(sort_history("merchant", np.zeros(len(some), np.int64), some, 1), asked)
        for some in (changes, near, too_near)
    )
    assert reached.tobytes() == whole.tobytes()
    assert short.tobytes() != whole.tobytes()
