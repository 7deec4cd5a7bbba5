"""The as-of join: for each question the newest row of its key that was there at its time."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from fraud.kernels import kernel
from stores.columns import IntArray

EVER: Final = np.iinfo(np.int64).max
"""A bound that nothing reaches."""


@dataclass(frozen=True)
class SortedRows:
    """Rows of one source, sorted by (key, time, created, place).

    Parameters
    ----------
    order
        Original place of each sorted row.
    starts
        Shape ``(keys + 1,)``; key ``k`` owns ``[starts[k], starts[k + 1])``.
    times, created
        Epoch microseconds of each sorted row.
    """

    order: IntArray
    starts: IntArray
    times: IntArray
    created: IntArray


@dataclass(frozen=True)
class Moments:
    """What each question may see: equally long columns, epoch microseconds.

    Parameters
    ----------
    key
        Number of its key, -1 for one that no row has.
    until
        The newest time it may see, inclusive; a strict join takes one microsecond off.
    oldest
        The oldest time that has not expired, inclusive.
    known
        The newest arrival it may see, inclusive.
    """

    key: IntArray
    until: IntArray
    oldest: IntArray
    known: IntArray


def sort_rows(key: IntArray, time: IntArray, created: IntArray, keys: int) -> SortedRows:
    """Return rows ready for :func:`newest_rows`; rows with key -1 belong to nobody.

    Of two rows of one key and time the later created one counts, and of two of one creation the later in the source.
    """
    order = np.lexsort((created, time, key)).astype(np.int64)
    starts = np.searchsorted(key[order], np.arange(keys + 1)).astype(np.int64)
    return SortedRows(order, starts, time[order], created[order])


def newest_rows(rows: SortedRows, asked: Moments) -> IntArray:
    """Return the place of the row each question sees, -1 for none, shape ``(questions,)``, in their order."""
    found = np.empty(len(asked.key), np.int64)
    bounds = np.stack((asked.until, asked.oldest, asked.known), axis=1)
    _find(rows.times, rows.created, rows.starts, asked.key, bounds, found)
    places = np.full(len(found), -1, np.int64)
    hit = found >= 0
    places[hit] = rows.order[found[hit]]
    return places


@kernel
def _find(
    times: IntArray, created: IntArray, starts: IntArray, key: IntArray, bounds: IntArray, found: IntArray
) -> None:
    for row in range(len(key)):
        found[row] = -1
        if key[row] < 0:
            continue
        start = starts[key[row]]
        low, high = start, starts[key[row] + 1]
        while low < high:
            middle = (low + high) // 2
            if times[middle] <= bounds[row, 0]:
                low = middle + 1
            else:
                high = middle
        place = low - 1
        while place >= start and times[place] >= bounds[row, 1]:
            if created[place] <= bounds[row, 2]:
                found[row] = place
                break
            place -= 1
