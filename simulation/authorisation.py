"""What the issuer answers to honest customers, and how they try again."""

from dataclasses import replace

import numpy as np

from simulation.randomness import DAY_MS, BoolArray, FloatArray, IntArray, lognormal
from simulation.rows import Rows, concatenate
from simulation.scene import Scene

_OTHER_REASONS = 0.012
_TRIES_AGAIN = (0.55, 0.35)
_SUCCEEDS = 0.45


def answers(scene: Scene, rng: np.random.Generator, card: IntArray, time: IntArray, amount: IntArray) -> BoolArray:
    """Return whether each payment is authorised.

    A small share is declined for other reasons (wrong PIN, expired card); a tight account runs dry towards payday,
    sooner for large amounts.
    """
    day = np.clip((time - scene.config.start_ms) // DAY_MS, 0, scene.config.days - 1)
    since = scene.since_payday[scene.cards.payday[card], day] / 31.0
    usual = 3_500.0 * scene.cards.spend[card]
    large = np.minimum(amount / usual, 10.0)
    short = scene.cards.tightness[card] * since**2 * (0.05 + 0.04 * large)
    answer: BoolArray = rng.random(len(card)) >= _OTHER_REASONS + np.minimum(short, 0.6)
    return answer


def with_retries(rng: np.random.Generator, rows: Rows, *, succeeds: float = _SUCCEEDS) -> Rows:
    """Return ``rows`` and what follows declines: the same payment seconds to minutes later, in up to two rounds."""
    parts, latest = [rows], rows
    for share in _TRIES_AGAIN:
        declined = np.flatnonzero(~latest.authorised)
        again = latest.take(declined[rng.random(len(declined)) < share])
        latest = replace(
            again,
            time=again.time + _pause(rng, len(again)).astype(np.int64),
            authorised=rng.random(len(again)) < succeeds,
        )
        parts.append(latest)
    return concatenate(parts)


def _pause(rng: np.random.Generator, size: int) -> FloatArray:
    return np.clip(lognormal(rng, 28_000, 1.1, size), 2_500, 900_000)
