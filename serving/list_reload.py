"""Lists while they are served: a thread sees that they changed, reads them whole and puts them in place.

What cannot be read keeps the lists of before in force, is said once and counted, and is tried again: a malformed file
when it changes, one that cannot be reached at every look. Before the first good file nothing is listed.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from fraud.errors import TollgateError
from serving.lists import NOTHING, InvalidList, Lists, fingerprint, read_lists
from serving.logs import Seldom, note, place_of, warn
from serving.metrics import Gauge, Metrics
from stores.credentials import NoCredentials
from stores.s3 import S3Unavailable

POLL_S: Final = 1.0
CLOSING_S: Final = 5.0
"""How long the end of the process waits for a look that is under way."""


class ListSource(Protocol):
    """Where lists lie."""

    @property
    def poll_s(self) -> float:
        """Seconds between two looks."""

    @property
    def patience(self) -> int:
        """Looks in a row that may not reach it before the lists in force count as outdated."""

    @property
    def first_wait_s(self) -> float | None:
        """How long the start waits for the first look; null for as long as it takes."""

    def look(self) -> Lists | None:
        """Return the lists if they are others than at the last look; null when they are not.

        Raises
        ------
        InvalidList
            They are others, and malformed; not raised again for the same.
        S3Unavailable, NoCredentials
            They cannot be reached; raised as long as that is so.
        """


class ListFolder:
    """A file or folder on this machine."""

    poll_s = POLL_S
    patience = 1
    first_wait_s = None

    def __init__(self, place: Path) -> None:
        self._place = place
        self._seen: tuple[object, ...] | None = None

    def look(self) -> Lists | None:
        """See :meth:`ListSource.look`."""
        seen = fingerprint(self._place)
        if seen == self._seen:
            return None
        self._seen = seen
        return read_lists(self._place)


class ListReloader:
    """Watches ``source`` and hands new lists to ``take``."""

    def __init__(self, source: ListSource, *, take: Callable[[Lists], None], metrics: Metrics) -> None:
        self._source = source
        self._take = take
        self._metrics = metrics
        self._lists = NOTHING
        self._begun = False
        self._refused = False
        self._missed = 0
        self._looked = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lists", daemon=True)
        self._seldom = Seldom()
        metrics.gauges += [
            Gauge("tollgate_list_entries", "Entries in force.", self._in_force, ("list",)),
            Gauge("tollgate_lists_outdated", "1 while the lists cannot be read.", lambda: {(): float(self.outdated)}),
        ]

    @property
    def outdated(self) -> bool:
        """Whether there may be other lists than those in force."""
        return not self._begun or self._refused or self._missed >= self._patience

    def start(self) -> None:
        """Start watching; wait for the first look as long as the source has it."""
        if self._source.first_wait_s is None:
            self.look()
            self._looked.set()
        self._thread.start()
        self._looked.wait(self._source.first_wait_s)

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join(CLOSING_S)

    def look(self) -> None:
        """Put the lists in force if they are others than last time."""
        try:
            new = self._source.look()
        except InvalidList as error:
            self._reached()
            self._refused = True
            self._tell(error)
            return
        except (S3Unavailable, NoCredentials) as error:
            self._missed += 1
            if self._missed == self._patience:
                self._tell(error)
            return
        self._reached()
        if new is None:
            return
        self._lists, self._begun, self._refused = new, True, False
        self._take(new)
        self._metrics.lists_loaded.add()
        note("lists_loaded", entries=new.size)

    @property
    def _patience(self) -> int:
        return self._source.patience if self._begun else 1

    def _reached(self) -> None:
        if self._missed >= self._patience:
            note("lists_reached", missed=self._missed)
        self._missed = 0

    def _tell(self, error: TollgateError) -> None:
        self._metrics.lists_refused.add()
        warn("lists_refused", reason=str(error), kept=self._lists.size)

    def _run(self) -> None:
        if not self._looked.is_set():
            self._try_to_look()
            self._looked.set()
        while not self._stop.wait(self._source.poll_s):
            self._try_to_look()

    def _try_to_look(self) -> None:
        try:
            self.look()
        except Exception as error:  # noqa: BLE001  # the outermost loop of this thread: it must not end
            self._seldom.warn("lists_reload_failed", error=type(error).__name__, at=place_of(error))

    def _in_force(self) -> dict[tuple[str, ...], float]:
        counts = self._lists.counts(time.time_ns() // 1_000_000)
        return {(name,): float(count) for name, count in counts.items()}
