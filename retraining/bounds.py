"""One-sided confidence bounds over a handful of resampled days.

Percentiles of a day-block bootstrap are too narrow when there are few days: the resamples of seven days vary by 6/7 of
the variance, and seven draws know their own variance badly. So the resamples give a standard error, corrected for both:
``point ± t * se * sqrt(n / (n - 1))`` with Student's t of ``n - 1`` degrees of freedom.

References
----------
Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 3.1 (small-sample narrowness bias).
Abramowitz and Stegun, *Handbook of Mathematical Functions*, 26.7.5 (Student's quantile from the normal one).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from training.intervals import day_block_weights

FloatArray = npt.NDArray[np.float64]

LEAST_DAYS: Final = 3
"""Fewer days have no standard error worth the name."""
RESAMPLES: Final = 400


@dataclass(frozen=True)
class Bound:
    """A point with the bounds below and above it, each held with the confidence asked for."""

    point: float
    low: float
    high: float


def day_bounds(
    metrics: Callable[[FloatArray], FloatArray], days: int, *, confidence: float, seed: int
) -> tuple[Bound, ...] | None:
    """Return a bound for each of several metrics, all on the same resamples of days.

    Parameters
    ----------
    metrics
        From day weights, shape ``(days, n)``, to values, shape ``(metrics, n)``; NaN where one is undefined.
    days
        Number of days; with fewer than :data:`LEAST_DAYS` there is no bound and null is returned.
    confidence
        Of each one-sided bound, such as 0.99.
    seed
        Of the resamples.

    Examples
    --------
    What is the same every day is certain.

    >>> always = np.array([2.0, 2.0, 2.0])
    >>> day_bounds(lambda weights: (always @ weights / weights.sum(axis=0))[None], 3, confidence=0.99, seed=1)
    (Bound(point=2.0, low=2.0, high=2.0),)
    """
    if days < LEAST_DAYS:
        return None
    points = metrics(np.ones((days, 1)))[:, 0]
    drawn = metrics(day_block_weights(days, resamples=RESAMPLES, seed=seed))
    reach = student_quantile(confidence, days - 1) * math.sqrt(days / (days - 1))
    spread = reach * np.nanstd(drawn, axis=1)
    return tuple(
        Bound(float(point), float(point - width), float(point + width))
        for point, width in zip(points, spread, strict=True)
    )


def student_quantile(confidence: float, degrees: int) -> float:
    """Return the quantile of Student's t, good to a percent from three degrees of freedom on.

    Examples
    --------
    The tables say 3.143 and 2.326.

    >>> round(student_quantile(0.99, 6), 2), round(student_quantile(0.99, 10**6), 3)
    (3.14, 2.326)
    """
    z = NormalDist().inv_cdf(confidence)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, start=1))
