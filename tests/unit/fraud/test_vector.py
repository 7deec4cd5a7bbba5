"""The compiled vector against the sum of its parts, bit for bit."""

import math
import random

import numpy as np
import pytest

from fraud import velocity
from fraud.errors import InvalidState
from fraud.features import FEATURE_NAMES, NO_PROFILES, Profiles, evaluate, evaluate_in_parts
from fraud.ring import new_scratch
from fraud.transaction import CHANNELS, Transaction
from fraud.vector import LENGTH
from fraud.windows import DAY, ENTITIES, Entity

NOW = 1_770_000_000_000


def some_payment(draw: random.Random, number: int, time_ms: int) -> Transaction:
    placed = draw.random() < 0.7
    return Transaction(
        transaction_id=f"t{number}",
        card_id=draw.choice(["c1", "ç", "卡" * 40, "c2"]),
        merchant_id=draw.choice(["m1", "m2"]),
        device_id=draw.choice(["d1", "d2", None]),
        amount_minor=draw.choice([1, 200, 10**12, draw.randrange(1, 10**6)]),
        currency="EUR",
        event_time_ms=time_ms,
        channel=draw.choice(CHANNELS),
        merchant_category=draw.randrange(10_000),
        country=draw.choice(["DE", "FR"]),
        latitude=draw.uniform(-90, 90) if placed else None,
        longitude=draw.uniform(-180, 180) if placed else None,
    )


def profiles(draw: random.Random) -> Profiles:
    if draw.random() < 0.3:
        return NO_PROFILES
    values = [draw.choice([math.nan, 0.0, 5.0, draw.random() * 1e4]) for _ in range(6)]
    return Profiles(draw.choice(["DE", None]), tuple(values[:3]), tuple(values[3:]))


@pytest.mark.parametrize("seed", range(4))
def test_every_vector_is_the_sum_of_its_parts_to_the_last_bit(seed: int) -> None:
    draw = random.Random(seed)
    states: dict[Entity, bytes] = dict.fromkeys(ENTITIES, b"")
    scratch = new_scratch()
    time_ms = NOW
    for number in range(400):
        time_ms += draw.choice([0, 1, 900, 60_000, 3_600_000, DAY // 3])
        payment = some_payment(draw, number, time_ms)
        seen = profiles(draw)
        held = {entity: state if draw.random() < 0.9 else b"" for entity, state in states.items()}
        vector = evaluate(payment, held, seen, scratch)
        assert vector.tobytes() == evaluate_in_parts(payment, held, seen, scratch).tobytes()
        for entity in ENTITIES:
            change = velocity.transaction_change(entity, payment)
            states[entity], _ = velocity.update(entity, states[entity], change)


def test_its_length_is_that_of_the_contract() -> None:
    assert len(FEATURE_NAMES) == LENGTH


@pytest.mark.parametrize("entity", ENTITIES)
def test_a_torn_or_foreign_state_is_refused_as_by_the_parts(entity: Entity) -> None:
    payment = some_payment(random.Random(1), 1, NOW)
    whole = velocity.update(entity, b"", velocity.transaction_change(entity, payment))[0]
    scratch = new_scratch()
    for broken in (
        whole[:1],
        whole[:7],
        whole[:-1],
        whole + b"\x00",
        b"\x63" + whole[1:],
        whole[:1] + b"\x09" + whole[2:],
    ):
        states = {**dict.fromkeys(ENTITIES, b""), entity: broken}
        with pytest.raises(InvalidState):
            evaluate(payment, states, NO_PROFILES, scratch)
    vector = evaluate(payment, {**dict.fromkeys(ENTITIES, b""), entity: whole}, NO_PROFILES, scratch)
    assert np.isfinite(vector[:6]).all()
