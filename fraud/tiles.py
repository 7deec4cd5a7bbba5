"""Tiles: a busy entity's transactions, summed per bucket, behind a small ring of pending ones.

A state holds the pending (:data:`PENDING`, 32 bytes) in order of time, id and kind and, oldest first, the tiles
(:data:`TILE`, 32 bytes) of each window's resolution; :mod:`fraud.states` has the bytes. At most some 140 tiles are
live, so a state is bounded by 46 kB; a merchant of four transactions a day needs about 2 kB.

A transaction waits among the pending until it is ``LATENESS_MS`` older than the newest or the pending are more than
``PENDING_KEEP``; then it is folded and forgotten. Below the watermark nothing is taken any more: that is what makes a
redelivery harmless after the ids have left, and what bounds how late a transaction may come.
"""

import numpy as np
import numpy.typing as npt

from fraud.kernels import kernel
from fraud.ring import DECLINED, REPEATED, REPORT, TOO_LATE, TOOK, Entries, FloatArray, comes_before
from fraud.windows import (
    DAY,
    LARGE_AFTER,
    LARGE_TIMES,
    REPORT_DELAY_MS,
    RISK_DAYS,
    SMALL_AMOUNT_MINOR,
    TILE_SCALARS,
    TILE_STATISTICS,
    WINDOWS,
)

LATENESS_MS = 60_000
"""A transaction this much older than its entity's newest is still taken, if the pending have room for it."""

FUTURE_TOLERANCE_MS = 5_000
"""How far a sender's clock may run ahead. It must stay well below ``LATENESS_MS``: what is taken ahead of its time
moves the watermark with it, so that one fast clock shortens the lateness of all others by as much."""

PENDING_KEEP = 1_280
"""At a merchant of 1,000 transactions a minute the stated lateness holds; at more, the oldest of the pending are folded
before their time, and the lateness is the time in which the last so many came."""

PENDING = np.dtype([("time", "<i8"), ("id", "<u8"), ("amount", "<i8"), ("flags", "<u4"), ("unused", "<u4")])
TILE = np.dtype(
    [
        ("bucket", "<u4"),
        ("count", "<u4"),
        ("sum", "<i8"),
        ("declined", "<u4"),
        ("small", "<u4"),
        ("report", "<u4"),
        ("large", "<u4"),
    ]
)
TILE_TABLE = len(WINDOWS) * len(TILE_STATISTICS) + len(TILE_SCALARS)
"""Length of the flat table that one read fills."""

LENGTHS = np.array([window.length_ms for window in WINDOWS], np.int64)
TILES = np.array([window.tile_ms for window in WINDOWS], np.int64)
MONTH = len(WINDOWS) - 1
"""The window whose mean says what is usual at a merchant, and whose tiles, whole days, hold its risks."""

KEEPS = LENGTHS + np.where(np.arange(len(WINDOWS)) == MONTH, REPORT_DELAY_MS, 0)
"""How long each resolution keeps its tiles: days as long as a risk reaches back."""

ROOM = int(max((KEEPS + LATENESS_MS) // TILES)) + 3
"""Tiles a resolution may hold while it is being updated."""

_COLUMNS = len(TILE_STATISTICS)
TOTALS = 6
"""Running totals of a window: count, sum, declined, small, report, large."""

DELAY_DAYS = REPORT_DELAY_MS // DAY
RISKS = np.array(RISK_DAYS, np.int64)
_SCALARS = len(WINDOWS) * _COLUMNS

Tiles = npt.NDArray[np.void]
IntArray = npt.NDArray[np.int64]


@kernel
def is_large(amount: int, count: int, total: int) -> bool:
    """Return whether an amount is unusually large where ``count`` transactions in 30 days came to ``total``."""
    return bool(count >= LARGE_AFTER and np.float64(amount) * count > LARGE_TIMES * np.float64(total))


@kernel
def _month(row: Tiles, length: int, time: int) -> tuple[int, int]:
    """Return count and sum of the folded transactions in the 30 days before ``time``; none folded is later."""
    oldest = (time - LENGTHS[MONTH]) // TILES[MONTH]
    count = 0
    total = 0
    for index in range(length):
        if row[index]["bucket"] >= oldest:
            count += row[index]["count"]
            total += row[index]["sum"]
    return count, total


@kernel
def oldest_kept(newest: int, window: int) -> int:
    """Return the oldest bucket that a read within the lateness of the ``newest`` one can reach."""
    reach: int = (newest * TILES[window] - KEEPS[window] - LATENESS_MS) // TILES[window]
    return reach


@kernel
def _fold(pending: Entries, large: bool, tiles: Tiles, counts: IntArray) -> None:
    """Add the one transaction in ``pending`` to the tile of each resolution; drop tiles no window can reach."""
    item = pending[0]
    for window in range(len(TILES)):
        bucket = np.uint32(item["time"] // TILES[window])
        row = tiles[window]
        length = counts[window]
        place = length
        while place > 0 and row[place - 1]["bucket"] > bucket:
            place -= 1
        if place == 0 or row[place - 1]["bucket"] != bucket:
            for index in range(length, place, -1):
                row[index] = row[index - 1]
            row[place]["bucket"] = bucket
            row[place]["count"] = 0
            row[place]["sum"] = 0
            row[place]["declined"] = 0
            row[place]["small"] = 0
            row[place]["report"] = 0
            row[place]["large"] = 0
            length += 1
            place += 1
        tile = row[place - 1]
        if item["flags"] & REPORT:
            tile["report"] += np.uint32(1)
        else:
            tile["count"] += np.uint32(1)
            tile["sum"] += item["amount"]
            tile["declined"] += np.uint32(item["flags"] & DECLINED)
            tile["small"] += np.uint32(item["amount"] <= SMALL_AMOUNT_MINOR)
            tile["large"] += np.uint32(large)
        oldest = oldest_kept(row[length - 1]["bucket"], window)
        first = 0
        while first < length and row[first]["bucket"] < oldest:
            first += 1
        if first > 0:
            for index in range(first, length):
                row[index - first] = row[index]
            length -= first
        counts[window] = length


@kernel
def apply_pending(
    pending: Entries, length: int, watermark: int, item: Entries, tiles: Tiles, counts: IntArray
) -> tuple[int, int, int]:
    """Take the one transaction in ``item``; return (pending length, watermark, what became of it).

    What became of it is ``TOOK``, ``REPEATED`` or, below the watermark, ``TOO_LATE``: there nothing tells a repeat from
    what never came. ``pending`` has room for ``PENDING_KEEP + 1``; ``tiles`` has shape ``(windows, ROOM)``.
    """
    new = item[0]
    if new["time"] < watermark:
        return length, watermark, TOO_LATE
    place = length
    while place > 0 and comes_before(item, pending[place - 1 : place]):
        place -= 1
    if place > 0 and not comes_before(pending[place - 1 : place], item):
        flags = pending[place - 1]["flags"] | new["flags"]
        fate = REPEATED if flags == pending[place - 1]["flags"] else TOOK
        pending[place - 1]["flags"] = flags
        return length, watermark, fate
    for index in range(length, place, -1):
        pending[index] = pending[index - 1]
    pending[place] = new
    length += 1
    limit = pending[length - 1]["time"] - LATENESS_MS
    folded, watermark = fold_before(pending, length, limit, watermark, tiles, counts)
    for index in range(folded, length):
        pending[index - folded] = pending[index]
    return length - folded, watermark, TOOK


@kernel
def fold_before(
    pending: Entries, length: int, limit: int, watermark: int, tiles: Tiles, counts: IntArray
) -> tuple[int, int]:
    """Fold the oldest of the pending, those before ``limit`` or too many; return (how many, watermark)."""
    folded = 0
    count = 0
    total = 0
    while folded < length and (
        pending[folded]["time"] < limit
        or length - folded > PENDING_KEEP
        or (pending[folded]["time"] < watermark)  # whole milliseconds fold together
    ):
        time = pending[folded]["time"]
        if time >= watermark:  # the first of its millisecond: its equals do not count each other
            count, total = _month(tiles[MONTH], counts[MONTH], time)
        watermark = max(watermark, time + 1)
        _fold(pending[folded : folded + 1], is_large(pending[folded]["amount"], count, total), tiles, counts)
        folded += 1
    return folded, watermark


@kernel
def close_window(table: FloatArray, window: int, whole: IntArray) -> None:
    """Fill one window's columns of ``table`` from its totals."""
    count, total, declined, small, report = whole[0], whole[1], whole[2], whole[3], whole[4]
    large = whole[5]
    first = window * _COLUMNS
    table[first] = count
    table[first + 1] = total
    table[first + 2] = total / count if count > 0 else np.nan
    table[first + 3] = declined
    table[first + 4] = declined / count if count > 0 else np.nan
    table[first + 5] = small / count if count > 0 else np.nan
    table[first + 6] = report
    table[first + 7] = report / count if count > 0 else np.nan
    table[first + 8] = large / count if count > 0 else np.nan


@kernel
def close_reports(table: FloatArray, as_of: int, reports: IntArray, paid: IntArray, first: int, last: int) -> None:
    """Fill the scalars: each risk, and the age in days of the first and the last day with a report.

    Parameters
    ----------
    reports, paid
        Of each of :data:`RISKS`: reports of so many days before today, and payments of as many a label delay earlier.
    first, last
        First and last day (since the epoch) with a report within 30 days; -1 is none.
    """
    for index in range(len(RISKS)):
        table[_SCALARS + index] = reports[index] / max(1, paid[index])
    place = _SCALARS + len(RISKS)
    table[place] = (as_of - first * DAY) / DAY if first >= 0 else np.nan
    table[place + 1] = (as_of - last * DAY) / DAY if last >= 0 else np.nan


@kernel
def _add_day(ago: int, reports: int, paid: int, reported: IntArray, matured: IntArray) -> None:
    """Add what happened ``ago`` days before today to every risk that reaches there."""
    for index in range(len(RISKS)):
        if 1 <= ago <= RISKS[index]:
            reported[index] += reports
        if 1 <= ago - DELAY_DAYS <= RISKS[index]:
            matured[index] += paid


@kernel
def _read_reports(pending: Entries, days: Tiles, as_of: int, reports: int, table: FloatArray) -> None:
    """Fill the scalars of a state with so many ``reports`` in 30 days; both arrays are in order of time."""
    reported = np.zeros(len(RISKS), np.int64)
    matured = np.zeros(len(RISKS), np.int64)
    first = -1
    last = -1
    if reports > 0:
        today = as_of // DAY
        oldest = (as_of - LENGTHS[MONTH]) // DAY
        for index in range(len(days)):
            tile = days[index]
            day = int(np.int64(tile["bucket"]))  # unsigned as they lie there
            count = int(np.int64(tile["report"]))
            _add_day(today - day, count, int(np.int64(tile["count"])), reported, matured)
            if count > 0 and oldest <= day <= (as_of - 1) // DAY:
                first = day if first < 0 else first
                last = day
        for index in range(len(pending)):
            item = pending[index]
            if item["time"] >= as_of:
                break
            day = item["time"] // DAY
            count = 1 if item["flags"] & REPORT else 0
            _add_day(today - day, count, 1 - count, reported, matured)
            if count > 0 and day >= oldest:
                first = day if first < 0 else first
                last = day
    close_reports(table, as_of, reported, matured, first, last)


@kernel
def _pending_large(pending: Entries, tiles: Tiles, counts: IntArray) -> npt.NDArray[np.bool_]:
    """Return which of the pending are unusually large, each as of its own time; they lie well within 30 days."""
    large = np.zeros(len(pending), np.bool_)
    start = counts[:MONTH].sum()
    row = tiles[start : start + counts[MONTH]]
    held = 0
    paid = 0
    count = 0
    total = 0
    folded = 0
    sums = 0
    reached = -1
    for index in range(len(pending)):
        item = pending[index]
        if index == 0 or item["time"] != pending[index - 1]["time"]:
            oldest = (item["time"] - LENGTHS[MONTH]) // TILES[MONTH]
            if oldest != reached:  # once for nearly all of them
                folded, sums = _month(row, len(row), item["time"])
                reached = oldest
            count = folded + held
            total = sums + paid
        if not item["flags"] & REPORT:
            large[index] = is_large(item["amount"], count, total)
            held += 1
            paid += item["amount"]
    return large


@kernel
def read_tiles(pending: Entries, tiles: Tiles, counts: IntArray, as_of: int, table: FloatArray) -> None:
    """Fill ``table``, shape ``(TILE_TABLE,)``, from a state: flat ``tiles``, ``counts`` of them per resolution."""
    large = _pending_large(pending, tiles, counts)
    start = 0
    whole = np.empty(TOTALS, np.int64)
    for window in range(len(TILES)):
        oldest = (as_of - LENGTHS[window]) // TILES[window]
        newest = (as_of - 1) // TILES[window]
        whole[:] = 0
        for index in range(start, start + counts[window]):
            tile = tiles[index]
            if oldest <= tile["bucket"] <= newest:
                whole[0] += tile["count"]
                whole[1] += tile["sum"]
                whole[2] += tile["declined"]
                whole[3] += tile["small"]
                whole[4] += tile["report"]
                whole[5] += tile["large"]
        start += counts[window]
        floor = oldest * TILES[window]
        for index in range(len(pending)):
            item = pending[index]
            if floor <= item["time"] < as_of:
                if item["flags"] & REPORT:
                    whole[4] += 1
                else:
                    whole[0] += 1
                    whole[1] += item["amount"]
                    whole[2] += item["flags"] & DECLINED
                    whole[3] += item["amount"] <= SMALL_AMOUNT_MINOR
                    whole[5] += large[index]
        close_window(table, window, whole)
    _read_reports(pending, tiles[start - counts[MONTH] : start], as_of, whole[4], table)
