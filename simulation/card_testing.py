"""Card testing: many stolen numbers tried for a euro at one shop, then the good ones cashed out."""

from dataclasses import dataclass

import numpy as np

from simulation.amounts import price_points, purchases
from simulation.criminals import Attempts, fraud, hidden_ips, moments, online_shops, ring_devices, victims
from simulation.randomness import HOUR_MS, MINUTE_MS, FloatArray, IntArray, expand, lognormal, stream
from simulation.rows import Rows, concatenate
from simulation.scene import Scene

_SLOW_SHARE = 0.4
_TESTS_EACH = 1.3


@dataclass(frozen=True)
class Campaign:
    """One attack.

    Attributes
    ----------
    start_ms, length_ms
        When the tests run.
    cards
        Numbers tested.
    devices
        Devices used.
    declined
        Share of tests declined.
    wait_ms
        Median time from a card's test to its cash-out.
    """

    start_ms: int
    length_ms: int
    cards: int
    devices: int
    declined: float
    wait_ms: float


def card_testing(scene: Scene, *, rows: int) -> Rows:
    """Return about ``rows`` tests, and the cash-outs that follow them."""
    rng = stream(scene.config.seed, "card_testing")
    usual = min(max(rows / 8, 8.0), 50.0)
    number = max(1, round(rows / (usual * _TESTS_EACH)))
    starts = moments(scene, rng, number, odd_share=0.6)
    sizes = lognormal(rng, 1.0, 0.5, number)
    cards = np.maximum(np.rint(sizes * (rows / _TESTS_EACH / sizes.sum())), 5).astype(np.int64)
    plans = [_plan(rng, start, size) for start, size in zip(starts.tolist(), cards.tolist(), strict=True)]
    return concatenate([run(scene, rng, plan) for plan in plans])


def _plan(rng: np.random.Generator, start_ms: int, cards: int) -> Campaign:
    slow = rng.random() < _SLOW_SHARE
    length = rng.uniform(8, 60) * HOUR_MS if slow else rng.uniform(8, 60) * MINUTE_MS
    return Campaign(
        start_ms=start_ms,
        length_ms=int(length),
        cards=cards,
        devices=max(1, cards // 4) if slow else int(rng.integers(1, 4)),
        declined=float(rng.uniform(0.5, 0.9)),
        wait_ms=10.0 * HOUR_MS,
    )


def run(scene: Scene, rng: np.random.Generator, campaign: Campaign) -> Rows:
    """Return the tests of one campaign and its cash-outs."""
    cards = np.unique(victims(scene, rng, np.full(campaign.cards, campaign.start_ms, np.int64)))
    devices = scene.devices.new(campaign.devices)
    start = campaign.start_ms + (rng.random(len(cards)) * campaign.length_ms).astype(np.int64)
    tries = 1 + rng.binomial(1, _TESTS_EACH - 1, len(cards))
    which, _, time = expand(rng, start, tries, gap_ms=40_000, sigma=0.8)
    shop = int(online_shops(scene, rng, 1, resold=0.1)[0])
    tests = fraud(
        scene,
        rng,
        "card_testing",
        Attempts(
            time=time,
            card=cards[which],
            merchant=np.full(len(which), shop, np.int64),
            amount=np.minimum(price_points(rng, rng.uniform(50, 200, len(which))), 200),
            device=rng.choice(devices, len(cards))[which],
            ip=rng.choice(hidden_ips(scene, rng, cards[: max(2, len(cards) // 6)]), len(cards))[which],
        ),
        declined=campaign.declined,
    )
    return concatenate([tests, _cash_out(scene, rng, campaign, tests, devices)])


def _cash_out(scene: Scene, rng: np.random.Generator, campaign: Campaign, tests: Rows, devices: IntArray) -> Rows:
    """Return what is bought with cards that passed their test (half of them) or not (a few)."""
    chance = np.where(tests.authorised, 0.4, 0.05)
    used = tests.take(rng.random(len(tests)) < chance)
    _, first = np.unique(used.card, return_index=True)
    card = used.card[first]
    start = used.time[first] + _wait(rng, campaign.wait_ms, len(card)).astype(np.int64)
    buys = 2 + rng.binomial(5, 0.4, len(card))
    which, ordinal, time = expand(rng, start, buys, gap_ms=min(25 * MINUTE_MS, campaign.wait_ms / 4), sigma=0.9)
    fresh = ring_devices(scene, rng, len(card), cards_each=2.5)
    device = np.where(rng.random(len(card)) < 0.35, rng.choice(devices, len(card)), fresh)
    merchant = online_shops(scene, rng, len(which), resold=0.7)
    factor = lognormal(rng, 2.0, 0.5, len(which)) * (1 + 0.35 * ordinal)
    return fraud(
        scene,
        rng,
        "cash_out",
        Attempts(
            time=time,
            card=card[which],
            merchant=merchant,
            amount=purchases(scene, rng, card[which], merchant, factor),
            device=device[which],
            ip=hidden_ips(scene, rng, card)[which],
        ),
        declined=0.22,
    )


def _wait(rng: np.random.Generator, median: float, size: int) -> FloatArray:
    """Draw the time from test to cash-out: an hour to three days, or near ``median`` in a hurried campaign."""
    wait = lognormal(rng, median, 0.9 if median > HOUR_MS else 0.3, size)
    return np.clip(wait, min(median / 2, 1.0 * HOUR_MS), 72.0 * HOUR_MS)
