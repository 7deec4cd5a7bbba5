"""What each model does at its own thresholds: the catch that customers live with, and the budgets it was promised for.

A ranking as good as the champion's is worth nothing behind a threshold that nothing reaches. Segments and rules around
the thresholds are the policy's own affair and are not looked at.
"""

import numpy as np
import numpy.typing as npt

from retraining.bounds import Bound, day_bounds
from retraining.held_out import HeldOut, Thresholds
from retraining.limits import GateLimits
from retraining.verdict import Check
from training.ranking import DAY_MS

FloatArray = npt.NDArray[np.float64]


def catches_at_its_thresholds(rows: HeldOut, at: Thresholds, limits: GateLimits, seed: int) -> Check:
    """Return the check that the challenger alerts as many frauds as the champion, and does not surely decline fewer.

    For the reviews it is non-inferiority: the point may lie ``recall_loss`` below, the lower bound ``recall_margin``.
    The champion is held to the budget too: what it catches by alerting more rows than that, and than the challenger,
    is bought and not caught. How many are declined hangs on a threshold that one legitimate payment in a thousand sets,
    so a week knows it badly: refused is what surely declines ``recall_margin`` fewer.
    """
    fraud = rows.is_fraud
    review_at = _affordable(rows, at)
    alerted = [rows.champion[fraud] >= review_at, rows.challenger[fraud] >= at.challenger[0]]
    declined = [rows.champion[fraud] >= at.champion[1], rows.challenger[fraud] >= at.challenger[1]]
    changes = [side[1].astype(np.float64) - side[0] for side in (alerted, declined)]
    caught, stopped = _shares(rows, changes, np.flatnonzero(fraud), limits, seed)
    passed = (
        caught.point >= -limits.recall_loss
        and caught.low >= -limits.recall_margin
        and stopped.high >= -limits.recall_margin
    )
    weight = rows.weight[fraud]
    was, now = (float(np.average(flags, weights=weight)) for flags in alerted)
    held, holds = (float(np.average(flags, weights=weight)) for flags in declined)
    return Check(
        "catches_at_its_thresholds",
        passed,
        f"alerts {now:.1%} of the frauds, the champion {was:.1%} within the budget: {caught.point:+.1%}, "
        f"{-limits.recall_loss:+.0%} allowed, surely {caught.low:+.1%}, {-limits.recall_margin:+.0%} allowed; declines "
        f"{holds:.1%} of them against {held:.1%}, at the best {stopped.high:+.1%}",
    )


def keeps_its_budgets(rows: HeldOut, at: Thresholds, limits: GateLimits, seed: int) -> Check:
    """Return the check that the challenger's reviews and declines stay within what its thresholds were chosen for."""
    scores, (review_at, decline_at) = rows.challenger, at.challenger
    everything, legitimate = np.arange(len(scores)), np.flatnonzero(~rows.is_fraud)
    (alerted,) = _shares(rows, [(scores >= review_at).astype(np.float64)], everything, limits, seed)
    (insulted,) = _shares(rows, [(scores[legitimate] >= decline_at).astype(np.float64)], legitimate, limits, seed)
    passed = all(
        share.low <= limits.budget_excess * budget
        for share, budget in ((alerted, at.review_share), (insulted, at.insult_share))
    )
    return Check(
        "keeps_its_budgets",
        passed,
        f"{alerted.point:.2%} of the rows are alerted, surely {max(alerted.low, 0.0):.2%}, the budget is "
        f"{at.review_share:.2%}; {insulted.point:.3%} of the legitimate ones are declined, surely "
        f"{max(insulted.low, 0.0):.3%}, the budget is {at.insult_share:.3%}; {limits.budget_excess:g} times is "
        "allowed",
    )


def _affordable(rows: HeldOut, at: Thresholds) -> float:
    """Return where the champion reviews: at its own threshold, or as high as keeps it to the budget or the other side.

    The budget is a share of the rows; where the challenger alerts more than that, the champion may as well.
    """
    spent = float(np.average(rows.challenger >= at.challenger[0], weights=rows.weight))
    falling = np.argsort(-rows.champion, kind="stable")
    reached = np.cumsum(rows.weight[falling]) / rows.weight.sum()
    allowed = int(np.searchsorted(reached, max(spent, at.review_share), side="right"))
    first_out = float(rows.champion[falling[min(allowed, len(falling) - 1)]])
    return max(at.champion[0], float(np.nextafter(first_out, np.inf)) if allowed < len(falling) else 0.0)


def _shares(
    rows: HeldOut, values: list[FloatArray], taken: npt.NDArray[np.int64], limits: GateLimits, seed: int
) -> tuple[Bound, ...]:
    """Return the weighted mean of each of some columns over some rows, with bounds over resampled days."""
    days, day = np.unique(rows.event_time_ms // DAY_MS, return_inverse=True)
    weight, size = rows.weight[taken], len(days)
    sums = np.stack([np.bincount(day[taken], weight * column, minlength=size) for column in values])
    counts = np.bincount(day[taken], weight, minlength=size)
    found = day_bounds(
        lambda drawn: (sums @ drawn) / np.maximum(counts @ drawn, 1e-9), size, confidence=limits.confidence, seed=seed
    )
    assert found is not None  # noqa: S101  # judge() looked at the number of days
    return found
