"""Reading a history as it was visible: with exactly the changes that a state of some revision held.

Most questions saw everything earlier, and for them the history as of their time is the answer already. Only the others
are read again, each over its own narrowed history.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.history import History, Questions, read_history
from fraud.kernels import kernel
from stores.log import REACH_MS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

LIMIT: Final = 2**31 - 2
"""Largest revision."""

NEVER: Final = 2**31 - 1
"""The revision that made a change which was never visible."""

_SLAB: Final = 4_000_000
_TIME_BITS: Final = 42  # epoch ms until the year 2109


@dataclass(frozen=True)
class Reach:
    """Which changes of a history the questions may see: equally long columns, and the history's own.

    Parameters
    ----------
    first, last
        Places in the history: changes ``first:last`` are the entity's before the question's time, within the reach of
        the windows.
    since
        The revision that made each change of the history, shape ``(changes,)``.
    """

    first: IntArray
    last: IntArray
    since: IntArray

    def earlier_visible(self, revisions: IntArray) -> BoolArray:
        """Return whether the state of each question's revision held everything in its reach."""
        return _all_until(self.since, self.first, self.last, revisions)


def reach_of(history: History, asked: Questions, since: IntArray) -> Reach:
    """Return the reach of each question; empty where it has no entity, or one that the history has never seen."""
    count = len(history.starts) - 1
    owner = np.repeat(np.arange(count, dtype=np.int64), np.diff(history.starts))
    codes = (owner << _TIME_BITS) | history.changes["time"]
    known = asked.key >= 0
    key = np.where(known, asked.key, 0)
    oldest = np.maximum(asked.as_of_ms - REACH_MS, 0)
    first = np.searchsorted(codes, (key << _TIME_BITS) | oldest).astype(np.int64)
    last = np.searchsorted(codes, (key << _TIME_BITS) | asked.as_of_ms).astype(np.int64)
    return Reach(np.where(known, first, 0), np.where(known, last, 0), since)


def read_visible(history: History, asked: Questions, chosen: IntArray, reach: Reach, revisions: IntArray) -> FloatArray:
    """Return the values of the ``chosen`` questions from the changes that their revisions held.

    Parameters
    ----------
    history, asked
        As for :func:`fraud.history.read_history`.
    chosen
        Places of questions.
    reach
        Of all questions.
    revisions
        That each question's state had; smaller than every change's where there was no state.
    """
    pieces = [read_history(*_narrowed(history, asked, part, reach, revisions)) for part in _slabs(chosen, reach)]
    empty = np.empty((0, read_history(history, _taken(asked, chosen[:0])).shape[1]))
    return np.concatenate([empty, *pieces])


def _slabs(chosen: IntArray, reach: Reach) -> Iterator[IntArray]:
    """Yield the chosen in parts whose narrowed histories fit into memory together."""
    running = np.cumsum(reach.last[chosen] - reach.first[chosen])
    cuts = np.searchsorted(running, np.arange(_SLAB, int(running[-1]) + 1 if len(running) else 0, _SLAB)) + 1
    for start, end in pairwise([0, *np.unique(cuts).tolist(), len(chosen)]):
        if end > start:
            yield chosen[start:end]


def _narrowed(
    history: History, asked: Questions, part: IntArray, reach: Reach, revisions: IntArray
) -> tuple[History, Questions]:
    """Return a history with one key for each question, holding what its revision held."""
    first, last = reach.first[part], reach.last[part]
    starts = np.empty(len(part) + 1, np.int64)
    places = np.empty(int((last - first).sum()), np.int64)
    _gather(reach.since, first, last, revisions[part], starts, places)
    narrowed = History(history.entity, history.changes[places[: starts[-1]]], starts)
    taken = _taken(asked, part)
    own = np.arange(len(part), dtype=np.int64)
    return narrowed, Questions(own, taken.as_of_ms, taken.party, taken.latitude, taken.longitude)


def _taken(asked: Questions, part: IntArray) -> Questions:
    return Questions(
        asked.key[part], asked.as_of_ms[part], asked.party[part], asked.latitude[part], asked.longitude[part]
    )


@kernel
def _all_until(since: IntArray, first: IntArray, last: IntArray, revisions: IntArray) -> BoolArray:
    out = np.ones(len(first), np.bool_)
    for row in range(len(first)):
        for place in range(first[row], last[row]):
            if since[place] > revisions[row]:
                out[row] = False
                break
    return out


@kernel
def _gather(
    since: IntArray, first: IntArray, last: IntArray, revisions: IntArray, starts: IntArray, places: IntArray
) -> None:
    count = 0
    for row in range(len(first)):
        starts[row] = count
        for place in range(first[row], last[row]):
            if since[place] <= revisions[row]:
                places[count] = place
                count += 1
    starts[len(first)] = count
