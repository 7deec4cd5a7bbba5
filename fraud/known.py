"""The log as it was known: every declared value from the changes that had arrived, at any times.

The twin of :mod:`fraud.history` for training sets *as known*. Event time still decides which window a change is in; its
arrival decides who may see it. A question sees exactly what the same question to a log without the later arrivals
would see, to the last bit: rings by the very kernel that reads a state, over the newest entries that had arrived; tiles
by replaying the arrivals of each key in their order into running totals.

The stream's own state agrees, but for one thing: at a merchant it refuses a change that comes more than
``fraud.tiles.LATENESS_MS`` after newer ones, and the log does not forget it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud import ring, tiles
from fraud.history import Questions, repeats, sorted_places
from fraud.kernels import kernel
from fraud.velocity import POSITIONS, TABLE_LENGTH, Changes, FloatArray
from fraud.windows import DAY, KINDS, LONGEST_MS, RING_READ, SMALL_AMOUNT_MINOR, Entity

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class KnownHistory:
    """The changes of all keys of one kind of entity with arrivals, in order of key, time, id, kind and arrival.

    Parameters
    ----------
    entity
        Whose changes.
    changes
        Records of :data:`fraud.ring.ENTRY`, shape ``(n,)``. A transaction that came twice is there twice: its first
        copy counts, and the flags of the others from their own arrival on.
    arrived
        When each was there to be read, in the unit of the questions' bounds, shape ``(n,)``.
    starts
        Shape ``(keys + 1,)``; key ``k`` owns ``changes[starts[k]:starts[k + 1]]``.
    """

    entity: Entity
    changes: Changes
    arrived: IntArray
    starts: IntArray

    def visible(self, key: int, as_of_ms: int, until: int) -> Changes:
        """Return what a question sees of one key, in order of time, id and kind, copies and all."""
        part = slice(self.starts[key], self.starts[key + 1])
        changes = self.changes[part]
        seen: Changes = changes[(changes["time"] < as_of_ms) & (self.arrived[part] <= until)]
        return seen


def sort_known(entity: Entity, key: IntArray, changes: Changes, arrived: IntArray, keys: int) -> KnownHistory:
    """Return the known history of ``changes``.

    Parameters
    ----------
    key
        Entity number of each change, shape ``(n,)``; changes with -1 belong to nobody and are left out.
    arrived
        When each arrived, shape ``(n,)``.
    keys
        How many entities there are.
    """
    owned = key >= 0
    if not owned.all():
        key, changes, arrived = key[owned], changes[owned], arrived[owned]
    by_arrival = np.argsort(arrived, kind="stable")
    order = by_arrival[sorted_places(key[by_arrival], changes[by_arrival], keys)]
    starts = np.searchsorted(key[order], np.arange(keys + 1)).astype(np.int64)
    return KnownHistory(entity, changes[order], arrived[order], starts)


def read_known(history: KnownHistory, asked: Questions, until: IntArray) -> FloatArray:
    """Return every declared value of the history's entity for every question, shape ``(n, features)``; NaN is null.

    Parameters
    ----------
    until
        The newest arrival that each question may see, inclusive, shape ``(n,)``.
    """
    out = np.empty((len(asked.key), len(POSITIONS[history.entity])), order="F")
    fill_known(history, asked, until, out)
    return out


def fill_known(history: KnownHistory, asked: Questions, until: IntArray, out: FloatArray) -> None:
    """Fill ``out``, shape ``(n, features)`` in Fortran order, with what :func:`read_known` returns."""
    positions = POSITIONS[history.entity]
    if KINDS[history.entity] == "ring":
        _read_rings(
            history.changes, history.arrived, history.starts, asked.key, asked.as_of_ms, until, asked.party,
            asked.latitude, asked.longitude, positions, TABLE_LENGTH[history.entity], ring.new_scratch(),
            np.zeros(RING_READ, ring.ENTRY), out,
        )  # fmt: skip
        return
    owner = np.repeat(np.arange(len(history.starts) - 1), np.diff(history.starts))
    arrivals = np.lexsort((history.arrived, owner)).astype(np.int64)
    turns = np.lexsort((until, asked.key)).astype(np.int64)
    bounds = np.searchsorted(asked.key[turns], np.arange(len(history.starts))).astype(np.int64)
    times, amounts, flags = (history.changes[name].astype(np.int64) for name in ("time", "amount", "flags"))
    _read_tiles(
        times, amounts, flags, _first_copies(history), history.arrived, arrivals, history.starts, turns, bounds,
        asked.as_of_ms, until, positions, TABLE_LENGTH[history.entity], out,
    )  # fmt: skip


def _first_copies(history: KnownHistory) -> IntArray:
    """Return the place of the first copy of each change."""
    changes = history.changes
    places = np.arange(len(changes), dtype=np.int64)
    if len(changes) > 1:
        first = np.ones(len(changes), np.bool_)
        first[1:] = ~repeats(changes)
        first[history.starts[:-1][history.starts[:-1] < len(changes)]] = True
        places = np.maximum.accumulate(np.where(first, places, 0))
    return places


@kernel
def _gather(changes: Changes, arrived: IntArray, start: int, stop: int, as_of: int, until: int, seen: Changes) -> int:
    """Fill the end of ``seen`` with the newest visible changes of one key in order; return where they begin."""
    low, high = start, stop
    while low < high:
        middle = (low + high) // 2
        if changes[middle]["time"] < as_of:
            low = middle + 1
        else:
            high = middle
    place = low - 1
    first = len(seen)
    while place >= start and first > 0 and changes[place]["time"] >= as_of - LONGEST_MS:
        if arrived[place] > until:
            place -= 1
            continue
        flags = changes[place]["flags"]
        while place > start and not ring.comes_before(changes[place - 1 : place], changes[place : place + 1]):
            place -= 1  # an earlier copy, so it had arrived too
            flags |= changes[place]["flags"]
        first -= 1
        seen[first] = changes[place]
        seen[first]["flags"] = flags
        place -= 1
    return first


@kernel
def _read_rings(
    changes: Changes,
    arrived: IntArray,
    starts: IntArray,
    key: IntArray,
    as_of: IntArray,
    until: IntArray,
    party: IntArray,
    latitude: IntArray,
    longitude: IntArray,
    positions: IntArray,
    length: int,
    scratch: IntArray,
    seen: Changes,
    out: FloatArray,
) -> None:
    table = np.empty(length)
    for row in range(len(key)):
        first = len(seen)
        if key[row] >= 0:
            start, stop = starts[key[row]], starts[key[row] + 1]
            first = _gather(changes, arrived, start, stop, as_of[row], until[row], seen)
        ring.read_entries(seen, first, len(seen), as_of[row], party[row], latitude[row], longitude[row], scratch, table)
        for column in range(len(positions)):
            out[row, column] = table[positions[column]]


@kernel
def _add(tree: IntArray, rows: int, place: int, column: int, value: int) -> None:
    """Add to one row's column of running totals that are kept as a binary indexed tree."""
    index = place + 1
    while index <= rows:
        tree[index, column] += value
        index += index & -index


@kernel
def _totals(tree: IntArray, before: int, sign: int, whole: IntArray) -> None:
    """Add the totals of the rows before a place to ``whole``, or take them off."""
    index = before
    while index > 0:
        for column in range(len(whole)):
            whole[column] += sign * tree[index, column]
        index -= index & -index


@kernel
def _count(tree: IntArray, rows: int, place: int, amount: int, flags: int, large: int, sign: int) -> None:
    if flags & ring.REPORT:
        _add(tree, rows, place, 4, sign)
        return
    _add(tree, rows, place, 0, sign)
    _add(tree, rows, place, 1, sign * amount)
    if flags & ring.DECLINED:
        _add(tree, rows, place, 2, sign)
    if amount <= SMALL_AMOUNT_MINOR:
        _add(tree, rows, place, 3, sign)
    if large:
        _add(tree, rows, place, 5, sign)


@kernel
def _usual(times: IntArray, tree: IntArray, place: int, whole: IntArray) -> None:
    """Fill ``whole`` with the totals of the 30 days before a row, from what has arrived."""
    time = times[place]
    floor = ((time - tiles.LENGTHS[tiles.MONTH]) // tiles.TILES[tiles.MONTH]) * tiles.TILES[tiles.MONTH]
    whole[:] = 0
    _totals(tree, int(np.searchsorted(times, time)), 1, whole)
    _totals(tree, int(np.searchsorted(times, floor)), -1, whole)


@kernel
def _is_large(amounts: IntArray, flags: IntArray, usual: IntArray, place: int) -> int:
    if flags[place] & ring.REPORT:
        return 0
    return 1 if tiles.is_large(amounts[place], usual[place, 0], usual[place, 1]) else 0


@kernel
def _arrive(
    times: IntArray,
    amounts: IntArray,
    place: int,
    brought: int,
    newest: int,
    tree: IntArray,
    held: IntArray,
    usual: IntArray,
    large: IntArray,
    whole: IntArray,
) -> None:
    """Count one arrival of a key, or what its copy adds; later changes that had arrived have it in their month now.

    ``held`` has the flags of what has arrived, -1 of what has not; none lies behind ``newest``.
    """
    rows = len(times)
    before = held[place]
    after = brought if before < 0 else before | brought
    if after == before:
        return
    if before < 0:
        _usual(times, tree, place, whole)
        usual[place, 0], usual[place, 1] = whole[0], whole[1]
    else:
        _count(tree, rows, place, amounts[place], before, large[place], -1)
    held[place] = after
    large[place] = _is_large(amounts, held, usual, place)
    _count(tree, rows, place, amounts[place], after, large[place], 1)
    paid = (0 if after & ring.REPORT else 1) - (0 if before < 0 or before & ring.REPORT else 1)
    if paid == 0:
        return
    for later in range(place + 1, newest + 1):
        if held[later] < 0 or times[later] == times[place]:
            continue
        floor = ((times[later] - tiles.LENGTHS[tiles.MONTH]) // tiles.TILES[tiles.MONTH]) * tiles.TILES[tiles.MONTH]
        if floor > times[place]:
            break
        usual[later, 0] += paid
        usual[later, 1] += paid * amounts[place]
        now = _is_large(amounts, held, usual, later)
        if now != large[later]:
            _add(tree, rows, later, 5, now - large[later])
            large[later] = now


@kernel
def _total(tree: IntArray, before: int, column: int) -> int:
    """Return one column's total of the rows before a place."""
    total = 0
    index = before
    while index > 0:
        total += tree[index, column]
        index -= index & -index
    return total


@kernel
def _within(times: IntArray, tree: IntArray, until: int, days: int, column: int) -> int:
    """Return the total of a column over so many whole days before the day ``until``."""
    after = int(np.searchsorted(times, until * DAY))
    before = int(np.searchsorted(times, (until - days) * DAY))
    return _total(tree, after, column) - _total(tree, before, column)


@kernel
def _place_of(tree: IntArray, low: int, high: int, reports: int) -> int:
    """Return the row in ``low:high`` with which the running total of reports comes to ``reports``."""
    while low < high:
        middle = (low + high) // 2
        if _total(tree, middle + 1, 4) >= reports:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def _read_tree(times: IntArray, tree: IntArray, as_of: int, whole: IntArray, table: FloatArray) -> None:
    high = int(np.searchsorted(times, as_of))
    low = high
    for window in range(len(tiles.TILES)):
        floor = ((as_of - tiles.LENGTHS[window]) // tiles.TILES[window]) * tiles.TILES[window]
        whole[:] = 0
        low = int(np.searchsorted(times[:high], floor))
        _totals(tree, high, 1, whole)
        _totals(tree, low, -1, whole)
        tiles.close_window(table, window, whole)
    reported = np.zeros(len(tiles.RISKS), np.int64)
    matured = np.zeros(len(tiles.RISKS), np.int64)
    first = -1
    last = -1
    if whole[4] > 0:
        today = as_of // DAY
        for index in range(len(tiles.RISKS)):
            reported[index] = _within(times[:high], tree, today, tiles.RISKS[index], 4)
            matured[index] = _within(times[:high], tree, today - tiles.DELAY_DAYS, tiles.RISKS[index], 0)
        first = times[_place_of(tree, low, high, _total(tree, low, 4) + 1)] // DAY
        last = times[_place_of(tree, low, high, _total(tree, high, 4))] // DAY
    tiles.close_reports(table, as_of, reported, matured, first, last)


@kernel
def _read_tiles(
    times: IntArray,
    amounts: IntArray,
    flags: IntArray,
    first_copies: IntArray,
    arrived: IntArray,
    arrivals: IntArray,
    starts: IntArray,
    turns: IntArray,
    bounds: IntArray,
    as_of: IntArray,
    until: IntArray,
    positions: IntArray,
    length: int,
    out: FloatArray,
) -> None:
    """Answer the questions of each key in the order of what they may see, taking in its changes as they arrive."""
    table = np.empty(length)
    whole = np.zeros(tiles.TOTALS, np.int64)
    nobody = np.zeros((1, tiles.TOTALS), np.int64)
    for index in range(bounds[0]):  # questions without an entity
        _read_tree(times[:0], nobody, as_of[turns[index]], whole, table)
        for column in range(len(positions)):
            out[turns[index], column] = table[positions[column]]
    for key in range(len(starts) - 1):
        start, stop = starts[key], starts[key + 1]
        if bounds[key] == bounds[key + 1]:
            continue
        rows = stop - start
        tree = np.zeros((rows + 1, tiles.TOTALS), np.int64)
        held = np.full(rows, -1, np.int64)
        usual = np.zeros((rows, 2), np.int64)
        large = np.zeros(rows, np.int64)
        own, paid = times[start:stop], amounts[start:stop]
        newest = -1
        waiting = start
        for index in range(bounds[key], bounds[key + 1]):
            row = turns[index]
            while waiting < stop and arrived[arrivals[waiting]] <= until[row]:
                change = arrivals[waiting]
                place = first_copies[change] - start
                _arrive(own, paid, place, flags[change], newest, tree, held, usual, large, whole)
                newest = max(newest, place)
                waiting += 1
            _read_tree(own, tree, as_of[row], whole, table)
            for column in range(len(positions)):
                out[row, column] = table[positions[column]]
