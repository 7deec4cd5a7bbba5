"""The log's twin of :func:`fraud.velocity.read`: every declared value at any times, from the sorted transaction log.

Rings are read by the very function that reads a state; tiles by running totals over the same aligned windows. Equal
inputs give equal bits, which a property test holds against the slow oracle and against stored states.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud import ring, tile_log
from fraud.kernels import kernel
from fraud.velocity import POSITIONS, TABLE_LENGTH, Changes, FloatArray, state_from_history
from fraud.windows import KINDS, SMALL_AMOUNT_MINOR, Entity

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class History:
    """The changes of all keys of one kind of entity, in order of key, time, id and kind.

    Parameters
    ----------
    entity
        Whose changes.
    changes
        Records of :data:`fraud.ring.ENTRY`, shape ``(n,)``.
    starts
        Shape ``(keys + 1,)``; key ``k`` owns ``changes[starts[k]:starts[k + 1]]``.
    """

    entity: Entity
    changes: Changes
    starts: IntArray

    def of(self, key: int) -> Changes:
        """Return the sorted changes of one key."""
        return self.changes[self.starts[key] : self.starts[key + 1]]


@dataclass(frozen=True)
class Questions:
    """Many questions: equally long columns.

    ``key`` is the entity's number (-1 where the row has none, which reads as an entity never seen); the others as in
    :class:`fraud.velocity.Question`.
    """

    key: IntArray
    as_of_ms: IntArray
    party: IntArray
    latitude: IntArray
    longitude: IntArray


def sort_history(entity: Entity, key: IntArray, changes: Changes, keys: int) -> History:
    """Return the history of ``changes``; a repeat (same key, time, id and kind) stays once, its flags joined.

    Parameters
    ----------
    key
        Entity number of each change, shape ``(n,)``; changes with -1 belong to nobody and are left out.
    keys
        How many entities there are.
    """
    owned = key >= 0
    if not owned.all():
        key, changes = key[owned], changes[owned]
    order = sorted_places(key, changes, keys)
    key, changes = key[order], changes[order]
    if len(key):
        same = (np.diff(key) == 0) & repeats(changes)
        if same.any():
            key, changes = _without_repeats(key, changes, same)
    starts = np.searchsorted(key, np.arange(keys + 1)).astype(np.int64)
    return History(entity, changes, starts)


def sorted_places(key: IntArray, changes: Changes, keys: int) -> IntArray:
    """Return the places of changes in order of key, time, id and kind; those that are equal in all stay as they are.

    Nearly linear for a log that is nearly in order of time, as every log is.
    """
    times = np.ascontiguousarray(changes["time"])
    if (times[1:] >= times[:-1]).all():
        by_time = np.arange(len(key), dtype=np.int64)
    else:
        by_time = np.argsort(times, kind="stable").astype(np.int64)
    order = np.empty(len(key), np.int64)
    _deal(key, by_time, np.zeros(keys + 1, np.int64), order)
    reports = (changes["flags"] & ring.REPORT) != 0
    _settle_ties(key, times, np.ascontiguousarray(changes["id"]), reports, order)
    return order


def repeats(changes: Changes) -> npt.NDArray[np.bool_]:
    """Return where a change of one sorted key is the one before it over again, shape ``(n - 1,)``."""
    kind = changes["flags"] & ring.REPORT
    alike = (np.diff(changes["time"]) == 0) & (changes["id"][1:] == changes["id"][:-1]) & (kind[1:] == kind[:-1])
    return np.asarray(alike, np.bool_)


@kernel
def _deal(key: IntArray, by_time: IntArray, starts: IntArray, order: IntArray) -> None:
    """Deal places to their keys, keeping their order."""
    for place in range(len(key)):
        starts[key[place] + 1] += 1
    for number in range(len(starts) - 1):
        starts[number + 1] += starts[number]
    for place in by_time:
        order[starts[key[place]]] = place
        starts[key[place]] += 1


@kernel
def _settle_ties(
    key: IntArray, times: IntArray, ids: npt.NDArray[np.uint64], reports: npt.NDArray[np.bool_], order: IntArray
) -> None:
    """Put changes of one key and time in order of their ids, a payment before a report of it."""
    for index in range(1, len(order)):
        place = order[index]
        before = index
        while before > 0:
            other = order[before - 1]
            if key[other] != key[place] or times[other] != times[place] or ids[other] < ids[place]:
                break
            if ids[other] == ids[place] and reports[other] <= reports[place]:
                break
            order[before] = other
            before -= 1
        order[before] = place


def _without_repeats(key: IntArray, changes: Changes, same: npt.NDArray[np.bool_]) -> tuple[IntArray, Changes]:
    first = np.concatenate(([True], ~same))
    group = np.cumsum(first) - 1
    flags = np.zeros(int(group[-1]) + 1, np.uint8)
    np.bitwise_or.at(flags, group, changes["flags"])
    kept = changes[first].copy()
    kept["flags"] = flags
    return key[first], kept


def read_history(history: History, asked: Questions) -> FloatArray:
    """Return every declared value of the history's entity for every question, shape ``(n, features)``; NaN is null."""
    out = np.empty((len(asked.key), len(POSITIONS[history.entity])), order="F")
    HistoryReader(history).fill(asked, out)
    return out


class HistoryReader:
    """A history made ready to be asked many times.

    It keeps no more of it than it reads: of tiles the times and running totals, not the changes.
    """

    def __init__(self, history: History) -> None:
        self._entity = history.entity
        self._starts = history.starts
        self._scratch = ring.new_scratch()
        if KINDS[history.entity] == "ring":
            self._changes = history.changes
        else:
            self._times = np.ascontiguousarray(history.changes["time"])
            self._totals = _prefixes(history)

    def fill(self, asked: Questions, out: FloatArray) -> None:
        """Fill ``out``, shape ``(n, features)`` in Fortran order, with every declared value; NaN is null.

        Not for two threads at once: the scratch is one.
        """
        positions, length = POSITIONS[self._entity], TABLE_LENGTH[self._entity]
        if KINDS[self._entity] == "ring":
            _read_rings(
                self._changes, self._starts, asked.key, asked.as_of_ms, asked.party, asked.latitude, asked.longitude,
                positions, length, self._scratch, out,
            )  # fmt: skip
        else:
            _read_tiles(self._times, self._totals, self._starts, asked.key, asked.as_of_ms, positions, length, out)


@kernel
def _read_rings(
    changes: Changes,
    starts: IntArray,
    key: IntArray,
    as_of: IntArray,
    party: IntArray,
    latitude: IntArray,
    longitude: IntArray,
    positions: IntArray,
    length: int,
    scratch: IntArray,
    out: FloatArray,
) -> None:
    table = np.empty(length)
    for row in range(len(key)):
        start = starts[key[row]] if key[row] >= 0 else 0
        stop = starts[key[row] + 1] if key[row] >= 0 else 0
        ring.read_entries(changes, start, stop, as_of[row], party[row], latitude[row], longitude[row], scratch, table)
        for column in range(len(positions)):
            out[row, column] = table[positions[column]]


def _prefixes(history: History) -> IntArray:
    changes = history.changes
    paid = (changes["flags"] & ring.REPORT) == 0
    large = np.zeros(len(changes), np.int64)
    times, amounts = (np.ascontiguousarray(changes[name]) for name in ("time", "amount"))
    tile_log.mark_large(times, amounts, paid, history.starts, large)
    columns = (
        paid,
        np.where(paid, changes["amount"], 0),
        paid & ((changes["flags"] & ring.DECLINED) != 0),
        paid & (changes["amount"] <= SMALL_AMOUNT_MINOR),
        ~paid,
        large,
    )
    totals = np.zeros((len(changes) + 1, len(columns)), np.int64)
    for index, column in enumerate(columns):
        np.cumsum(column, out=totals[1:, index])
    return totals


@kernel
def _read_tiles(
    times: IntArray,
    prefixes: IntArray,
    starts: IntArray,
    key: IntArray,
    as_of: IntArray,
    positions: IntArray,
    length: int,
    out: FloatArray,
) -> None:
    table = np.empty(length)
    for row in range(len(key)):
        start = starts[key[row]] if key[row] >= 0 else 0
        stop = starts[key[row] + 1] if key[row] >= 0 else 0
        tile_log.read_prefixes(times, prefixes, start, stop, as_of[row], table)
        for column in range(len(positions)):
            out[row, column] = table[positions[column]]


def states(history: History) -> list[tuple[bytes, int]]:
    """Return each key's state after its whole history, and how many changes it took: what materializing writes."""
    return [state_from_history(history.entity, history.of(key)) for key in range(len(history.starts) - 1)]
