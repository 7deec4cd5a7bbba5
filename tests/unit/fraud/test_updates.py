"""Many updates in one call against one at a time: the same bits, the same count of changes."""

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import ring, tiles, velocity
from fraud.errors import InvalidState
from fraud.transaction import Transaction
from fraud.velocity import Changes
from fraud.windows import ENTITIES, RING_KEEP, Entity

START = 1_770_000_000_000
HOUR = 3_600_000


def some_changes(rng: random.Random, count: int, span_ms: int) -> Changes:
    """Changes of one entity: crowded times, repeats, declines learned later, fraud reports."""
    out = np.zeros(count, ring.ENTRY)
    for index in range(count):
        repeated = index > 0 and rng.random() < 0.2
        out[index] = out[rng.randrange(index)] if repeated else out[index]
        if not repeated:
            out[index]["time"] = START + rng.choice([0, 1, rng.randrange(span_ms)])
            out[index]["id"] = rng.randrange(1, 2**64)
            out[index]["amount"] = rng.choice([1, 200, 5_000, 10**12])
            out[index]["party"] = rng.randrange(5)
        out[index]["flags"] |= rng.choice([0, 0, ring.DECLINED, ring.REPORT if not repeated else 0])
    return out


@given(
    st.sampled_from(ENTITIES),
    st.randoms(use_true_random=False),
    st.lists(st.tuples(st.sampled_from([0, 1, 30, 400, 700]), st.integers(0, 40)), max_size=8),
    st.sampled_from([10, 50_000, HOUR, 800 * HOUR]),
)
@settings(max_examples=120, deadline=None)
def test_many_at_once_equal_one_at_a_time(
    entity: Entity, rng: random.Random, sizes: list[tuple[int, int]], span_ms: int
) -> None:
    states = [velocity.update(entity, b"", some_changes(rng, before, span_ms))[0] for before, _ in sizes]
    changes = [some_changes(rng, new, span_ms) for _, new in sizes]
    starts = np.cumsum([0, *(len(some) for some in changes)])
    found = velocity.update_many(entity, states, np.concatenate([np.empty(0, ring.ENTRY), *changes]), starts)
    for place, (state, some) in enumerate(zip(states, changes, strict=True)):
        took = []
        for index in range(len(some)):
            state, changed = velocity.update(entity, state, some[index : index + 1])  # noqa: PLW2901
            took.append(changed == 1)
        assert found.states[place] == state
        assert found.took[starts[place] : starts[place + 1]].tolist() == took
    assert found.refused == {}


def test_unchanged_state_is_the_same_object() -> None:
    some = some_changes(random.Random(1), 9, HOUR)
    state, _ = velocity.update("card", b"", some)
    found = velocity.update_many("card", [state], some[:4], np.array([0, 4]))
    assert found.states[0] is state


def too_long_ring() -> bytes:
    return struct.pack("<BBHI", 1, 1, 0, RING_KEEP + 1) + bytes(ring.ENTRY.itemsize * (RING_KEEP + 1))


def too_many_tiles() -> bytes:
    count = tiles.ROOM + 1
    return struct.pack("<BBHq6HI", 2, 2, 0, 0, count, 0, 0, 0, 0, 0, 0) + bytes(count * tiles.TILE.itemsize)


@pytest.mark.parametrize(
    ("entity", "bad"),
    [
        ("card", b"\x01\x01torn"),
        ("card", b"\x01"),
        ("device", b"\x09\x01" + bytes(6)),
        ("card", too_long_ring()),
        ("merchant", b"\x02\x02torn"),
        ("merchant", too_many_tiles()),
    ],
)
def test_unreadable_state_is_refused_alone(entity: Entity, bad: bytes) -> None:
    some = some_changes(random.Random(2), 6, HOUR)
    state, _ = velocity.update(entity, b"", some[:2])
    found = velocity.update_many(entity, [state, bad, state], some, np.array([0, 2, 4, 6]))
    assert isinstance(found.refused.pop(1), InvalidState)
    assert found.refused == {}
    assert found.states == [state, bad, velocity.update(entity, state, some[4:])[0]]
    assert not found.took[2:4].any()


@pytest.mark.parametrize("entity", ENTITIES)
def test_newest_time_is_that_of_the_last_change(entity: Entity) -> None:
    some = some_changes(random.Random(3), 5, HOUR)
    assert velocity.newest_time_ms(entity, b"") == 0
    assert velocity.newest_time_ms(entity, velocity.update(entity, b"", some)[0]) == some["time"].max()


def test_changes_of_many_are_those_of_each() -> None:
    some = [
        Transaction(
            transaction_id=f"t{number}", card_id="c\u00e4", merchant_id="m1", amount_minor=7, currency="EUR",
            device_id="d1" if number else None, ip="i1" if number > 1 else None,
            event_time_ms=START + number, channel="online", merchant_category=1,
            country="DE", latitude=-33.9 if number else None, longitude=151.2 if number else None,
            authorised=[None, True, False][number],
        )
        for number in range(3)
    ]  # fmt: skip
    for entity, found in velocity.transaction_changes(some).items():
        assert found.tobytes() == b"".join(velocity.transaction_change(entity, one).tobytes() for one in some)
    assert {entity: len(found) for entity, found in velocity.transaction_changes([]).items()} == {
        "card": 0,
        "device": 0,
        "ip": 0,
        "merchant": 0,
    }
