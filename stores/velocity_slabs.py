"""Windows of any number of rows, with no more of the log in memory than was allowed.

A question reaches ``REACH_MS`` back. When the log that all rows reach is longer than allowed it is held one stretch of
time after the other: as many days of questions as fit beside their reach. Rows that are asked about in order of time
stream through; others are evaluated stretch by stretch into a scratch file, and read from there in their own order.
"""

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.features import VELOCITY
from fraud.windows import DAY
from stores.columns import FloatArray, IntArray
from stores.files import Location
from stores.log import REACH_MS, load_log, log_days
from stores.windows_join import SLAB, Asked, Windows

MOST_ROWS: Final = 12_000_000
"""Rows of the log in memory at a time, unless configured otherwise: about 4 GB."""


class VelocitySlabs:
    """Evaluates the windows of rows, slab by slab.

    Parameters
    ----------
    lake
        Whose log.
    asked
        All the rows, in their own order.
    most_rows
        How many rows of the log may be in memory; a day with its reach is held even if it has more.
    """

    def __init__(self, lake: Location, asked: Asked, most_rows: int = MOST_ROWS) -> None:
        self._lake = lake
        self._asked = asked
        times = asked.as_of_ms
        self._in_order = bool((times[1:] >= times[:-1]).all())
        self._order: IntArray | None = None if self._in_order else np.argsort(times, kind="stable")
        self._ends = self._plan(times if self._order is None else times[self._order], most_rows)
        self._held = -1
        self._windows: Windows | None = None
        self._scratch: npt.NDArray[np.float64] | None = None

    @property
    def stretches(self) -> int:
        """How many stretches of the log are held, one after the other."""
        return len(self._ends)

    def values(self, rows: slice) -> FloatArray:
        """Return every value of ``VELOCITY`` of the rows ``start:stop``, shape ``(n, features)``; NaN is null."""
        start, stop, _ = rows.indices(len(self._asked.as_of_ms))
        if self._in_order:
            return self._sorted_values(start, stop)
        if self.stretches <= 1:
            return self._reader(0).values(self._asked.part(slice(start, stop)))
        if self._scratch is None:
            self._scratch = self._evaluate_all()
        return np.asfortranarray(self._scratch[start:stop])

    def _plan(self, times: IntArray, most_rows: int) -> list[int]:
        """Return where each stretch of the sorted rows ends."""
        if not len(times):
            return [0]
        counts = log_days(self._lake, first_ms=int(times[0]), last_ms=int(times[-1]))
        if sum(counts.values()) <= most_rows:
            return [len(times)]
        days = times // DAY
        edges = [*(np.flatnonzero(np.diff(days)) + 1).tolist(), len(times)]
        ends, start = [], 0
        for place, edge in enumerate(edges):
            following = edges[place + 1] if place + 1 < len(edges) else edge
            if following == edge or _log_rows(counts, int(times[start]), int(times[following - 1])) > most_rows:
                ends.append(edge)
                start = edge
        return ends

    def _sorted_values(self, start: int, stop: int) -> FloatArray:
        pieces: list[FloatArray] = []
        first = 0
        for number, end in enumerate(self._ends):
            low, high = max(start, first), min(stop, end)
            if low < high or (start == stop and not pieces):
                pieces.append(self._reader(number).values(self._asked.part(slice(low, high))))
            first = end
        return pieces[0] if len(pieces) == 1 else np.asfortranarray(np.concatenate(pieces))

    def _evaluate_all(self) -> npt.NDArray[np.float64]:
        """Evaluate all rows in order of time into a file that vanishes with it, a row of the file for each row."""
        order = self._order if self._order is not None else np.arange(len(self._asked.as_of_ms))
        with tempfile.TemporaryFile() as file:
            scratch = np.memmap(file, np.float64, "w+", shape=(len(order), len(VELOCITY)))
        first = 0
        for number, end in enumerate(self._ends):
            for start in range(first, end, SLAB):
                places = order[start : min(start + SLAB, end)]
                scratch[places] = self._reader(number).values(self._asked.take(places))
            first = end
        return scratch

    def _reader(self, number: int) -> Windows:
        """Return the log of one stretch; the one before is let go first."""
        if self._windows is None or self._held != number:
            self._windows = None
            first = self._ends[number - 1] if number else 0
            places = slice(first, self._ends[number])
            times = self._asked.as_of_ms[places if self._order is None else self._order[places]]
            bounds = (int(times.min()), int(times.max())) if len(times) else (0, 0)
            arrivals = self._asked.until_us is not None
            self._windows = Windows(load_log(self._lake, first_ms=bounds[0], last_ms=bounds[1], arrivals=arrivals))
            self._held = number
        return self._windows


def _log_rows(counts: Mapping[str, int], first_ms: int, last_ms: int) -> int:
    """Return the rows of the days that questions from ``first_ms`` to ``last_ms`` may see."""
    low, high = (
        datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat() for time_ms in (first_ms - REACH_MS, last_ms)
    )
    return sum(rows for day, rows in counts.items() if low <= day <= high)
