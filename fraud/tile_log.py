"""The offline twin of :mod:`fraud.tiles`: the same table and flags from the sorted log of an entity, statelessly."""

import numpy as np
import numpy.typing as npt

from fraud.kernels import kernel
from fraud.ring import FloatArray
from fraud.tiles import (
    DELAY_DAYS,
    LENGTHS,
    MONTH,
    RISKS,
    TILES,
    TOTALS,
    IntArray,
    close_reports,
    close_window,
    is_large,
)
from fraud.windows import DAY


@kernel
def read_prefixes(
    times: IntArray, prefixes: npt.NDArray[np.int64], start: int, stop: int, as_of: int, table: FloatArray
) -> None:
    """Fill ``table`` from the sorted log of one entity: the offline twin of :func:`fraud.tiles.read_tiles`.

    ``prefixes``, shape ``(rows + 1, 6)``, are running totals (count, sum, declined, small, report, large) before each
    row.
    """
    high = start + int(np.searchsorted(times[start:stop], as_of))
    low = high
    whole = np.empty(TOTALS, np.int64)
    for window in range(len(TILES)):
        floor = ((as_of - LENGTHS[window]) // TILES[window]) * TILES[window]
        low = start + int(np.searchsorted(times[start:high], floor))
        for column in range(TOTALS):
            whole[column] = prefixes[high, column] - prefixes[low, column]
        close_window(table, window, whole)
    reported = np.zeros(len(RISKS), np.int64)
    matured = np.zeros(len(RISKS), np.int64)
    first = -1
    last = -1
    if whole[4] > 0:
        for index in range(len(RISKS)):
            reported[index] = _within(times, prefixes, start, high, as_of // DAY, int(RISKS[index]), 4)
            matured[index] = _within(times, prefixes, start, high, as_of // DAY - DELAY_DAYS, int(RISKS[index]), 0)
        first = int(times[_place_of(prefixes, low, high, int(prefixes[low, 4]) + 1)]) // DAY
        last = int(times[_place_of(prefixes, low, high, int(prefixes[high, 4]))]) // DAY
    close_reports(table, as_of, reported, matured, first, last)


@kernel
def _within(times: IntArray, prefixes: IntArray, start: int, high: int, until: int, days: int, column: int) -> int:
    """Return the total of a column over so many whole days before the day ``until``."""
    after = start + np.searchsorted(times[start:high], until * DAY)
    before = start + np.searchsorted(times[start:high], (until - days) * DAY)
    return int(prefixes[after, column] - prefixes[before, column])


@kernel
def _place_of(prefixes: IntArray, low: int, high: int, reports: int) -> int:
    """Return the row in ``low:high`` with which the running total of reports comes to ``reports``."""
    while low < high:
        middle = (low + high) // 2
        if prefixes[middle + 1, 4] >= reports:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def mark_large(
    times: IntArray, amounts: IntArray, paid: npt.NDArray[np.bool_], starts: IntArray, out: IntArray
) -> None:
    """Fill ``out`` with 1 where a row of the sorted log is unusually large at its merchant: the twin of folding.

    ``starts`` bounds each key's rows; ``paid`` is false for fraud reports.
    """
    for key in range(len(starts) - 1):
        low = starts[key]
        count = 0
        total = 0
        group = starts[key]
        for row in range(starts[key], starts[key + 1]):
            if times[row] != times[group]:
                for earlier in range(group, row):
                    if paid[earlier]:
                        count += 1
                        total += amounts[earlier]
                group = row
            floor = ((times[row] - LENGTHS[MONTH]) // TILES[MONTH]) * TILES[MONTH]
            while low < group and times[low] < floor:
                if paid[low]:
                    count -= 1
                    total -= amounts[low]
                low += 1
            out[row] = paid[row] and is_large(amounts[row], count, total)
