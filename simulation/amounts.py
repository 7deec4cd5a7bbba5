"""What things cost: usual prices, the holder's purse, price endings; the same endings for thieves and customers."""

import numpy as np

from simulation.randomness import FloatArray, IntArray, lognormal
from simulation.scene import Scene

SMALLEST_MINOR = 50


def price_points(rng: np.random.Generator, amount: FloatArray) -> IntArray:
    """Turn amounts into whole minor units with the endings of price tags, at least ``SMALLEST_MINOR``.

    About a quarter end on 99, others on 00, 50 or a multiple of five hundred; the rest stay as they fall.
    """
    kind = rng.random(len(amount))
    minor = np.rint(amount).astype(np.int64)
    units = minor // 100 * 100
    minor = np.where(kind < 0.24, units + 99, minor)
    minor = np.where((kind >= 0.24) & (kind < 0.36), units + 50, minor)
    minor = np.where((kind >= 0.36) & (kind < 0.48), np.maximum(units, 100), minor)
    fives = np.rint(amount / 500).astype(np.int64) * 500
    minor = np.where((kind >= 0.48) & (kind < 0.6) & (amount > 900), fives, minor)
    return np.maximum(minor, SMALLEST_MINOR)


def purchases(
    scene: Scene, rng: np.random.Generator, card: IntArray, merchant: IntArray, factor: FloatArray
) -> IntArray:
    """Return what each card pays at each merchant when it buys ``factor`` times its usual amount."""
    usual = scene.merchants.price[merchant] * scene.cards.spend[card] * factor
    return price_points(rng, usual * lognormal(rng, 0.88, 0.5, len(card)))
