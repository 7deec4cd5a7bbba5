"""Confidence intervals by resampling whole days.

Frauds of one day share their causes (a compromised merchant, a campaign), so rows are not independent and resampling
rows would promise too much; days are drawn with replacement instead. A resample is a vector of day weights, so a metric
that is a sum over days costs a matrix product and nothing is sorted again. Same seed, same interval.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.errors import InvalidMetricInput
from training.ranking import FloatArray, Ranking, require_share

Measure = Literal["count", "value"]
"""Whether false positives are counted, or their amounts added up."""

_BATCH = 50
"""Resamples evaluated at once, which bounds the memory of a batch."""

_MIN_DEFINED = 0.5
"""Least share of the resamples on which a metric must be defined for its interval to be given."""


@dataclass(frozen=True)
class Interval:
    """A point estimate with the bounds that its day resamples leave.

    Parameters
    ----------
    point
        Value on the days as they were.
    low, high
        Percentile bounds; null where they cannot be had: a single day, or a metric undefined on most resamples.
    """

    point: float
    low: float | None
    high: float | None


def day_block_weights(days: int, *, resamples: int, seed: int) -> FloatArray:
    """Return how often each day is drawn in each resample, shape ``(days, resamples)``; each column sums to ``days``.

    Raises
    ------
    InvalidMetricInput
        ``days`` or ``resamples`` is below 1.

    Examples
    --------
    >>> day_block_weights(3, resamples=4, seed=1).sum(axis=0)
    array([3., 3., 3., 3.])
    """
    if days < 1 or resamples < 1:
        raise InvalidMetricInput(f"{days} days and {resamples} resamples: both must be at least 1")
    draws = np.random.default_rng(seed).multinomial(days, np.full(days, 1.0 / days), size=resamples)
    return draws.T.astype(np.float64)


def day_block_intervals(
    metrics: Callable[[FloatArray], FloatArray],
    days: int,
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> tuple[Interval, ...]:
    """Return an interval for each of several metrics, all on the same resamples.

    Parameters
    ----------
    metrics
        From day weights, shape ``(days, n)``, to values, shape ``(metrics, n)``; NaN where one is undefined. For a
        metric that is no sum over days, weigh row ``i`` with ``weights[day_of_row[i]]``.
    days
        Number of days.
    resamples
        How many times the days are drawn; 200 settle a bound to about a tenth of the interval.
    seed
        Of the draws.
    level
        Coverage aimed at, in (0, 1).

    Raises
    ------
    InvalidMetricInput
        ``days``, ``resamples`` or ``level`` is out of range.

    Examples
    --------
    The mean of a value that is the same every day has no width.

    >>> always = np.array([2.0, 2.0, 2.0])
    >>> day_block_intervals(lambda weights: (always @ weights / weights.sum(axis=0))[None], 3, resamples=9, seed=1)
    (Interval(point=2.0, low=2.0, high=2.0),)
    """
    if not 0.0 < level < 1.0:
        raise InvalidMetricInput(f"level {level} is not in (0, 1)")
    weights = day_block_weights(days, resamples=resamples, seed=seed)
    points = metrics(np.ones((days, 1)))[:, 0]
    drawn = np.concatenate([metrics(weights[:, at : at + _BATCH]) for at in range(0, resamples, _BATCH)], axis=1)
    return tuple(
        percentile_interval(float(point), values, days=days, level=level)
        for point, values in zip(points, drawn, strict=True)
    )


def false_positive_cut(
    baseline: Ranking, ours: Ranking, *, recall: float, resamples: int, seed: int, level: float = 0.95
) -> Interval:
    """Return by which share our false positives are fewer than the baseline's where both catch ``recall``.

    Paired: both rankings see the same resampled days, and each finds its own threshold on them. A baseline without any
    false positive counts as having one, so the cut stays finite; without any on either side it is 0.

    Parameters
    ----------
    baseline, ours
        Two rankings of the same rows by the same days.
    recall
        Share of the frauds to catch, in (0, 1].
    resamples, seed, level
        As for :func:`day_block_intervals`.

    Raises
    ------
    InvalidMetricInput
        The rankings are of different rows, or a parameter is out of range.
    """
    return pooled_cut(((baseline, ours),), recall=recall, resamples=resamples, seed=seed, level=level)


def pooled_cut(  # what is compared, where, and how it is resampled
    pairs: Sequence[tuple[Ranking, Ranking]],
    *,
    recall: float,
    resamples: int,
    seed: int,
    level: float = 0.95,
    measure: Measure = "count",
) -> Interval:
    """Return the cut of the mean over several pairs of rankings, such as one pair for each seed of the fits.

    The false positives of a side are averaged over its fits, on the days as they were and on each resample, before the
    two sides are compared: the luck of one seed is averaged away and not drawn into the interval.

    Parameters
    ----------
    pairs
        Baseline and ours, all of the same rows by the same days; at least one pair.
    recall, resamples, seed, level
        As for :func:`false_positive_cut`.
    measure
        ``count`` compares rows, ``value`` their amounts.

    Raises
    ------
    InvalidMetricInput
        There is no pair, the rankings are of different rows, or a parameter is out of range.
    """
    require_share("recall", recall)
    if not pairs:
        raise InvalidMetricInput("no pair of rankings to compare")
    first = pairs[0][1]
    for ranking in (one for pair in pairs for one in pair):
        _require_same_rows(first, ranking)

    def mean(sides: Sequence[Ranking], day_weights: FloatArray) -> FloatArray:
        curves = [side.curve(day_weights) for side in sides]
        at = [
            c.false_positives_at_recall(recall) if measure == "count" else c.false_value_at_recall(recall)
            for c in curves
        ]
        return np.asarray(np.mean(at, axis=0), np.float64)

    def cut(day_weights: FloatArray) -> FloatArray:
        before, after = (mean(side, day_weights) for side in zip(*pairs, strict=True))
        return relative_cut(before, after)[None]

    return day_block_intervals(cut, len(first.days), resamples=resamples, seed=seed, level=level)[0]


def _require_same_rows(one: Ranking, other: Ranking) -> None:
    same_days = np.array_equal(one.days, other.days)
    if not same_days or not np.array_equal(one.legitimate, other.legitimate):
        raise InvalidMetricInput("baseline and ours do not rank the same rows: their legitimate rows by day differ")
    if not np.array_equal(one.caught[-1], other.caught[-1]):
        raise InvalidMetricInput("baseline and ours do not rank the same rows: their frauds by day differ")


def relative_cut(before: FloatArray, after: FloatArray) -> FloatArray:
    """Return ``1 - after / before``, with the rules of :func:`false_positive_cut` where ``before`` is 0.

    Examples
    --------
    >>> relative_cut(np.array([10.0, 0.0, 0.0]), np.array([4.0, 0.0, 3.0]))
    array([ 0.6, 0. , -2. ])
    """
    return np.where((before == 0) & (after == 0), 0.0, 1.0 - after / np.maximum(before, 1.0))


def percentile_interval(point: float, values: FloatArray, *, days: int, level: float = 0.95) -> Interval:
    """Return the interval of a metric from its values on the resamples; undefined ones are NaN.

    Examples
    --------
    >>> percentile_interval(2.0, np.array([1.0, 2.0, 3.0, np.nan]), days=5, level=0.5)
    Interval(point=2.0, low=1.5, high=2.5)
    """
    defined = values[np.isfinite(values)]
    if days == 1 or len(defined) < _MIN_DEFINED * len(values):
        return Interval(point, None, None)
    low, high = np.quantile(defined, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(point, float(low), float(high))
