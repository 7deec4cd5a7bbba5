"""What retraining bought over the weeks of a replay: paired differences with intervals over resampled days."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from retraining.backtest import Lived, Playback
from training.intervals import Interval, day_block_intervals, relative_cut
from training.ranking import DAY_MS, FloatArray, rank

RESAMPLES: Final = 400
RECALL: Final = 0.5
"""Catch at which false positives are compared."""


@dataclass(frozen=True)
class Gain:
    """With retraining against the first champion kept for ever, on the same rows; 95 % intervals.

    Parameters
    ----------
    rows, frauds, days
        That could be judged.
    pr_auc, kept_pr_auc, pr_auc_gain
        Area over all weeks, and the difference.
    recall_gain, value_gain, alert_change
        At each model's own review threshold: differences in the share of the frauds, of their amount, and of all
        payments that are alerted.
    false_positive_cut
        Share of the false positives saved where both catch :data:`RECALL` of the frauds.
    """

    rows: int
    frauds: int
    days: int
    pr_auc: Interval
    kept_pr_auc: Interval
    pr_auc_gain: Interval
    recall_gain: Interval
    value_gain: Interval
    alert_change: Interval
    false_positive_cut: Interval


def gain_of(lived: Lived, *, seed: int = 0) -> Gain | None:
    """Return what retraining bought; null when the judged rows are of one class or no fraud has an amount.

    Parameters
    ----------
    seed
        Of the resampled days.
    """
    fraud, amount = lived.is_fraud, lived.amount_minor
    frauds = int(fraud.sum())
    if not 0 < frauds < len(fraud) or int(amount[fraud].sum()) <= 0:
        return None
    day = lived.event_time_ms // DAY_MS
    days, place = np.unique(day, return_inverse=True)
    ours, kept = rank(lived.retrained, fraud, day=day), rank(lived.kept, fraud, day=day)
    change = lived.retrained_alert.astype(np.float64) - lived.kept_alert

    def by_day(values: npt.NDArray[Any]) -> FloatArray:
        return np.bincount(place, values, minlength=len(days)).astype(np.float64)

    caught, value, alerts = by_day(change * fraud), by_day(change * fraud * amount), by_day(change)
    all_frauds, all_value, all_rows = by_day(fraud * 1.0), by_day(fraud * amount * 1.0), by_day(np.ones(len(fraud)))

    def figures(weights: FloatArray) -> FloatArray:
        with_us, without = ours.curve(weights), kept.curve(weights)
        area, kept_area = with_us.average_precision(), without.average_precision()
        return np.stack(
            [
                area,
                kept_area,
                area - kept_area,
                (caught @ weights) / np.maximum(all_frauds @ weights, 1.0),
                (value @ weights) / np.maximum(all_value @ weights, 1.0),
                (alerts @ weights) / (all_rows @ weights),
                relative_cut(without.false_positives_at_recall(RECALL), with_us.false_positives_at_recall(RECALL)),
            ]
        )

    found = day_block_intervals(figures, len(days), resamples=RESAMPLES, seed=seed)
    return Gain(len(fraud), frauds, len(days), *found)


def backtest_figures(playback: Playback, gain: Gain | None, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return a replay as plain data."""
    outcomes = [week.outcome for week in playback.weeks]
    return {
        **about,
        "promoted": outcomes.count("promoted"),
        "refused": outcomes.count("refused"),
        "failed": outcomes.count("failed"),
        "gain": None if gain is None else asdict(gain),
        "weeks": [asdict(week) for week in playback.weeks],
    }
