"""Merchants as the weak point: card data stolen from one, and merchants that are in league with thieves."""

import numpy as np

from simulation.amounts import price_points, purchases
from simulation.criminals import Attempts, fraud, hidden_ips, moments, online_shops, ring_devices, victims
from simulation.randomness import DAY_MS, HOUR_MS, IntArray, expand, lognormal, stream, weighted
from simulation.rows import Rows, concatenate
from simulation.scene import Scene

_BUYS_EACH = 3.2
_MISUSED_SHARE = 0.45


def merchant_compromise(scene: Scene, honest: Rows, *, rows: int) -> Rows:
    """Return about ``rows`` misuses of cards that paid at a compromised merchant while it leaked.

    A leak lasts days to weeks; the misuse follows days to weeks later, elsewhere, small amounts first.
    """
    rng = stream(scene.config.seed, "merchant_compromise")
    cards_wanted = max(2, round(rows / _BUYS_EACH))
    number = max(1, round(cards_wanted / 25))
    merchants = weighted(rng, np.power(scene.merchants.weight, 0.75), number)
    start = scene.config.start_ms + (rng.random(number) * scene.config.days * 0.85 * DAY_MS).astype(np.int64)
    length = (np.clip(lognormal(rng, 12.0, 0.7, number), 2, 60) * DAY_MS).astype(np.int64)
    leaking = np.zeros(scene.merchants.count, np.bool_)
    leaking[merchants] = True
    visits = honest.take(leaking[honest.merchant])
    parts = []
    cap = max(2, round(1.4 * cards_wanted / number))
    for merchant, first, span in zip(merchants, start, length, strict=True):
        exposed = visits.take((visits.merchant == merchant) & (visits.time >= first) & (visits.time < first + span))
        cards, position = np.unique(exposed.card, return_index=True)
        size = min(cap, int(np.ceil(_MISUSED_SHARE * len(cards))))
        chosen = rng.permutation(len(cards))[:size]
        parts.append(_misuse(scene, rng, cards[chosen], exposed.time[position[chosen]]))
    return concatenate(parts)


def _misuse(scene: Scene, rng: np.random.Generator, card: IntArray, exposed: IntArray) -> Rows:
    """Return the spending on stolen cards of one leak, at counters or online as the leak allows."""
    wait = np.clip(lognormal(rng, 8.0, 0.8, len(card)), 1, 60)
    noon = (exposed // DAY_MS) * DAY_MS + (rng.normal(16.0, 3.5, len(card)) * HOUR_MS).astype(np.int64)
    start = noon + (np.ceil(wait) * DAY_MS).astype(np.int64)
    buys = 1 + rng.binomial(6, (_BUYS_EACH - 1) / 6, len(card))
    which, ordinal, time = expand(rng, start, buys, gap_ms=2 * HOUR_MS, sigma=1.1)
    counterfeit = rng.random() < 0.5
    ring_city = weighted(rng, scene.cities.residents, 1)[0]
    city = np.where(rng.random(len(card)) < 0.5, scene.cards.city[card], ring_city)
    counter = scene.market.at_counter.pick(rng, city[which])
    merchant = counter if counterfeit else online_shops(scene, rng, len(which), resold=0.5)
    factor = lognormal(rng, 0.5, 0.5, len(which)) * (1 + 1.1 * ordinal)
    return fraud(
        scene,
        rng,
        "merchant_compromise",
        Attempts(
            time=time,
            card=card[which],
            merchant=merchant,
            amount=purchases(scene, rng, card[which], merchant, factor),
            device=ring_devices(scene, rng, len(card), cards_each=3.0)[which],
            ip=hidden_ips(scene, rng, card)[which],
        ),
        declined=0.13,
    )


def mule_merchant(scene: Scene, *, rows: int) -> Rows:
    """Return about ``rows`` payments to small merchants that turn collusive late in the world.

    Amounts are moderate and mostly round; the merchant's few honest customers keep coming.
    """
    rng = stream(scene.config.seed, "mule_merchant")
    cards = max(3, round(rows / 1.4))
    start = moments(scene, rng, cards, odd_share=0.15, since=scene.config.novelty)
    card = victims(scene, rng, start)
    which, _, time = expand(rng, start, 1 + rng.binomial(2, 0.2, cards), gap_ms=3 * HOUR_MS, sigma=1.0)
    size = len(which)
    round_amount = rng.integers(4, 26, size) * 500
    amount = np.where(rng.random(size) < 0.65, round_amount, price_points(rng, lognormal(rng, 4_500, 0.5, size)))
    return fraud(
        scene,
        rng,
        "mule_merchant",
        Attempts(
            time=time,
            card=card[which],
            merchant=rng.choice(scene.merchants.collusive, cards)[which],
            amount=amount,
            device=ring_devices(scene, rng, cards, cards_each=2.0)[which],
            ip=hidden_ips(scene, rng, card)[which],
        ),
        declined=0.08,
    )
