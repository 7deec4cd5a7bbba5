"""The log as it was known, against the oracle over what had arrived, and against the stream's own states."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import ring, tiles, velocity
from fraud.hashing import hash32, hash64
from fraud.history import Questions, read_history, sort_history
from fraud.known import KnownHistory, read_known, sort_known
from fraud.velocity import Changes, FloatArray, Question
from fraud.windows import (
    ENTITIES,
    KINDS,
    RING_READ,
    RING_SCALARS,
    RING_STATISTICS,
    TILE_SCALARS,
    TILE_STATISTICS,
    VELOCITY_FEATURES,
    WINDOWS,
    Entity,
)
from tests.oracle import Event, ring_values, tile_values

START = 1_770_000_000_000
DAY = 86_400_000
KEYS = 3
SCRATCH = ring.new_scratch()
Item = tuple[int, int, str, int, int, int]  # key, time, name, amount, flags, arrival
Ask = tuple[int, int, int]  # key, as of, newest arrival seen


def changes_of(items: list[Item]) -> Changes:
    rows = [
        (time, hash64(name), amount, hash32(f"m{amount % 3}"), hash32(f"d{amount % 2}") if amount % 2 else 0,
         ring.NOWHERE, ring.NOWHERE, velocity.country_code("DE" if amount % 5 else "FR"), flags, 0)
        for _, time, name, amount, flags, _ in items
    ]  # fmt: skip
    return np.array(rows, ring.ENTRY)


def told(entity: Entity, items: list[Item]) -> KnownHistory:
    key, arrived = (np.array([item[place] for item in items], np.int64) for place in (0, 5))
    return sort_known(entity, key, changes_of(items), arrived, KEYS)


def questions(asked: list[Ask]) -> tuple[Questions, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    key, as_of, until = (np.array([ask[place] for ask in asked], np.int64) for place in range(3))
    nowhere = np.full(len(asked), ring.NOWHERE, np.int64)
    return Questions(key, as_of, np.full(len(asked), hash32("m1"), np.int64), nowhere, nowhere), until


def ask_known(entity: Entity, items: list[Item], asked: list[Ask]) -> FloatArray:
    return read_known(told(entity, items), *questions(asked))


def arrived_by(items: list[Item], until: int) -> list[Item]:
    """What had arrived, in order of arrival: of two copies the first one is the transaction."""
    return sorted((item for item in items if item[5] <= until), key=lambda item: item[5])


def by_filtering(entity: Entity, items: list[Item], ask: Ask) -> FloatArray:
    """The same question to a log that holds only what had arrived."""
    there = arrived_by(items, ask[2])
    key = np.array([item[0] for item in there], np.int64)
    one, _ = questions([ask])
    values: FloatArray = read_history(sort_history(entity, key, changes_of(there), KEYS), one)[0]
    return values


def by_oracle(entity: Entity, items: list[Item], ask: Ask) -> dict[str, float]:
    """Every statistic by name, from nothing but a list of what had arrived; copies joined here and now."""
    first: dict[tuple[int, str, int], Item] = {}
    for item in arrived_by(items, ask[2]):
        if item[0] == ask[0] >= 0:
            at = item[1], item[2], item[4] & ring.REPORT
            kept = first.setdefault(at, item)
            first[at] = (*kept[:4], kept[4] | item[4], kept[5])
    events = [
        Event(
            time, name, amount, f"m{amount % 3}", f"d{amount % 2}" if amount % 2 else "",
            "DE" if amount % 5 else "FR", bool(flags & ring.DECLINED), bool(flags & ring.REPORT),
        )
        for _, time, name, amount, flags, _ in first.values()
    ]  # fmt: skip
    events = [event for event in events if event.time_ms < ask[1]]
    events.sort(
        key=lambda event: (event.time_ms, hash64(event.name), event.report)
    )  # of equals the newest entries are these
    return ring_values(events, ask[1], "m1") if KINDS[entity] == "ring" else tile_values(events, ask[1])


def statistic_of(entity: Entity, position: int) -> str | None:
    names = RING_STATISTICS if KINDS[entity] == "ring" else TILE_STATISTICS
    row, column = divmod(position, len(names))
    if position < len(WINDOWS) * len(names):
        return f"{names[column]}_{WINDOWS[row].label}"
    scalar = (RING_SCALARS if KINDS[entity] == "ring" else TILE_SCALARS)[position - len(WINDOWS) * len(names)]
    return scalar if scalar.startswith("report") else None


times = st.one_of(st.integers(0, 5), st.integers(0, 3 * tiles.LATENESS_MS), st.integers(0, 40 * DAY))
delays = st.one_of(st.sampled_from([0, 0, 1]), st.integers(0, 90_000), st.integers(0, 35 * DAY))
items = st.builds(
    lambda key, back, name, amount, flags, late: (key, START - back, name, amount, flags, START - back + late),
    st.integers(-1, KEYS - 1),
    times,
    st.sampled_from([f"t{n}" for n in range(12)]),
    st.sampled_from([1, 200, 201, 7_003]),
    st.sampled_from([0, 0, ring.DECLINED, ring.REPORT]),
    delays,
)
asks = st.builds(
    lambda key, back, lag: (key, START - back, START - back - lag),
    st.integers(-1, KEYS - 1),
    times,
    st.sampled_from([0, 1, 2_000, DAY]),
)


@pytest.mark.parametrize("entity", ENTITIES)
@given(st.lists(items, max_size=50), st.lists(asks, min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_a_question_sees_what_a_log_without_later_arrivals_shows(
    entity: Entity, some: list[Item], asked: list[Ask]
) -> None:
    found = ask_known(entity, some, asked)
    for row, ask in enumerate(asked):
        assert found[row].tobytes() == by_filtering(entity, some, ask).tobytes(), ask


@pytest.mark.parametrize("entity", ENTITIES)
@given(st.lists(items, max_size=40), asks)
@settings(max_examples=60, deadline=None)
def test_every_statistic_equals_the_oracle_over_what_had_arrived(entity: Entity, some: list[Item], ask: Ask) -> None:
    found = ask_known(entity, some, [ask])[0]
    expected = by_oracle(entity, some, ask)
    for value, feature in zip(found, VELOCITY_FEATURES[entity], strict=True):
        name = statistic_of(entity, feature.position)
        if name is not None:
            assert value == pytest.approx(expected[name], rel=1e-9, nan_ok=True), feature.name


def crowd(seed: int, count: int, late_ms: int, *, span: int = 40 * DAY) -> list[Item]:
    """Payments and reports of one busy key, some twice, none later than ``late_ms``; some amounts are large."""
    draw = random.Random(seed)
    out: list[Item] = []
    for number in range(count):
        time = START - draw.randrange(span)
        amount = draw.choice([100, 150, 201, 90_003])
        flags = draw.choice([0, 0, 0, ring.DECLINED, ring.REPORT])
        out.append((0, time, f"t{number}", amount, flags, time + draw.randrange(late_ms + 1)))
        if number % 9 == 0 and not flags:
            out.append((0, time, f"t{number}", amount, ring.DECLINED, time + draw.randrange(late_ms + 1)))
    draw.shuffle(out)
    return out


@pytest.mark.parametrize("entity", ENTITIES)
@pytest.mark.parametrize("late_ms", [0, 20_000, 20 * DAY])
def test_a_busy_key_equals_the_oracle(entity: Entity, late_ms: int) -> None:
    some = crowd(late_ms, 900, late_ms)
    draw = random.Random(1)
    asked = [
        (0, time, time - lag) for lag in (0, 30_000) for time in (START - draw.randrange(20 * DAY) for _ in "12345")
    ]
    found = ask_known(entity, some, asked)
    for row, ask in enumerate(asked):
        assert found[row].tobytes() == by_filtering(entity, some, ask).tobytes()
        expected = by_oracle(entity, some, ask)
        for value, feature in zip(found[row], VELOCITY_FEATURES[entity], strict=True):
            name = statistic_of(entity, feature.position)
            if name is not None:
                assert value == pytest.approx(expected[name], rel=1e-9, nan_ok=True), feature.name
    assert len(some) > 3 * RING_READ


@pytest.mark.parametrize("entity", ENTITIES)
def test_the_stream_would_have_read_the_same_within_its_lateness(entity: Entity) -> None:
    """Changes applied one by one as they arrive, read before each question: the state says what the log says."""
    some = crowd(5, 250, tiles.LATENESS_MS - 1, span=3 * 3_600_000)
    lag = 2_000
    asked = [(0, START - back, START - back - lag) for back in range(0, 2 * 3_600_000, 700_001)]
    found = ask_known(entity, some, asked)
    for row, (_, as_of, until) in enumerate(asked):
        state = b""
        for item in arrived_by(some, until):
            state, _ = velocity.update(entity, state, changes_of([item]))
        held = velocity.read(entity, state, Question(as_of, hash32("m1")), SCRATCH)
        assert found[row].tobytes() == held.tobytes(), row
    assert len({row.tobytes() for row in found}) == len(asked)


@pytest.mark.parametrize("entity", ENTITIES)
def test_what_arrives_later_changes_no_bit(entity: Entity) -> None:
    some = crowd(6, 400, 5 * DAY)
    until = START - 3 * DAY
    asked = [(0, until + 1, until)]
    seen = [item for item in some if item[5] <= until]
    assert len(seen) < len(some) - 10
    assert ask_known(entity, some, asked).tobytes() == ask_known(entity, seen, asked).tobytes()


@pytest.mark.parametrize("entity", ENTITIES)
def test_when_everything_has_arrived_it_is_the_plain_history(entity: Entity) -> None:
    some = [(*item[:5], item[1]) for item in crowd(7, 400, 0)]
    key = np.array([item[0] for item in some], np.int64)
    asked, until = questions([(0, START - hours * 3_600_000, START) for hours in range(50)])
    plain = read_history(sort_history(entity, key, changes_of(some), KEYS), asked)
    assert read_known(told(entity, some), asked, until).tobytes() == plain.tobytes()
