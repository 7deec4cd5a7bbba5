"""How much worse a challenger may be before the gate refuses it; ``docs/retraining.md`` has the reason of each number.

What they let through and what they refuse is measured by ``python -m bench gate_error_rates``.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class GateLimits:
    """How much worse a challenger may be within the noise.

    Parameters
    ----------
    least_frauds
        Mature frauds without which no verdict is possible.
    confidence
        Of each one-sided bound.
    recall
        Catch at which false positives, and the catch of each part, are compared.
    pr_auc_loss, pr_auc_margin
        Shares of the champion's PR-AUC that the challenger may seem to lose, and that its lower bound may. The first
        keeps a row of slightly worse weeks from adding up where a week tells them apart; the second sends away a week
        that tells nothing.
    more_false_positives, few_false_positives
        At equal catch the challenger may not surely raise more than this share more false positives; this share of the
        legitimate rows is added on both sides first: where there are next to none, one more is no reason.
    lost_recall
        The upper bound of the catch gained in a band of amounts or a segment may not lie below minus this.
    calibration_ratio
        (mean score / fraud share) must lie between one over this and this. By its point: even the least frauds know it
        to a quarter, and the bounds of a bursty week would refuse a champion against itself.
    psi
        Largest population stability index between the scores of both.
    bundle_bytes, trees
        Largest bundle, and most trees, that the scorer's latency and memory are planned for.
    row_us
        Most processor time of one row in the scorer's runtime, microseconds: a hundred times what is usual, so that no
        busy machine refuses a model.
    calibration_slope
        How steeply fraud follows the score, in log-odds, must lie between one over this and this.
    part_frauds
        Frauds below which a segment's catch is not compared.
    recall_loss, recall_margin
        Of the catch at each model's own review threshold, in shares of the frauds: what the challenger may seem to
        lose, and what its lower bound may.
    budget_excess
        Reviews and declines may not surely be more than this many times their budgets.
    type_recall, type_frauds, type_loss, type_chance
        Where both catch ``type_recall`` of all frauds, a type of at least ``type_frauds`` frauds may not lose more than
        ``type_loss`` of its own unless chance alone explains it with at least the probability ``type_chance``.
    arrived
        Share of the eventual labels that must have arrived when a payment is held out.
    """

    least_frauds: int = 60
    confidence: float = 0.99
    recall: float = 0.5
    pr_auc_loss: float = 0.04
    pr_auc_margin: float = 0.20
    more_false_positives: float = 0.15
    few_false_positives: float = 0.0005
    lost_recall: float = 0.10
    calibration_ratio: float = 2.0
    psi: float = 1.0
    bundle_bytes: int = 32 * 2**20
    trees: int = 1000
    row_us: float = 500.0
    calibration_slope: float = 2.5
    part_frauds: int = 30
    recall_loss: float = 0.05
    recall_margin: float = 0.20
    budget_excess: float = 2.0
    type_recall: float = 0.7
    type_frauds: int = 10
    type_loss: float = 0.15
    type_chance: float = 0.02
    arrived: float = 0.5


LIMITS: Final = GateLimits()
