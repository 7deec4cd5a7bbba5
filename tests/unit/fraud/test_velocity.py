"""Velocity against the oracle, under any order and repetition, and a state against the log."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import history, ring, states, tiles, velocity
from fraud.errors import InvalidState
from fraud.hashing import hash32, hash64
from fraud.velocity import Changes, Question
from fraud.windows import (
    REPORT_DELAY_MS,
    RING_KEEP,
    RING_SCALARS,
    RING_STATISTICS,
    TILE_SCALARS,
    TILE_STATISTICS,
    WINDOWS,
    Entity,
)
from tests.oracle import Event, ring_values, tile_values

START = 1_770_000_000_000
DAY = 86_400_000
SCRATCH = ring.new_scratch()

# Times crowd around window edges, tile edges and each other: that is where windows go wrong.
EDGES = sorted(
    {0, 1, 59_999, 60_000, 60_001}
    | {w.length_ms + late + d for w in WINDOWS for late in (0, REPORT_DELAY_MS) for d in (-1, 0, 1)}
)


@st.composite
def events(draw: st.DrawFn, most: int = 60) -> list[Event]:
    count = draw(st.integers(0, most))
    out: list[Event] = []
    for index in range(count):
        near = draw(st.sampled_from(EDGES))
        spread = draw(st.sampled_from([0, 1, 1_000, 60_000, DAY, 32 * DAY]))
        offset = near + (draw(st.integers(0, spread)) if spread else 0)
        if out and draw(st.integers(0, 9)) == 0:  # known as fraud in the payment's own millisecond
            paid = draw(st.sampled_from(out))
            out.append(replace(paid, report=True))
            continue
        out.append(
            Event(
                time_ms=START - offset,
                name=f"t{index}",
                amount=draw(st.sampled_from([1, 199, 200, 201, 5_000, 10**12])),
                party=draw(st.sampled_from(["m1", "m2", "m3"])),
                other=draw(st.sampled_from(["", "d1", "d2"])),
                country=draw(st.sampled_from(["DE", "FR"])),
                declined=draw(st.booleans()),
                report=draw(st.integers(0, 9)) == 0,
            )
        )
    return list(dict.fromkeys(out))


def change(event: Event) -> Changes:
    if event.report:
        return velocity.report_change(event.name, event.time_ms)
    flags = ring.DECLINED if event.declined else 0
    other = hash32(event.other) if event.other else 0
    code = velocity.country_code(event.country)
    row = (event.time_ms, hash64(event.name), event.amount, hash32(event.party), other)
    return np.array([(*row, ring.NOWHERE, ring.NOWHERE, code, flags, 0)], ring.ENTRY)


def changes(some: list[Event]) -> Changes:
    return np.concatenate([np.empty(0, ring.ENTRY), *(change(event) for event in some)])


def table_of(entity: Entity, state: bytes, as_of_ms: int, party: str) -> dict[str, float]:
    """Every statistic a state yields, declared as a feature or not."""
    asked = Question(as_of_ms, hash32(party))
    table = np.empty(velocity.TABLE_LENGTH[entity])
    statistics = RING_STATISTICS if entity != "merchant" else TILE_STATISTICS
    if entity == "merchant":
        pending, _, flat, counts = states.unpack_tiles(state)
        tiles.read_tiles(pending, flat, counts, as_of_ms, table)
    else:
        held = states.unpack_ring(state)
        ring.read_entries(held, 0, len(held), asked.as_of_ms, asked.party, *(ring.NOWHERE,) * 2, SCRATCH, table)
    names = [f"{statistic}_{window.label}" for window in WINDOWS for statistic in statistics]
    names += RING_SCALARS if entity != "merchant" else TILE_SCALARS
    return dict(zip(names, table.tolist(), strict=True))


def assert_same(found: dict[str, float], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        if name.startswith("amount_std"):
            assert found[name] == pytest.approx(value, rel=1e-9, nan_ok=True), name
        else:
            assert found[name] == value or (math.isnan(found[name]) and math.isnan(value)), name


@given(events(), st.sampled_from(EDGES), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_ring_equals_oracle_in_any_order_and_repetition(some: list[Event], back: int, rng: random.Random) -> None:
    as_of = START - back // 40
    shuffled = [*some, *rng.sample(some, len(some) // 2)]
    rng.shuffle(shuffled)
    state, _ = velocity.update("card", b"", changes(shuffled))
    in_horizon = [e for e in some if e.time_ms >= max(x.time_ms for x in some) - ring.HORIZON_MS]
    assert_same(table_of("card", state, as_of, "m1"), ring_values(in_horizon, as_of, "m1"))


@given(events(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_ring_bytes_do_not_depend_on_order_or_repetition(some: list[Event], rng: random.Random) -> None:
    ordered, _ = velocity.update("card", b"", changes(sorted(some, key=lambda e: e.time_ms)))
    shuffled = [*some, *some]
    rng.shuffle(shuffled)
    one_by_one = b""
    for event in shuffled:
        one_by_one, _ = velocity.update("card", one_by_one, change(event))
    assert one_by_one == ordered


@given(events(), st.integers(0, DAY))
@settings(max_examples=150, deadline=None)
def test_tiles_equal_oracle_after_ordered_stream_with_repeats(some: list[Event], later: int) -> None:
    as_of = START + 1 + later
    state = b""
    for event in sorted(some, key=lambda e: (e.time_ms, hash64(e.name))):
        state, _ = velocity.update("merchant", state, change(event))
        again, changed = velocity.update("merchant", state, change(event))
        assert changed == 0
        assert again == state
    assert_same(table_of("merchant", state, as_of, "m1"), tile_values(some, as_of))


@given(events(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_tiles_accept_any_order_within_the_stated_lateness(some: list[Event], rng: random.Random) -> None:
    close = [
        Event(START + rng.randrange(tiles.LATENESS_MS), e.name, e.amount, e.party, e.other, e.country, e.declined)
        for e in some
    ]
    close = list({(e.time_ms, e.name): e for e in close}.values())
    rng.shuffle(close)
    state, changed = velocity.update("merchant", b"", changes(close))
    assert changed == len(close)
    as_of = START + tiles.LATENESS_MS + 1
    assert_same(table_of("merchant", state, as_of, "m1"), tile_values(close, as_of))


@given(st.lists(events(most=25), min_size=1, max_size=4), st.data())
@settings(max_examples=80, deadline=None)
def test_log_twin_gives_the_bits_of_the_state(keys: list[list[Event]], data: st.DataObject) -> None:
    everything = [(number, e) for number, some in enumerate(keys) for e in some]
    as_of = np.array([data.draw(st.sampled_from([0, 1, 60_000, DAY])) + START for _ in keys], np.int64)
    numbers = np.arange(len(keys), dtype=np.int64)
    party = np.array([hash32("m2")] * len(keys), np.int64)
    nowhere = np.full(len(keys), ring.NOWHERE, np.int64)
    for entity in ("card", "merchant"):
        told = history.sort_history(
            entity, np.array([n for n, _ in everything], np.int64), changes([e for _, e in everything]), len(keys)
        )
        offline = history.read_history(told, history.Questions(numbers, as_of, party, nowhere, nowhere))
        for number, some in enumerate(keys):
            ordered = sorted(some, key=lambda e: (e.time_ms, hash64(e.name)))
            visible = [e for e in ordered if e.time_ms < as_of[number]]
            state, _ = velocity.update(entity, b"", changes(visible))
            online = velocity.read(entity, state, Question(int(as_of[number]), hash32("m2")), SCRATCH)
            assert online.tobytes() == offline[number].tobytes()


def test_risk_holds_reports_against_the_payments_they_speak_of() -> None:
    midnight = START // DAY * DAY
    paid = [Event(midnight - 8 * DAY + i, f"t{i}", 500, "c", "", "DE") for i in range(4)]
    later = [Event(midnight - 3 * DAY + i, f"u{i}", 500, "c", "", "DE") for i in range(50)]
    known = [Event(midnight - DAY + i, f"t{i}", 0, "", "", "DE", report=True) for i in range(3)]
    device, _ = velocity.update("device", b"", changes([*paid, *later, *known]))
    merchant, _ = velocity.update("merchant", b"", changes([*paid, *later, *known]))
    assert table_of("device", device, midnight + DAY // 2, "c")["report_risk_7d"] == 3 / 4
    found = table_of("merchant", merchant, midnight + DAY // 2, "c")
    assert [found[f"report_risk_{window}"] for window in ("24h", "7d", "30d")] == [3 / 4] * 3
    assert (found["report_first_days"], found["report_last_days"]) == (1.5, 1.5)
    assert table_of("merchant", merchant, midnight + 2 * DAY, "c")["report_risk_24h"] == 0.0


def test_quiet_card_counts_fall_to_zero_by_themselves() -> None:
    burst = [Event(START + i, f"t{i}", 500, "m1", "", "DE") for i in range(5)]
    state, _ = velocity.update("card", b"", changes(burst))
    soon = table_of("card", state, START + 1_000, "m1")
    late = table_of("card", state, START + 31 * DAY, "m1")
    assert soon["transaction_count_1m"] == 5
    assert late["transaction_count_1m"] == late["transaction_count_30d"] == late["amount_sum_30d"] == 0


def test_transaction_never_counts_itself_nor_a_tie() -> None:
    state, _ = velocity.update("card", b"", change(Event(START, "t", 500, "m1", "", "DE")))
    assert table_of("card", state, START, "m1")["transaction_count_30d"] == 0
    assert table_of("card", state, START + 1, "m1")["transaction_count_30d"] == 1


def test_decline_learned_later_is_added_to_the_transaction() -> None:
    first, _ = velocity.update("card", b"", change(Event(START, "t", 500, "m1", "", "DE")))
    second, changed = velocity.update("card", first, change(Event(START, "t", 500, "m1", "", "DE", declined=True)))
    assert changed == 1
    assert table_of("card", second, START + 1, "m1")["declined_count_1h"] == 1
    assert table_of("card", second, START + 1, "m1")["transaction_count_1h"] == 1


@pytest.mark.parametrize("entity", ["card", "merchant"])
@pytest.mark.parametrize("report_first", [False, True])
def test_report_known_in_the_payments_own_millisecond_leaves_the_payment(entity: Entity, *, report_first: bool) -> None:
    paid = Event(START, "t", 500, "m1", "", "DE", declined=True)
    both = [paid, replace(paid, report=True)]
    state, changed = velocity.update(entity, b"", changes(both[::-1] if report_first else both))
    assert changed == 2
    assert velocity.update(entity, state, changes([*both, *both])) == (state, 0)
    found = table_of(entity, state, START + 1, "m1")
    assert [found[f"{name}_1h"] for name in ("transaction_count", "report_count", "declined_count")] == [1, 1, 1]


HOT_A_MINUTE = 1_000


def hot_deliveries(*, minutes: int, late_ms: int, a_minute: int = HOT_A_MINUTE) -> list[Event]:
    """Payments of a busy merchant as they arrive: three in ten late, by up to ``late_ms``, some twice."""
    rng = random.Random(9)
    every = [
        Event(START + rng.randrange(minutes * 60_000), f"t{n}", rng.choice([100, 900, 50_000]), "c", "", "DE")
        for n in range(a_minute * minutes)
    ]
    due = [(e.time_ms + (rng.randrange(late_ms) if rng.random() < 0.3 else rng.randrange(1_000)), e) for e in every]
    due += [(when + rng.randrange(late_ms), e) for when, e in due if rng.random() < 0.05]
    return [e for _, e in sorted(due, key=lambda pair: pair[0])]


def test_hot_merchant_within_the_stated_lateness_loses_nothing() -> None:
    minutes = 4
    delivered = hot_deliveries(minutes=minutes, late_ms=59_000)
    every = sorted(set(delivered), key=lambda e: (e.time_ms, hash64(e.name)))
    state, took = velocity.update("merchant", b"", changes(delivered))
    assert took == len(every) == HOT_A_MINUTE * minutes
    told = history.sort_history("merchant", np.zeros(took, np.int64), changes(every), 1)
    for as_of in (START + minutes * 60_000 + 1, START + minutes * 60_000 + 3_600_000):
        columns = (np.array([value], np.int64) for value in (0, as_of, 1, ring.NOWHERE, ring.NOWHERE))
        offline = history.read_history(told, history.Questions(*columns))[0]
        assert velocity.read("merchant", state, Question(as_of, 1), SCRATCH).tobytes() == offline.tobytes()
        assert_same(table_of("merchant", state, as_of, "c"), tile_values(every, as_of))


def test_hotter_merchant_keeps_its_newest_pending_and_tells_what_came_too_late() -> None:
    delivered = hot_deliveries(minutes=3, late_ms=59_000, a_minute=4 * HOT_A_MINUTE)
    some = changes(delivered)
    done = velocity.update_many("merchant", [b""], some, np.array([0, len(some)], np.int64))
    pending, watermark, _, _ = states.unpack_tiles(done.states[0])
    assert len(pending) == tiles.PENDING_KEEP
    newest = np.maximum.accumulate(some["time"])
    late = (done.fates == ring.TOO_LATE) & (some["time"] > newest - tiles.LATENESS_MS)
    assert late.sum() > 100  # beyond the bound the lateness is shorter
    counted = table_of("merchant", done.states[0], START + 200_000, "c")["transaction_count_1h"]
    assert counted == done.took.sum() < 3 * 4 * HOT_A_MINUTE
    assert int(pending["time"][0]) >= watermark


def test_fast_clock_takes_no_more_than_its_tolerance_from_a_merchants_lateness() -> None:
    steady = [Event(START + n * 100, f"t{n}", 100, "c", "", "DE") for n in range(2_000)]
    late = [replace(e, name=f"late-{e.name}") for e in steady if e.time_ms >= START + 60_000]
    ahead = [replace(e, time_ms=e.time_ms + tiles.FUTURE_TOLERANCE_MS, name=f"fast-{e.name}") for e in steady[::50]]
    slack = tiles.LATENESS_MS - tiles.FUTURE_TOLERANCE_MS - 100
    due = [(e.time_ms, e) for e in steady] + [(e.time_ms + slack, e) for e in late]
    due += [(e.time_ms - tiles.FUTURE_TOLERANCE_MS, e) for e in ahead]
    delivered = [e for _, e in sorted(due, key=lambda pair: pair[0])]
    _, took = velocity.update("merchant", b"", changes(delivered))
    assert took == len(delivered)


def test_busy_entities_stay_bounded() -> None:
    storm = [Event(START + i * 10, f"t{i}", 100, f"m{i % 40}", "d", "DE") for i in range(5_000)]
    card, _ = velocity.update("card", b"", changes(storm))
    merchant, _ = velocity.update("merchant", b"", changes(storm))
    assert len(card) == 8 + RING_KEEP * 44
    assert len(merchant) <= 28 + tiles.PENDING_KEEP * 32 + 141 * 32
    assert table_of("merchant", merchant, START + 60_000, "m1")["transaction_count_1h"] == 5_000
    assert table_of("card", card, START + 60_000, "m1")["transaction_count_1h"] == 256


def test_ring_past_its_bound_is_defined_the_same_in_the_log() -> None:
    storm = [Event(START + i * 1_000, f"t{i}", 100 + i, f"m{i % 40}", "d", "DE") for i in range(400)]
    state, _ = velocity.update("card", b"", changes(storm))
    as_of = START + 500_000
    told = history.sort_history("card", np.zeros(400, np.int64), changes(storm), 1)
    columns = (np.array([value], np.int64) for value in (0, as_of, hash32("m1"), ring.NOWHERE, ring.NOWHERE))
    offline = history.read_history(told, history.Questions(*columns))
    online = velocity.read("card", state, Question(as_of, hash32("m1")), SCRATCH)
    assert online.tobytes() == offline[0].tobytes()


def test_late_beyond_the_watermark_changes_nothing() -> None:
    newest = Event(START + 10 * tiles.LATENESS_MS, "new", 100, "m", "", "DE")
    old = Event(START, "old", 100, "m", "", "DE")
    state, _ = velocity.update("merchant", b"", changes([old, newest]))
    again, changed = velocity.update("merchant", state, change(old))
    assert (again, changed) == (state, 0)


@pytest.mark.parametrize("entity", ["card", "merchant"])
@pytest.mark.parametrize("cut", [1, 7, -1])
def test_torn_state_is_refused(entity: Entity, cut: int) -> None:
    state, _ = velocity.update(entity, b"", change(Event(START, "t", 500, "m1", "", "DE")))
    with pytest.raises(InvalidState):
        velocity.update(entity, state[:cut], change(Event(START, "u", 500, "m1", "", "DE")))


def test_state_of_another_kind_is_refused() -> None:
    state, _ = velocity.update("card", b"", change(Event(START, "t", 500, "m1", "", "DE")))
    with pytest.raises(InvalidState, match="kind 1"):
        velocity.update("merchant", state + bytes(20), change(Event(START, "u", 500, "m1", "", "DE")))


def test_distance_of_berlin_and_paris_is_878_km() -> None:
    assert ring.distance_km(5_252_000, 1_340_500, 4_885_660, 235_220) == pytest.approx(878, abs=2)


def test_tiles_of_the_first_version_are_read_and_written_back_as_the_second() -> None:
    storm = [Event(START + i * 1_000, f"t{i}", 100, "m", "d", "DE") for i in range(200)]
    new, _ = velocity.update("merchant", b"", changes(storm))
    pending, watermark, flat, counts = states.unpack_tiles(new)
    old_tiles = np.zeros(len(flat), states._TILE_1)
    for name in old_tiles.dtype.names or ():
        old_tiles[name] = flat[name]
    header = states._TILE_HEADER.pack(1, states.TILES, len(pending), watermark, *counts.tolist(), 0)
    old = header + pending.tobytes() + old_tiles.tobytes()
    as_of = START + 300_000
    assert table_of("merchant", old, as_of, "m") == pytest.approx(table_of("merchant", new, as_of, "m"), nan_ok=True)
    later = change(Event(START + 400_000, "later", 100, "m", "d", "DE"))
    assert velocity.update("merchant", old, later) == velocity.update("merchant", new, later)
