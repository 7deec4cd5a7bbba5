"""Tallies of latencies in buckets 1 % wide, and the percentiles read off them."""

from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.kernels import kernel
from simulation.randomness import FloatArray, IntArray

BUCKETS: Final = 2_048
FINEST_S: Final = 1e-5
RATIO: Final = 1.01
"""A latency falls into a bucket 1 % wide, from 10 microseconds to some two hours."""


@kernel
def _tally(latency: FloatArray, buckets: IntArray) -> None:
    scale = 1.0 / np.log(RATIO)
    for value in latency:
        bucket = int(np.log(max(value, FINEST_S) / FINEST_S) * scale)
        buckets[min(bucket, len(buckets) - 1)] += 1


def tally(latency: FloatArray) -> IntArray:
    """Return how many of ``latency`` (s) fall into each bucket, shape ``(BUCKETS,)``."""
    buckets = np.zeros(BUCKETS, np.int64)
    _tally(latency, buckets)
    return buckets


def percentile(buckets: npt.ArrayLike, share: float) -> float:
    """Return the upper edge (s) of the bucket in which ``share`` of the tally is reached; NaN when it is empty.

    Examples
    --------
    >>> round(percentile(tally(np.array([0.01, 0.02, 0.5])), 0.5), 2)
    0.02
    """
    cumulative = np.cumsum(buckets)
    if cumulative[-1] == 0:
        return float("nan")
    bucket = int(np.searchsorted(cumulative, share * cumulative[-1]))
    return float(FINEST_S * RATIO ** (bucket + 1))


def share_above(buckets: npt.ArrayLike, deadline_s: float) -> float:
    """Return the share of a tally whose bucket lies above ``deadline_s``; 0 when it is empty."""
    counts = np.asarray(buckets)
    total = int(counts.sum())
    first = int(np.ceil(np.log(deadline_s / FINEST_S) / np.log(RATIO)))
    return float(counts[max(first, 0) :].sum() / total) if total else 0.0
