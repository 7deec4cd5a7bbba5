"""The log's twin of :func:`fraud.velocity.read`: every declared value at any times, from the sorted transaction log.

Rings are read by the very function that reads a state; tiles by running totals over the same aligned windows. Equal
inputs give equal bits, which a property test holds against the slow oracle and against stored states.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud import ring, tiles
from fraud.kernels import kernel
from fraud.velocity import POSITIONS, TABLE_LENGTH, Changes, FloatArray, state_from_history
from fraud.windows import KINDS, SMALL_AMOUNT_MINOR, Entity

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class History:
    """The changes of all keys of one kind of entity, sorted by (key, time, id).

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
    """Return the history of ``changes``; a repeated transaction (same key, time and id) stays once, its flags joined.

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
    order = np.lexsort((changes["id"], changes["time"], key))
    key, changes = key[order], changes[order]
    if len(key):
        same = (np.diff(key) == 0) & (np.diff(changes["time"]) == 0) & (changes["id"][1:] == changes["id"][:-1])
        if same.any():
            key, changes = _without_repeats(key, changes, same)
    starts = np.searchsorted(key, np.arange(keys + 1)).astype(np.int64)
    return History(entity, changes, starts)


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
    entity = history.entity
    positions = POSITIONS[entity]
    out = np.empty((len(asked.key), len(positions)))
    if KINDS[entity] == "ring":
        _read_rings(
            history.changes,
            history.starts,
            asked.key,
            asked.as_of_ms,
            asked.party,
            asked.latitude,
            asked.longitude,
            positions,
            TABLE_LENGTH[entity],
            ring.new_scratch(),
            out,
        )
    else:
        times = np.ascontiguousarray(history.changes["time"])
        _read_tiles(
            times, _prefixes(history), history.starts, asked.key, asked.as_of_ms, positions,
            TABLE_LENGTH[entity], out,
        )  # fmt: skip
    return out


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
    tiles.mark_large(times, amounts, paid, history.starts, large)
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
        tiles.read_prefixes(times, prefixes, start, stop, as_of[row], table)
        for column in range(len(positions)):
            out[row, column] = table[positions[column]]


def states(history: History) -> list[tuple[bytes, int]]:
    """Return each key's state after its whole history, and how many changes it took: what materializing writes."""
    return [state_from_history(history.entity, history.of(key)) for key in range(len(history.starts) - 1)]
