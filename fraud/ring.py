"""The ring: an entity's recent transactions, whole, in order of time, id and kind.

An entry (:data:`ENTRY`) has 44 bytes; :mod:`fraud.states` has the layout of the whole. A card with 20 transactions in
30 days costs 888 bytes; the bound is ``RING_KEEP`` entries, 14 kB.
Equal histories give equal bytes, whatever order, lateness or repetition they arrived in, as long as no more than
``RING_KEEP`` entries lie within the horizon.
"""

import math

import numpy as np
import numpy.typing as npt

from fraud.kernels import kernel
from fraud.windows import (
    DAY,
    LARGE_TIMES,
    LONGEST_MS,
    REPORT_DELAY_MS,
    RING_KEEP,
    RING_READ,
    RING_SCALARS,
    RING_STATISTICS,
    SMALL_AMOUNT_MINOR,
    WINDOWS,
)

ENTRY = np.dtype(
    [
        ("time", "<i8"),  # event time, epoch ms; for a fraud report the time it became known
        ("id", "<u8"),  # hash of the transaction id
        ("amount", "<i8"),  # minor units
        ("party", "<u4"),  # hash: a card's merchant, a device's card
        ("other", "<u4"),  # hash: a card's device, a device's merchant; 0 is none
        ("latitude", "<i4"),  # 1e-5 degrees; NOWHERE is none
        ("longitude", "<i4"),
        ("country", "<u2"),
        ("flags", "u1"),
        ("unused", "u1"),
    ]
)
Entries = npt.NDArray[np.void]
FloatArray = npt.NDArray[np.float64]

RING_TABLE = len(WINDOWS) * len(RING_STATISTICS) + len(RING_SCALARS)
"""Length of the flat table that one read fills."""

HORIZON_MS = LONGEST_MS + DAY
"""Entries older than this before the newest are dropped: a read up to a day in the past still sees 30 days."""

NOWHERE = -(2**31)
DECLINED = 1
REPORT = 4
"""Tells a fraud report from the payment it speaks of: part of what an entry is, where a decline is learned of one."""

REPEATED = 0
TOOK = 1
TOO_LATE = 2
"""What becomes of a change: it was there already, it was taken, or it lies before all that can still be told apart."""

_LENGTHS = np.array([window.length_ms for window in WINDOWS], np.int64)
_COLUMNS = len(RING_STATISTICS)
_WEEK = [window.label for window in WINDOWS].index("7d")
_REPORTS = RING_STATISTICS.index("report_count")
_BUCKETS = 1024  # of the distinct-count scratch: four times RING_READ
_COUNTRIES = 26 * 26 + 1
_RADIUS_KM = 6371.0088
_RADIANS = math.pi / 180.0 / 1e5


def new_scratch() -> npt.NDArray[np.int64]:
    """Return the working memory that :func:`read_entries` needs; reusable, one per thread."""
    return np.zeros(4 * _BUCKETS + _COUNTRIES + 1, np.int64)


@kernel
def _first_seen(scratch: npt.NDArray[np.int64], base: int, value: np.int64, stamp: int) -> bool:
    """Note ``value`` in the hash table at ``base``; return whether this stamp had not seen it."""
    slot = (value * 2654435761) % _BUCKETS
    while scratch[base + 2 * slot] == stamp:
        if scratch[base + 2 * slot + 1] == value:
            return False
        slot = (slot + 1) % _BUCKETS
    scratch[base + 2 * slot] = stamp
    scratch[base + 2 * slot + 1] = value
    return True


@kernel
def distance_km(latitude_a: int, longitude_a: int, latitude_b: int, longitude_b: int) -> float:
    """Return the great-circle distance of two places given in 1e-5 degrees (haversine, mean Earth radius)."""
    phi_a = latitude_a * _RADIANS
    phi_b = latitude_b * _RADIANS
    half_phi = math.sin((phi_b - phi_a) / 2.0)
    half_lambda = math.sin((longitude_b - longitude_a) * _RADIANS / 2.0)
    h = half_phi * half_phi + math.cos(phi_a) * math.cos(phi_b) * half_lambda * half_lambda
    return 2.0 * _RADIUS_KM * math.asin(math.sqrt(min(1.0, h)))


@kernel
def _close_window(table: FloatArray, window: int, whole: npt.NDArray[np.int64], squares: float) -> None:
    first = window * _COLUMNS
    count = whole[0]
    table[first] = count
    table[first + 1] = whole[1]
    table[first + 2] = whole[1] / count if count > 0 else np.nan
    table[first + 3] = whole[2] if count > 0 else np.nan
    table[first + 4] = math.sqrt(squares / (count - 1)) if count > 1 else np.nan
    for column in range(3, 9):
        table[first + 2 + column] = whole[column]


@kernel
def _count_large(
    entries: Entries, newest: int, oldest: int, as_of: int, bound: float, count: int, table: FloatArray
) -> None:
    """Fill the last column: per window, how many amounts times ``count`` exceed ``bound``, the scaled 30-day sum."""
    large = 0
    window = 0
    for index in range(newest, oldest - 1, -1):
        entry = entries[index]
        age = as_of - entry["time"]
        while window < len(_LENGTHS) and age > _LENGTHS[window]:
            table[window * _COLUMNS + _COLUMNS - 1] = large
            window += 1
        if window == len(_LENGTHS):
            break
        if not entry["flags"] & REPORT and np.float64(entry["amount"]) * count > bound:
            large += 1
    while window < len(_LENGTHS):
        table[window * _COLUMNS + _COLUMNS - 1] = large
        window += 1


@kernel
def read_entries(
    entries: Entries,
    start: int,
    stop: int,
    as_of: int,
    party: int,
    latitude: int,
    longitude: int,
    scratch: npt.NDArray[np.int64],
    table: FloatArray,
) -> None:
    """Fill ``table`` with every window and scalar of the sorted ``entries[start:stop]`` as of a time.

    One backward pass over the at most ``RING_READ`` newest entries before ``as_of``; the same code serves a state of
    one entity and the sorted log of all of them, which is why they agree to the last bit.

    Parameters
    ----------
    entries
        In order of time, id and kind within ``start:stop``.
    as_of
        Epoch ms; entries at or after it are not seen.
    party, latitude, longitude
        Of the transaction being asked about: hash, and 1e-5 degrees or ``NOWHERE``.
    scratch
        From :func:`new_scratch`.
    table
        Output, shape ``(RING_TABLE,)``; NaN where there is nothing to average or compare.
    """
    low, high = start, stop
    while low < high:
        middle = (low + high) // 2
        if entries[middle]["time"] < as_of:
            low = middle + 1
        else:
            high = middle
    newest = low - 1
    oldest = max(start, low - RING_READ)
    stamp = scratch[-1] + 1
    scratch[-1] = stamp
    whole = np.zeros(9, np.int64)
    mean = 0.0
    squares = 0.0
    previous = -1
    placed = -1
    known = 0.0
    matured = 0
    window = 0
    for index in range(newest, oldest - 1, -1):
        entry = entries[index]
        age = as_of - entry["time"]
        while window < len(_LENGTHS) and age > _LENGTHS[window]:
            _close_window(table, window, whole, squares)
            window += 1
        if window == len(_LENGTHS):
            break
        if entry["flags"] & REPORT:
            whole[8] += 1
            continue
        if previous < 0:
            previous = index
        if placed < 0 and entry["latitude"] != NOWHERE:
            placed = index
        matured += REPORT_DELAY_MS < age <= REPORT_DELAY_MS + _LENGTHS[_WEEK]
        amount = entry["amount"]
        whole[0] += 1
        whole[1] += amount
        whole[2] = max(whole[2], amount)
        delta = amount - mean
        mean += delta / whole[0]
        squares += delta * (amount - mean)
        if entry["party"] == party:
            known = 1.0
        whole[3] += _first_seen(scratch, 0, np.int64(entry["party"]), stamp)
        if entry["other"] != 0:
            whole[4] += _first_seen(scratch, 2 * _BUCKETS, np.int64(entry["other"]), stamp)
        slot = 4 * _BUCKETS + entry["country"]
        if scratch[slot] != stamp:
            scratch[slot] = stamp
            whole[5] += 1
        whole[6] += entry["flags"] & DECLINED
        whole[7] += amount <= SMALL_AMOUNT_MINOR
    while window < len(_LENGTHS):
        _close_window(table, window, whole, squares)
        window += 1
    _count_large(entries, newest, oldest, as_of, LARGE_TIMES * whole[1], whole[0], table)
    first = len(_LENGTHS) * _COLUMNS
    table[first] = (as_of - entries[previous]["time"]) / 1000.0 if previous >= 0 else np.nan
    table[first + 1] = known
    table[first + 2] = np.nan
    table[first + 3] = np.nan
    table[first + 4] = table[_WEEK * _COLUMNS + _REPORTS] / max(1, matured)
    if placed >= 0 and latitude != NOWHERE:
        entry = entries[placed]
        kilometres = distance_km(entry["latitude"], entry["longitude"], latitude, longitude)
        table[first + 2] = kilometres
        table[first + 3] = kilometres / (max(1, as_of - entry["time"]) / 3_600_000.0)


@kernel
def comes_before(one: Entries, other: Entries) -> bool:
    """Return whether the one record of ``one`` comes before that of ``other``: by time, then id, a payment first.

    Two of which neither comes before the other are the same change.
    """
    a, b = one[0], other[0]
    if a["time"] != b["time"]:
        return bool(a["time"] < b["time"])
    if a["id"] != b["id"]:
        return bool(a["id"] < b["id"])
    return bool((a["flags"] & REPORT) < (b["flags"] & REPORT))


@kernel
def insert_entry(entries: Entries, length: int, entry: Entries) -> int:
    """Put the one record of ``entry`` in its place in ``entries[:length]``; return the new length.

    ``entries`` has room for ``RING_KEEP + 1``. A repeat only adds flags (a decline learned later), and where it adds
    none the result is ``-1 - REPEATED``. An entry older than a full ring or the horizon gives ``-1 - TOO_LATE``.
    """
    new = entry[0]
    place = length
    while place > 0 and comes_before(entry, entries[place - 1 : place]):
        place -= 1
    if place > 0 and not comes_before(entries[place - 1 : place], entry):
        flags = entries[place - 1]["flags"] | new["flags"]
        if flags == entries[place - 1]["flags"]:
            return -1 - REPEATED
        entries[place - 1]["flags"] = flags
        return length
    if length > 0 and new["time"] < entries[length - 1]["time"] - HORIZON_MS:
        return -1 - TOO_LATE
    if length == RING_KEEP and place == 0:
        return -1 - TOO_LATE
    for index in range(length, place, -1):
        entries[index] = entries[index - 1]
    entries[place] = new
    return length + 1


@kernel
def first_kept(entries: Entries, length: int) -> int:
    """Return the index of the oldest entry that the horizon and the bound keep."""
    first = max(0, length - RING_KEEP)
    while first < length and entries[first]["time"] < entries[length - 1]["time"] - HORIZON_MS:
        first += 1
    return first
