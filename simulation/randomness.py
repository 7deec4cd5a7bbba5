"""Named random streams of one seed, and draws shared by the whole room.

Each part of the world draws from its own stream, so adding a draw to one part does not reshuffle the others.
"""

from zlib import crc32

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of the part ``name`` of the world ``seed``."""
    return np.random.default_rng([seed, crc32(name.encode())])


def lognormal(rng: np.random.Generator, median: float, sigma: float, size: int) -> FloatArray:
    """Draw ``size`` lognormal values given by their median and the standard deviation of their logarithm."""
    return np.exp(rng.normal(np.log(median), sigma, size))


def weighted(rng: np.random.Generator, weights: FloatArray, size: int) -> IntArray:
    """Draw ``size`` positions with probability proportional to ``weights``, with replacement."""
    cumulative = np.cumsum(weights)
    position = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
    chosen: IntArray = np.minimum(position, len(weights) - 1).astype(np.int64)
    return chosen


class Picker:
    """Draws a member of a given group with probability proportional to the member's weight.

    Parameters
    ----------
    members
        Values to return, shape ``(n,)``.
    groups
        Group of each member, in ``0..group_count-1``, shape ``(n,)``. Every group asked for must have a member.
    weights
        Positive weight of each member, shape ``(n,)``.
    """

    def __init__(self, members: IntArray, groups: IntArray, weights: FloatArray, *, group_count: int) -> None:
        order = np.argsort(groups, kind="stable")
        self._members = members[order]
        self._edges = np.searchsorted(groups[order], np.arange(group_count + 1))
        self._cumulative = np.concatenate([[0.0], np.cumsum(weights[order])])

    def pick(self, rng: np.random.Generator, group: IntArray) -> IntArray:
        """Return one member of each element of ``group``, shape ``(len(group),)``."""
        first, last = self._edges[group], self._edges[group + 1]
        low, high = self._cumulative[first], self._cumulative[last]
        position = np.searchsorted(self._cumulative, low + rng.random(len(group)) * (high - low), side="right") - 1
        chosen: IntArray = self._members[np.clip(position, first, last - 1)]
        return chosen


class Tokens:
    """Hands out numbers of new devices or addresses; a number's order is hidden when it becomes an id."""

    def __init__(self) -> None:
        self.count = 0

    def new(self, size: int) -> IntArray:
        """Return ``size`` numbers never handed out before."""
        first = self.count
        self.count += size
        return np.arange(first, self.count, dtype=np.int64)


def expand(
    rng: np.random.Generator, start: IntArray, count: IntArray, *, gap_ms: float, sigma: float
) -> tuple[IntArray, IntArray, IntArray]:
    """Unfold visits into rows.

    Parameters
    ----------
    start, count
        First moment (ms) and number of rows (at least one) of each visit, shape ``(n,)``.
    gap_ms, sigma
        Median and spread of the lognormal pause between rows of one visit.

    Returns
    -------
    tuple
        Visit, position within the visit and time of each row, each of shape ``(count.sum(),)``, visits in order.
    """
    visit = np.repeat(np.arange(len(count), dtype=np.int64), count)
    first = np.cumsum(count) - count
    ordinal = np.arange(len(visit), dtype=np.int64) - first[visit]
    elapsed = np.cumsum(lognormal(rng, gap_ms, sigma, len(visit)))
    time = start[visit] + (elapsed - elapsed[first[visit]]).astype(np.int64)
    return visit, ordinal, time
