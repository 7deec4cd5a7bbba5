"""Single cards in the wrong hands: stolen numbers, taken-over accounts, and a ring that stays under the limit."""

import numpy as np

from simulation.amounts import price_points, purchases
from simulation.cards import ONLINE_FAVOURITES
from simulation.criminals import (
    Attempts,
    blocked_above,
    fraud,
    hidden_ips,
    moments,
    online_shops,
    ring_devices,
    victims,
)
from simulation.devices import own_devices
from simulation.randomness import HOUR_MS, MINUTE_MS, IntArray, expand, lognormal, stream
from simulation.rows import Rows
from simulation.scene import Scene


def stolen_number(scene: Scene, *, rows: int) -> Rows:
    """Return about ``rows`` online purchases with stolen numbers.

    Two in three thieves are bold (several times the usual amount), the others buy as the holder would; half of them
    work at any hour, from new devices, anywhere in the world.
    """
    rng = stream(scene.config.seed, "stolen_number")
    cards = max(2, round(rows / 3.6))
    start = moments(scene, rng, cards, odd_share=0.5)
    card = victims(scene, rng, start)
    which, _, time = expand(rng, start, 1 + rng.poisson(2.6, cards), gap_ms=12 * MINUTE_MS, sigma=1.2)
    size = len(which)
    merchant = online_shops(scene, rng, size, resold=0.5)
    bold = rng.random(cards) < 0.65
    factor = np.where(bold[which], lognormal(rng, 4.2, 0.5, size), lognormal(rng, 1.2, 0.4, size))
    return fraud(
        scene,
        rng,
        "stolen_number",
        Attempts(
            time=time,
            card=card[which],
            merchant=merchant,
            amount=purchases(scene, rng, card[which], merchant, factor),
            device=ring_devices(scene, rng, cards, cards_each=1.6)[which],
            ip=hidden_ips(scene, rng, card)[which],
        ),
        declined=0.22,
    )


def account_takeover(scene: Scene, *, rows: int) -> Rows:
    """Return about ``rows`` payments by thieves inside the holder's account: a change of device and of pattern."""
    rng = stream(scene.config.seed, "account_takeover")
    cards = max(2, round(rows / 4.2))
    start = moments(scene, rng, cards, odd_share=0.3)
    return take_over(scene, rng, victims(scene, rng, start), start, gap_ms=40 * MINUTE_MS)


def take_over(scene: Scene, rng: np.random.Generator, card: IntArray, start: IntArray, *, gap_ms: float) -> Rows:
    """Return the payments of one takeover of each card.

    One thief in four works on the holder's own device by remote access. The first purchase is small.
    """
    buys = 2 + rng.poisson(2.2, len(card))
    which, ordinal, time = expand(rng, start, buys, gap_ms=gap_ms, sigma=0.9)
    size = len(which)
    favourite = scene.cards.online_favourites[card[which], rng.integers(0, ONLINE_FAVOURITES, size)]
    shop = online_shops(scene, rng, size, resold=0.6)
    merchant = np.where(rng.random(size) < 0.3, favourite, shop)
    factor = np.where(ordinal == 0, 0.4, 2.0 + 0.5 * ordinal) * lognormal(rng, 1.0, 0.4, size)
    new = ring_devices(scene, rng, len(card), cards_each=1.2)
    remote_access = rng.random(len(card)) < 0.25
    return fraud(
        scene,
        rng,
        "account_takeover",
        Attempts(
            time=time,
            card=card[which],
            merchant=merchant,
            amount=purchases(scene, rng, card[which], merchant, factor),
            device=np.where(remote_access, own_devices(scene, rng, card, start), new)[which],
            ip=np.where(remote_access, scene.cards.home_ip[card], hidden_ips(scene, rng, card))[which],
        ),
        declined=0.11,
    )


def limit_aware(scene: Scene, *, rows: int) -> Rows:
    """Return about ``rows`` payments of a ring that raises its amounts until just under what it takes for the limit.

    The limit is a schedule (:func:`simulation.criminals.blocked_above`), not learned from how payments were answered.
    """
    rng = stream(scene.config.seed, "limit_aware")
    cards = max(2, round(rows / 3.2))
    start = moments(scene, rng, cards, odd_share=0.15)
    card = victims(scene, rng, start)
    which, ordinal, time = expand(rng, start, 2 + rng.poisson(1.2, cards), gap_ms=2.5 * HOUR_MS, sigma=0.9)
    size = len(which)
    limit = blocked_above(scene, time)
    reach = np.minimum(0.3 + 0.22 * ordinal + rng.uniform(-0.1, 0.15, size), rng.uniform(0.8, 0.99, size))
    return fraud(
        scene,
        rng,
        "limit_aware",
        Attempts(
            time=time,
            card=card[which],
            merchant=online_shops(scene, rng, size, resold=0.65),
            amount=np.minimum(price_points(rng, limit * reach), limit.astype(np.int64) - 1),
            device=ring_devices(scene, rng, cards, cards_each=2.5)[which],
            ip=hidden_ips(scene, rng, card)[which],
        ),
        declined=0.06,
    )
