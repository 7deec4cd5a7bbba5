"""All fraud of a world: how much of each type, and what is staged in the peak hour."""

from typing import Final

import numpy as np

from simulation.card_testing import Campaign, card_testing, run
from simulation.compromise import merchant_compromise, mule_merchant
from simulation.criminals import victims
from simulation.randomness import MINUTE_MS, stream
from simulation.rows import Rows, concatenate
from simulation.scene import Scene
from simulation.theft import account_takeover, limit_aware, stolen_number, take_over

# Share of fraud rows; cash-outs follow from card testing and are counted with it.
_TESTING_SHARE: Final = 0.26
_COMPROMISE_SHARE: Final = 0.16
_STOLEN_SHARE: Final = 0.22
_TAKEOVER_SHARE: Final = 0.12
_MULE_SHARE: Final = 0.04
_LIMIT_SHARE: Final = 0.09
_STAGED_TAKEOVERS: Final = 3


def fraud_budget(scene: Scene) -> int:
    """Return the fraudulent rows aimed at."""
    return round(scene.config.rows * scene.config.fraud_share)


def fraud_rows(scene: Scene, honest: Rows) -> Rows:
    """Return all fraudulent rows; ``honest`` tells which cards a compromised merchant saw."""
    budget = fraud_budget(scene)
    parts = _staged(scene)
    if budget:
        parts += [
            card_testing(scene, rows=round(budget * _TESTING_SHARE)),
            merchant_compromise(scene, honest, rows=round(budget * _COMPROMISE_SHARE)),
            stolen_number(scene, rows=round(budget * _STOLEN_SHARE)),
            account_takeover(scene, rows=round(budget * _TAKEOVER_SHARE)),
            mule_merchant(scene, rows=round(budget * _MULE_SHARE)),
            limit_aware(scene, rows=round(budget * _LIMIT_SHARE)),
        ]
    return concatenate([honest.take(np.zeros(0, np.int64)), *parts])


def _staged(scene: Scene) -> list[Rows]:
    """Return the attack, its cash-outs and the takeovers of the peak hour; nothing when there is no peak hour."""
    start = scene.config.peak_start_ms
    if start is None:
        return []
    rng = stream(scene.config.seed, "staged")
    campaign = Campaign(
        start_ms=start + 8 * MINUTE_MS,
        length_ms=12 * MINUTE_MS,
        cards=scene.config.staged_cards,
        devices=2,
        declined=0.65,
        wait_ms=20.0 * MINUTE_MS,
    )
    moment = start + rng.integers(15 * MINUTE_MS, 35 * MINUTE_MS, _STAGED_TAKEOVERS)
    card = victims(scene, rng, moment)
    return [run(scene, rng, campaign), take_over(scene, rng, card, moment, gap_ms=4.0 * MINUTE_MS)]
