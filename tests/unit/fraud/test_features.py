"""One row, many columns and Feast's trial call: the same numbers, under names that are pinned."""

import hashlib
import math
import re
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import ring, velocity
from fraud.errors import InvalidState
from fraud.features import (
    CARD_PROFILE_FEATURES,
    CONTEXT_FEATURES,
    CROSS_FEATURES,
    FEATURE_NAMES,
    FEATURES,
    MERCHANT_PROFILE_FEATURES,
    NO_PROFILES,
    SERVICE,
    VELOCITY,
    Profiles,
    context_columns,
    context_values,
    cross_columns,
    cross_values,
    evaluate,
    typed_columns,
    velocity_columns,
)
from fraud.transaction import CHANNELS, Transaction
from fraud.velocity import FloatArray
from fraud.windows import ENTITIES, Entity

NOW = 1_770_000_000_000  # 2026-02-02T02:40:00Z, a Monday
DAY = 86_400_000
SCRATCH = ring.new_scratch()
NONE_SEEN: dict[Entity, bytes] = dict.fromkeys(ENTITIES, b"")
PAYMENT = Transaction(
    transaction_id="asked",
    card_id="c1",
    merchant_id="m1",
    device_id="d1",
    ip="i1",
    amount_minor=4_000,
    currency="EUR",
    event_time_ms=NOW,
    channel="online",
    merchant_category=5411,
    country="DE",
)


@st.composite
def payments(draw: st.DrawFn) -> Transaction:
    placed = draw(st.booleans())
    return Transaction(
        transaction_id=f"t{draw(st.integers(0, 40))}",
        card_id=draw(st.sampled_from(["c1", "c2"])),
        merchant_id=draw(st.sampled_from(["m1", "m2", "m3"])),
        device_id=draw(st.sampled_from([None, "d1", "d2"])),
        ip=draw(st.sampled_from([None, "i1", "i2"])),
        amount_minor=draw(st.sampled_from([1, 200, 201, 4_999]) | st.integers(1, 10**12)),
        currency="EUR",
        event_time_ms=NOW - draw(st.integers(0, 40 * DAY) | st.integers(0, 90_000)),
        channel=draw(st.sampled_from(CHANNELS)),
        merchant_category=draw(st.integers(0, 9999)),
        country=draw(st.sampled_from(["DE", "FR", "US"])),
        latitude=draw(st.floats(-90, 90)) if placed else None,
        longitude=draw(st.floats(-180, 180)) if placed else None,
        authorised=draw(st.sampled_from([None, True, False])),
    )


numbers = st.just(math.nan) | st.floats(0, 1e12)
profiles = st.builds(
    Profiles,
    st.sampled_from([None, "DE", "FR"]),
    st.tuples(*[numbers] * len(CARD_PROFILE_FEATURES)),
    st.tuples(*[numbers] * len(MERCHANT_PROFILE_FEATURES)),
)
pasts = st.lists(payments(), max_size=30)


def states_after(past: list[Transaction], asked: Transaction) -> dict[Entity, bytes]:
    states: dict[Entity, bytes] = {}
    for entity in ENTITIES:
        key = velocity.entity_key(entity, asked)
        mine = [velocity.transaction_change(entity, p) for p in past if key and velocity.entity_key(entity, p) == key]
        changes = np.sort(np.concatenate([np.empty(0, ring.ENTRY), *mine]), order=("time", "id"))
        states[entity] = velocity.update(entity, b"", changes)[0] if len(changes) else b""
    return states


def request_columns(asked: list[Transaction], states: list[dict[Entity, bytes]]) -> dict[str, list[Any]]:
    """What Feast hands to the velocity view: an unseen entity's state is null, a missing device's token empty."""
    columns: dict[str, list[Any]] = {f"{entity}_state": [s[entity] or None for s in states] for entity in ENTITIES}
    columns["event_time_ms"] = [p.event_time_ms for p in asked]
    columns["amount_minor"] = [p.amount_minor for p in asked]
    columns["card_token"] = [p.card_id for p in asked]
    columns["merchant_token"] = [p.merchant_id for p in asked]
    columns["latitude"] = [p.latitude for p in asked]
    columns["longitude"] = [p.longitude for p in asked]
    return columns


def profile_columns(asked: list[Transaction], known: list[Profiles]) -> dict[str, list[Any]]:
    def null(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {
        "event_time_ms": [p.event_time_ms for p in asked],
        "amount_minor": [p.amount_minor for p in asked],
        "channel": [p.channel for p in asked],
        "merchant_category": [p.merchant_category for p in asked],
        "country": [p.country for p in asked],
        "device_token": [p.device_id or "" for p in asked],
        "card_home_country": [k.home_country for k in known],
        "card_amount_median_30d": [null(k.card[1]) for k in known],
        "merchant_amount_median_30d": [null(k.merchant[1]) for k in known],
    }


def by_name(asked: Transaction, states: dict[Entity, bytes], known: Profiles = NO_PROFILES) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, evaluate(asked, states, known, SCRATCH).tolist(), strict=True))


@given(st.lists(st.tuples(payments(), pasts, profiles), min_size=1, max_size=4))
@settings(max_examples=80, deadline=None)
def test_columns_of_feast_hold_the_bits_of_the_scorer(
    rows: list[tuple[Transaction, list[Transaction], Profiles]],
) -> None:
    asked = [row[0] for row in rows]
    states = [states_after(past, payment) for payment, past, _ in rows]
    known = [row[2] for row in rows]
    columns = {
        **velocity_columns(request_columns(asked, states)),
        **context_columns(profile_columns(asked, known)),
        **{
            feature.name: [getattr(k, side)[index] for k in known]
            for side, some in (("card", CARD_PROFILE_FEATURES), ("merchant", MERCHANT_PROFILE_FEATURES))
            for index, feature in enumerate(some)
        },
    }
    assert set(columns) == set(FEATURE_NAMES)
    for index, payment in enumerate(asked):
        online = evaluate(payment, states[index], known[index], SCRATCH)
        feast = np.array([columns[name][index] for name in FEATURE_NAMES], np.float64)
        assert feast.tobytes() == online.tobytes()


@given(
    st.lists(
        st.tuples(st.integers(1, 10**12), *[st.just(math.nan) | st.just(0.0) | st.floats(1e-3, 1e15)] * 4),
        min_size=1,
        max_size=10,
    )
)
def test_cross_columns_hold_the_bits_of_cross_values(rows: list[tuple[int, float, float, float, float]]) -> None:
    seen = np.full((len(rows), len(VELOCITY)), 7.0)
    names = [feature.name for feature in VELOCITY]
    inputs = ("card_amount_mean_30d", "card_amount_max_30d", "card_amount_std_30d", "merchant_amount_mean_30d")
    for column, name in enumerate(inputs):
        seen[:, names.index(name)] = [row[1 + column] for row in rows]
    amounts = np.array([row[0] for row in rows], np.int64)
    expected: FloatArray = np.array([cross_values(*row) for row in rows])
    assert cross_columns(amounts, seen).tobytes() == expected.tobytes()


@given(payments(), pasts)
@settings(max_examples=50, deadline=None)
def test_missing_device_reads_as_one_never_seen(asked: Transaction, past: list[Transaction]) -> None:
    without = msgspec.structs.replace(asked, device_id=None)
    strange = msgspec.structs.replace(asked, device_id="never-seen")
    nobody = by_name(without, states_after(past, without))
    unseen = by_name(strange, states_after(past, strange))
    different = {name for name in FEATURE_NAMES if not np.array_equal(nobody[name], unseen[name], equal_nan=True)}
    assert different == {"transaction_has_device"}
    assert (nobody["transaction_has_device"], unseen["transaction_has_device"]) == (0.0, 1.0)


def test_nothing_known_gives_zero_counts_and_null_averages() -> None:
    values = by_name(PAYMENT, NONE_SEEN)
    for name, value in values.items():
        if name.startswith("transaction_") and name != "transaction_foreign":
            assert not math.isnan(value), name
        elif re.search(r"_(count|sum|distinct|risk)_\w+$|_known_30d$", name) and name != "merchant_card_distinct_30d":
            assert value == 0.0, name
        else:
            assert math.isnan(value), name


def test_context_says_what_the_transaction_says() -> None:
    values = by_name(PAYMENT, NONE_SEEN, Profiles("FR", (90.0, 2_000.0, 0.5), (800.0, 1_000.0, 37.0)))
    expected = {
        "transaction_amount": 4_000.0,
        "transaction_hour": 2.0,
        "transaction_weekday": 0.0,
        "transaction_channel": 1.0,
        "transaction_merchant_category": 5411.0,
        "transaction_has_device": 1.0,
        "transaction_foreign": 1.0,
        "amount_to_card_median_30d": 2.0,
        "amount_to_merchant_median_30d": 4.0,
        "card_age_days": 90.0,
        "card_amount_median_30d": 2_000.0,
        "card_online_share_30d": 0.5,
        "merchant_age_days": 800.0,
        "merchant_amount_median_30d": 1_000.0,
        "merchant_card_distinct_30d": 37.0,
    }
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("time_ms", "hour", "weekday"),
    [
        (946_684_800_000, 0.0, 5.0),  # 2000-01-01, a Saturday
        (1_770_000_000_000, 2.0, 0.0),
        (1_769_990_399_999, 23.0, 6.0),
        (1_769_990_400_000, 0.0, 0.0),
        (1_709_164_800_000, 0.0, 3.0),  # 2024-02-29, a Thursday
    ],
)
def test_hour_and_weekday_are_utc(time_ms: int, hour: float, weekday: float) -> None:
    values = context_values(time_ms, 1, "pos", 1, "DE", False, None, math.nan, math.nan)
    assert values[1:3] == (hour, weekday)


def test_amount_is_compared_with_the_past_of_card_and_merchant() -> None:
    past = [
        msgspec.structs.replace(PAYMENT, transaction_id=f"t{n}", amount_minor=amount, event_time_ms=NOW - n * DAY)
        for n, amount in [(1, 1_000), (2, 2_000), (3, 3_000)]
    ]
    values = by_name(PAYMENT, states_after(past, PAYMENT))
    assert values["amount_to_card_mean_30d"] == values["amount_to_merchant_mean_30d"] == 2.0
    assert values["amount_to_card_max_30d"] == 4_000 / 3_000
    assert values["amount_zscore_card_30d"] == pytest.approx(2.0, rel=1e-12)
    assert values["card_transaction_count_24h"] == 1.0
    assert values["card_previous_seconds"] == 86_400.0


def test_jump_from_berlin_to_new_york_in_an_hour_is_seen() -> None:
    berlin = msgspec.structs.replace(
        PAYMENT, transaction_id="t", event_time_ms=NOW - 3_600_000, latitude=52.52, longitude=13.405
    )
    new_york = msgspec.structs.replace(PAYMENT, latitude=40.7128, longitude=-74.006)
    values = by_name(new_york, states_after([berlin], new_york))
    assert values["card_distance_km"] == pytest.approx(6_385, abs=5)
    assert values["card_speed_kmh"] == values["card_distance_km"]
    nowhere = by_name(PAYMENT, states_after([berlin], PAYMENT))
    assert math.isnan(nowhere["card_distance_km"])


def test_contract_is_the_one_that_models_were_trained_on() -> None:
    """Changing, moving or removing a feature is a new feature service, not an edit: then both lines here change."""
    digest = hashlib.sha256("\n".join(FEATURE_NAMES).encode()).hexdigest()
    assert (SERVICE, len(FEATURE_NAMES)) == ("fraud_score_v1", 154)
    assert digest == "c7adf8425084200f4e351e9faf5d7ce987958a1c26ae3bbf41db44a48b037527"


def test_every_feature_has_a_name_of_its_own() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", name) for name in FEATURE_NAMES)


@given(payments(), pasts)
@settings(max_examples=30, deadline=None)
def test_whole_features_are_whole_and_never_null_when_computed_here(
    asked: Transaction, past: list[Transaction]
) -> None:
    values = by_name(asked, states_after(past, asked))
    for feature in CONTEXT_FEATURES + VELOCITY + CROSS_FEATURES:
        if feature.whole:
            assert values[feature.name].is_integer(), feature.name


def test_columns_have_the_type_that_is_declared() -> None:
    columns = velocity_columns(request_columns([PAYMENT], [NONE_SEEN]))
    whole = {feature.name: feature.whole for feature in FEATURES}
    assert {name: type(column[0]) for name, column in columns.items()} == {
        name: int if whole[name] else float for name in columns
    }
    assert list(typed_columns(VELOCITY[:2], np.array([[1.0, 2.0], [3.0, 4.0]])).values()) == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    "state", [None, b"", b"hello world", b"\x00" * 40, b"\xff", bytearray(b"x"), memoryview(b"y"), "text", 5]
)
def test_trial_call_with_garbage_states_reads_as_never_seen(state: object) -> None:
    columns = request_columns([PAYMENT], [NONE_SEEN])
    garbage = {name: [state] if name.endswith("_state") else column for name, column in columns.items()}
    found, expected = velocity_columns(garbage), velocity_columns(columns)
    assert list(found) == list(expected)
    assert np.array_equal(np.array(list(found.values())), np.array(list(expected.values())), equal_nan=True)


@pytest.mark.parametrize("value", [None, ""])
def test_trial_call_with_nulls_gives_every_column(value: object) -> None:
    velocity_names = list(request_columns([PAYMENT], [NONE_SEEN]))
    found = velocity_columns({name: [None] for name in velocity_names})
    assert list(found) == [feature.name for feature in VELOCITY + CROSS_FEATURES]
    assert {len(column) for column in found.values()} == {1}
    context_names = list(profile_columns([PAYMENT], [NO_PROFILES]))
    texts = ("channel", "country", "device_token", "card_home_country")
    context = context_columns({name: [value if name in texts else None] for name in context_names})
    assert list(context) == [feature.name for feature in CONTEXT_FEATURES]


def test_no_rows_give_empty_columns() -> None:
    found = velocity_columns(request_columns([], [])) | context_columns(profile_columns([], []))
    assert len(found) == len(VELOCITY + CROSS_FEATURES + CONTEXT_FEATURES)
    assert all(column == [] for column in found.values())


def test_torn_state_is_refused_not_read_as_never_seen() -> None:
    state = states_after([msgspec.structs.replace(PAYMENT, event_time_ms=NOW - 1)], PAYMENT)
    for entity in ENTITIES:
        torn = state | {entity: state[entity][:-1]}
        with pytest.raises(InvalidState):
            evaluate(PAYMENT, torn, NO_PROFILES, SCRATCH)
        with pytest.raises(InvalidState):
            velocity_columns(request_columns([PAYMENT], [torn]))
