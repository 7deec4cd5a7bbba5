"""Velocity from the log: every window of any rows at their own times, and states as they stood."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fraud.features import CROSS_FEATURES, VELOCITY, cross_columns
from fraud.history import History, HistoryReader, Questions, sort_history
from fraud.known import KnownHistory, fill_known
from fraud.velocity import state_from_history, states_from_history
from fraud.windows import ENTITIES, JOIN_KEYS, PARTIES, VELOCITY_FEATURES, Entity
from stores.columns import MOMENT, FloatArray, IntArray, nullable
from stores.log import Log, places

TOKENS: Final[dict[Entity, str]] = {entity: f"{PARTIES[entity][0]}_token" for entity in ENTITIES}
"""The request value that names an entity's counterpart."""

SLAB: Final = 131_072
"""Rows evaluated at a time: bounds the memory beside the result to about 300 MB."""


STATES: Final = 5_000
"""States made at a time: at most some 100 MB, were each as large as a state can be."""


@dataclass(frozen=True)
class Asked:
    """The rows to evaluate.

    Parameters
    ----------
    table
        Arrow table with the join keys and the request values ``card_token``, ``merchant_token``, ``latitude`` and
        ``longitude``.
    as_of_ms
        Time of each row.
    amount_minor
        Amount of each row.
    until_us
        The newest arrival that each row may see, epoch microseconds; null where arrival does not matter.
    """

    table: Any
    as_of_ms: IntArray
    amount_minor: IntArray
    until_us: IntArray | None = None

    def part(self, rows: slice) -> "Asked":
        """Return some of the rows."""
        start, stop, _ = rows.indices(len(self.as_of_ms))
        until = None if self.until_us is None else self.until_us[start:stop]
        table = self.table.slice(start, stop - start)
        return Asked(table, self.as_of_ms[start:stop], self.amount_minor[start:stop], until)

    def take(self, places: IntArray) -> "Asked":
        """Return the rows at some places, in their order."""
        until = None if self.until_us is None else self.until_us[places]
        table = self.table.take(pa.array(places))
        return Asked(table, self.as_of_ms[places], self.amount_minor[places], until)


def velocity_arrays(log: Log, asked: Asked, wanted: Sequence[str]) -> dict[str, Any]:
    """Return velocity and cross features of rows, bit for bit what the online path reads at the same times.

    Parameters
    ----------
    log
        Loaded for these rows' times; with arrivals where the rows bound them.
    asked
        The rows.
    wanted
        Names out of ``VELOCITY`` and ``CROSS_FEATURES``.

    Returns
    -------
    arrays
        One Arrow array for each name: ``int64``, or ``double`` in which null means there was nothing to compare.
    """
    windows = Windows(log)
    parts = [
        windows.arrays(asked.part(slice(start, start + SLAB)), wanted)
        for start in range(0, max(1, len(asked.as_of_ms)), SLAB)
    ]
    return {name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]}


class Windows:
    """A log made ready to be asked for the windows of many rows, part by part.

    Histories are sorted when they are first needed: the plain ones, or those with arrivals.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._plain: dict[Entity, HistoryReader] = {}
        self._known: dict[Entity, KnownHistory] = {}

    def values(self, asked: Asked) -> FloatArray:
        """Return every value of ``VELOCITY`` of some rows, shape ``(n, features)`` in Fortran order; NaN is null."""
        widths = [len(VELOCITY_FEATURES[entity]) for entity in ENTITIES]
        out = np.empty((len(asked.as_of_ms), sum(widths)), order="F")
        ends = np.cumsum(widths).tolist()
        with ThreadPoolExecutor(min(len(ENTITIES), os.cpu_count() or 1)) as pool:  # kernels let go of the lock
            done = [
                pool.submit(self._fill_into, entity, asked, out[:, end - width : end])
                for entity, width, end in zip(ENTITIES, widths, ends, strict=True)
            ]
            for one in done:
                one.result()
        return out

    def arrays(self, asked: Asked, wanted: Sequence[str]) -> dict[str, Any]:
        """Return what :func:`velocity_arrays` does."""
        return velocity_columns_of(self.values(asked), asked.amount_minor, wanted)

    def _fill_into(self, entity: Entity, asked: Asked, out: FloatArray) -> None:
        self._fill(entity, asked)(out)

    def _fill(self, entity: Entity, asked: Asked) -> Callable[[FloatArray], None]:
        questions, until = _questions(self._log, asked, entity), asked.until_us
        if until is None:
            if entity not in self._plain:
                self._plain[entity] = HistoryReader(self._log.history(entity))
            return partial(self._plain[entity].fill, questions)
        if entity not in self._known:
            self._known[entity] = self._log.known_history(entity)
        return partial(fill_known, self._known[entity], questions, until)


def velocity_columns_of(seen: FloatArray, amount_minor: IntArray, wanted: Sequence[str]) -> dict[str, Any]:
    """Return the wanted columns of ``VELOCITY`` values, shape ``(n, features)``, and of what crosses them, as Arrow."""
    names = set(wanted)
    crosses = any(feature.name in names for feature in CROSS_FEATURES)
    crossed = cross_columns(amount_minor, seen) if crosses else np.empty((len(seen), 0))
    columns = [*seen.T, *crossed.T]
    return {
        feature.name: pa.array(column.astype(np.int64)) if feature.whole else nullable(column)
        for feature, column in zip(VELOCITY + (CROSS_FEATURES if crosses else ()), columns, strict=True)
        if feature.name in names
    }


def _questions(log: Log, asked: Asked, entity: Entity) -> Questions:
    table = asked.table
    return log.questions(
        entity,
        key=table[JOIN_KEYS[entity]],
        as_of_ms=asked.as_of_ms,
        party=table[TOKENS[entity]],
        place=places(table["latitude"], table["longitude"]),
    )


def states_at(history: History, key: IntArray, as_of_ms: IntArray) -> tuple[Any, Any]:
    """Return the state and the revision of each row's key just before its time, as Arrow arrays.

    Slow: it replays each key's past for each row. Values of windows are read from the log directly
    (:func:`velocity_arrays`); this is for people who ask for a state itself.
    """
    held: list[bytes | None] = []
    revisions: list[int | None] = []
    for number, as_of in zip(key.tolist(), as_of_ms.tolist(), strict=True):
        past = history.of(number) if number >= 0 else history.changes[:0]
        past = past[: np.searchsorted(past["time"], as_of)]
        state, revision = state_from_history(history.entity, past) if len(past) else (None, None)
        held.append(state)
        revisions.append(revision)
    return pa.array(held, pa.binary()), pa.array(revisions, pa.int64())


def known_states_at(history: KnownHistory, key: IntArray, as_of_ms: IntArray, until_us: IntArray) -> tuple[Any, Any]:
    """Return what :func:`states_at` does, of the changes that had arrived by ``until_us``."""
    held: list[bytes | None] = []
    revisions: list[int | None] = []
    for number, as_of, until in zip(key.tolist(), as_of_ms.tolist(), until_us.tolist(), strict=True):
        seen = history.visible(number, as_of, until) if number >= 0 else history.changes[:0]
        past = sort_history(history.entity, np.zeros(len(seen), np.int64), seen, 1).of(0)
        state, revision = state_from_history(history.entity, past) if len(past) else (None, None)
        held.append(state)
        revisions.append(revision)
    return pa.array(held, pa.binary()), pa.array(revisions, pa.int64())


def latest_states(log: Log, entity: Entity, *, first_ms: int, columns: Sequence[str], time: str) -> Any:
    """Return the state of every ``entity`` at the end of a log, as an Arrow table: what materializing writes.

    Parameters
    ----------
    log
        Loaded from its beginning: a revision counts every change there ever was.
    first_ms
        Entities without a change since then are left out.
    columns
        Features wanted of ``{entity}_state`` (bytes) and ``{entity}_revision`` (how many changes made it).
    time
        Name of the column for the time of the newest change.
    """
    latest = LatestStates(log, entity, first_ms=first_ms, columns=columns, time=time)
    return pa.concat_tables(latest.tables())


class LatestStates:
    """The states of :func:`latest_states`, made some thousands at a time."""

    def __init__(self, log: Log, entity: Entity, *, first_ms: int, columns: Sequence[str], time: str) -> None:
        self._history, self._keys = log.history(entity), log.keys[entity]
        self._columns, self._time = columns, time
        starts, times = self._history.starts, self._history.changes["time"]
        owned = np.flatnonzero(np.diff(starts) > 0)
        self._newest = times[starts[owned + 1] - 1] if len(owned) else np.empty(0, np.int64)
        recent = self._newest >= first_ms
        self._chosen, self._newest = owned[recent], self._newest[recent]

    def row_count(self) -> int:
        """Return how many states there are."""
        return len(self._chosen)

    def tables(self) -> Iterator[Any]:
        """Yield the states in Arrow tables of at most ``STATES`` rows; there is always one."""
        for start in range(0, max(1, len(self._chosen)), STATES):
            yield self._table(slice(start, start + STATES))

    def _table(self, part: slice) -> Any:
        history, chosen = self._history, self._chosen[part]
        entity = history.entity
        pieces = [history.of(key) for key in chosen.tolist()]
        starts = np.cumsum([0, *map(len, pieces)]).astype(np.int64)
        built = states_from_history(entity, np.concatenate([history.changes[:0], *pieces]), starts)
        values = {
            f"{entity}_state": pa.array([state for state, _ in built], pa.binary()),
            f"{entity}_revision": pa.array([revision for _, revision in built], pa.int64()),
        }
        table = {JOIN_KEYS[entity]: self._keys.take(pa.array(chosen))} | {name: values[name] for name in self._columns}
        return pa.table(table | {self._time: pa.array(self._newest[part] * 1000).cast(MOMENT)})
