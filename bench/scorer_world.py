"""What the scorer's benchmarks run on: a history, a model of production size trained on it, a filled online store."""

import math
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import hiredis
import numpy as np
import numpy.typing as npt
import xgboost as xgb

from fraud import velocity
from fraud.bundle import pack_bundle
from fraud.calibration import Calibration
from fraud.fallback import pack_fallback
from fraud.features import FEATURE_NAMES, NO_PROFILES, Profiles, evaluate
from fraud.policy import Policy
from fraud.ring import new_scratch
from fraud.tiers import FALLBACKS, Tier, tier_features
from fraud.transaction import CHANNELS, Transaction
from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from stores.guards import state_fields, state_view, value_fields
from stores.layout import encode_timestamp, entity_key, timestamp_field
from stores.plan import plan_data
from tests.support.bundles import PROJECT, read_plan

Rows = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

START = 1_770_000_000_000
DAY = 86_400_000
PACK = cast(Callable[[tuple[bytes, ...]], bytes], hiredis.pack_command)
CARDS, DEVICES, MERCHANTS = 300, 320, 40
PROFILES = Profiles("DE", (700.0, 3000.0, math.nan), (900.0, 3100.0, 150.0))
"""What :func:`fill_store` writes of every card and merchant."""


@dataclass(frozen=True)
class World:
    """Payments to score, the states that the earlier ones left, and a bundle trained on those."""

    requests: list[Transaction]
    states: dict[tuple[Entity, str], tuple[bytes, int]]
    bundle: dict[str, bytes]


def make_world(*, history: int, requests: int, trees: int, depth: int, seed: int = 7) -> World:
    """Return a world of ``history`` earlier payments over 30 days and ``requests`` to score afterwards."""
    rng = np.random.default_rng(seed)
    states: dict[tuple[Entity, str], tuple[bytes, int]] = {}
    rows, risks = [], []
    scratch = new_scratch()
    for number in range(history):
        payment = _payment(rng, number, START - int((history - number) * 30 * DAY / history))
        keys = [(entity, velocity.entity_key(entity, payment) or "") for entity in ENTITIES]
        held: dict[Entity, bytes] = {e: states.get((e, key), (b"", 0))[0] for e, key in keys}
        if number >= history // 2:
            rows.append(evaluate(payment, held, _profiles(rng), scratch))
            risks.append(np.nan_to_num(rows[-1][[0, 12, 30, 60]]) @ [1e-4, 0.3, 0.3, 0.3])
        for entity, key in keys:
            state, revision = states.get((entity, key), (b"", 0))
            change = velocity.transaction_change(entity, payment)
            states[entity, key] = velocity.update(entity, state, change)[0], revision + 1
    later = [_payment(rng, history + number, START + 40 * number) for number in range(requests)]
    return World(later, states, _train(rng, np.array(rows), np.array(risks), trees, depth))


def _payment(rng: np.random.Generator, number: int, time_ms: int) -> Transaction:
    return Transaction(
        transaction_id=f"t{number:08d}",
        card_id=f"c{rng.integers(CARDS):06d}",
        merchant_id=f"m{rng.integers(MERCHANTS):05d}",
        device_id=f"d{rng.integers(DEVICES):06d}",
        ip="i" + str(rng.integers(1000)),
        amount_minor=int(rng.lognormal(8.0, 1.0)) + 1,
        currency="EUR",
        event_time_ms=time_ms,
        channel=CHANNELS[rng.integers(len(CHANNELS))],
        merchant_category=int(rng.integers(5000, 6000)),
        country=("DE", "FR", "NL")[rng.integers(3)],
        latitude=float(rng.uniform(48.0, 54.0)),
        longitude=float(rng.uniform(6.0, 14.0)),
    )


def _profiles(rng: np.random.Generator) -> Profiles:
    if rng.random() < 0.1:
        return NO_PROFILES
    return Profiles("DE", (float(rng.integers(2000)), 3000.0, 0.4), (500.0, 3100.0, 200.0))


def _train(
    rng: np.random.Generator,
    rows: Rows,
    risks: object,
    trees: int,
    depth: int,
) -> dict[str, bytes]:
    risk = np.asarray(risks, np.float64)
    labels = (risk + rng.normal(0.0, risk.std(), len(risk)) > np.quantile(risk, 0.95)).astype(int)
    booster, margins = _fit(rows, labels, trees, depth)
    scores = booster.predict(xgb.DMatrix(rows))
    return pack_bundle(
        model_json=bytes(booster.save_raw("json")),
        features=FEATURE_NAMES,
        calibration=Calibration(1.0, 0.0),
        policy=Policy(
            "bench", review_at=float(np.quantile(scores, 0.98)), decline_at=float(np.quantile(scores, 0.995))
        ),
        plan=plan_data(read_plan()),
        check_rows=rows[-32:],
        margins=margins,
        provenance={"seed": 1},
        fallbacks={tier: _fallback(tier, rows, labels, trees, depth) for tier in FALLBACKS},
    )


def _fit(rows: Rows, labels: Labels, trees: int, depth: int) -> tuple[xgb.Booster, list[float]]:
    parameters = {"objective": "binary:logistic", "max_depth": depth, "eta": 0.05, "seed": 1, "nthread": 1}
    booster = xgb.train(parameters, xgb.DMatrix(rows, label=labels), trees)
    margins = booster.predict(xgb.DMatrix(rows[-32:]), output_margin=True)
    return booster, [float(margin) for margin in margins]


def _fallback(tier: Tier, rows: Rows, labels: Labels, trees: int, depth: int) -> bytes:
    """Return a tier's model, as large as the full one: what it costs is measured too."""
    features = tier_features(tier)
    seen = rows[:, [FEATURE_NAMES.index(name) for name in features]]
    booster, margins = _fit(seen, labels, trees, depth)
    return pack_fallback(
        model_json=bytes(booster.save_raw("json")),
        features=features,
        calibration=Calibration(1.0, 0.0),
        check_rows=seen[-32:],
        margins=margins,
    )


def fill_store(port: int, world: World) -> None:
    """Write every state and profile of ``world`` to the Redis on loopback."""
    commands = fill_commands(world)
    send_commands(port, b"".join(map(PACK, commands)), len(commands))


def fill_commands(world: World) -> list[tuple[bytes, ...]]:
    """Return the commands that write every state and profile of ``world``."""
    commands: list[tuple[bytes, ...]] = []
    for (entity, key), (state, revision) in world.states.items():
        name = entity_key(JOIN_KEYS[entity], key, PROJECT)
        newest = velocity.newest_time_ms(entity, state)
        commands.append((b"HSET", name, *state_fields(state_view(entity), state, revision, newest)))
        view = f"{entity}_profile"
        if entity in ("card", "merchant"):
            values: dict[str, bytes | str | int | float | None] = (
                {"card_home_country": "DE", "card_age_days": 700, "card_amount_median_30d": 3000.0}
                if entity == "card"
                else {"merchant_age_days": 900, "merchant_amount_median_30d": 3100.0, "merchant_card_distinct_30d": 150}
            )
            stamp = (timestamp_field(view), encode_timestamp(START - DAY))
            commands.append((b"HSET", name, *value_fields(view, values), *stamp))
    return commands


def send_commands(port: int, packed: bytes, count: int) -> None:
    """Send ``count`` packed commands to the Redis on loopback; every one must succeed."""
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(packed)
        answered = 0
        while answered < count:
            reader.feed(connection.recv(1 << 16))
            while (reply := reader.gets()) is not False:
                assert not isinstance(reply, hiredis.ReplyError), reply
                answered += 1
