"""An external sort: rows that came in any order, given back day by day, in memory bounded by a run and by a day.

Rows are gathered until a run is full, sorted by (event time, transaction id) and written beside the others. A day is
then one slice of each run, read through the page cache. An id that was met before is kept out, exactly: hashes find
the few ids that may be repeated, and those are compared as text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.hashing import U64Array
from stores.columns import hash_strings, joined, milliseconds
from training.ranking import DAY_MS

IntArray = npt.NDArray[np.int64]

RUN_ROWS: Final = 500_000
_ORDER: Final = [("event_timestamp", "ascending"), ("transaction_id", "ascending")]
_READING_ORDER: Final = "_read"


@dataclass(frozen=True)
class _Run:
    """A sorted file and where each of its days starts."""

    path: Path
    days: IntArray
    starts: IntArray


@dataclass(frozen=True)
class Day:
    """The rows of one UTC day, sorted by event time and id, and those whose id was taken by an earlier row."""

    rows: pa.Table
    repeated: pa.Table


class Runs:
    """Rows on their way from reading order to the order of time.

    Parameters
    ----------
    folder
        For the runs; they are removed with it.
    run_rows
        Rows that a run holds; memory is a few times that.
    """

    def __init__(self, folder: Path, *, run_rows: int = RUN_ROWS) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._run_rows = run_rows
        self._waiting: list[pa.Table] = []
        self._runs: list[_Run] = []
        self._hashes: list[U64Array] = []
        self.rows = 0

    def add(self, rows: pa.Table) -> None:
        """Take rows, with ``event_timestamp`` and ``transaction_id``."""
        if not rows.num_rows:
            return
        place = pa.array(np.arange(self.rows, self.rows + rows.num_rows))
        self._waiting.append(rows.append_column(_READING_ORDER, place))
        self._hashes.append(hash_strings(joined(rows["transaction_id"])))
        self.rows += rows.num_rows
        if sum(len(part) for part in self._waiting) >= self._run_rows:
            self._write()

    def days(self) -> Iterator[Day]:
        """Yield every day with rows, in order."""
        self._write()
        suspects = self._suspects()
        taken: set[str] = set()
        for day in sorted({int(day) for run in self._runs for day in run.days}):
            whole = pa.concat_tables([part for run in self._runs for part in _slice(run, day)])
            whole = whole.sort_by([*_ORDER, (_READING_ORDER, "ascending")]).drop_columns([_READING_ORDER])
            again = _repeats(whole, suspects, taken)
            yield Day(whole.filter(pa.array(~again)), whole.filter(pa.array(again)))

    def _write(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).sort_by(_ORDER).combine_chunks()
        self._waiting = []
        days = milliseconds(table["event_timestamp"]) // DAY_MS
        found, starts = np.unique(days, return_index=True)
        path = self._folder / f"run-{len(self._runs)}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        self._runs.append(_Run(path, found, np.append(starts, len(days)).astype(np.int64)))

    def _suspects(self) -> U64Array:
        """Return the hashes that more than one row has."""
        hashes = np.sort(np.concatenate(self._hashes)) if self._hashes else np.empty(0, np.uint64)
        self._hashes = []
        return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def _slice(run: _Run, day: int) -> list[pa.Table]:
    place = int(np.searchsorted(run.days, day))
    if place == len(run.days) or run.days[place] != day:
        return []
    start, stop = int(run.starts[place]), int(run.starts[place + 1])
    with pa.memory_map(str(run.path)) as source:
        table: Any = pa.ipc.open_file(source).read_all()
    return [table.slice(start, stop - start)]


def _repeats(rows: pa.Table, suspects: U64Array, taken: set[str]) -> npt.NDArray[np.bool_]:
    """Return which rows have an id that an earlier row has; the others' ids are taken from now on."""
    again = np.zeros(rows.num_rows, np.bool_)
    if not len(suspects):
        return again
    ids = pc.cast(joined(rows["transaction_id"]), pa.string())
    for place in np.flatnonzero(np.isin(hash_strings(ids), suspects)).tolist():
        name = ids[place].as_py()
        again[place] = name in taken
        taken.add(name)
    return again
