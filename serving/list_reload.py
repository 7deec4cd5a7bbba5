"""Lists while they are served: a thread sees that they changed, reads them whole and puts them in place.

A file that cannot be read keeps the lists of before in force, is said once and counted, and is tried again when it
changes. Before the first good file nothing is listed.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from serving.lists import NOTHING, InvalidList, Lists, fingerprint, read_lists
from serving.logs import Seldom, note, place_of, warn
from serving.metrics import Gauge, Metrics

POLL_S: Final = 1.0


class ListReloader:
    """Watches ``place`` and hands new lists to ``take``."""

    def __init__(self, place: Path, *, take: Callable[[Lists], None], metrics: Metrics) -> None:
        self._place = place
        self._take = take
        self._metrics = metrics
        self._seen: tuple[object, ...] | None = None
        self._lists = NOTHING
        self._refused = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lists", daemon=True)
        self._seldom = Seldom()
        metrics.gauges += [
            Gauge("tollgate_list_entries", "Entries in force.", self._in_force, ("list",)),
            Gauge("tollgate_lists_outdated", "1 while the lists cannot be read.", lambda: {(): float(self._refused)}),
        ]

    def start(self) -> None:
        """Read the lists, then start watching."""
        self.look()
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Read the lists if they are others than last time."""
        seen = fingerprint(self._place)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._lists = read_lists(self._place)
        except InvalidList as error:
            self._refused = True
            self._metrics.lists_refused.add()
            warn("lists_refused", reason=str(error), kept=self._lists.size)
            return
        self._refused = False
        self._take(self._lists)
        self._metrics.lists_loaded.add()
        note("lists_loaded", entries=self._lists.size)

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001  # the outermost loop of this thread: it must not end
                self._seldom.warn("lists_reload_failed", error=type(error).__name__, at=place_of(error))

    def _in_force(self) -> dict[tuple[str, ...], float]:
        counts = self._lists.counts(time.time_ns() // 1_000_000)
        return {(name,): float(count) for name, count in counts.items()}
