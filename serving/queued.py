"""Work off the request path: a bounded queue that never makes anybody wait, and the thread that empties it."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from serving.logs import Seldom, place_of

Item = TypeVar("Item")


class QueuedWork(Generic[Item]):
    """Takes items at once, and does them in batches every ``pause_s`` in a thread of its own.

    Parameters
    ----------
    name
        Of the thread; its failures are logged as ``<name>_failed``.
    work
        Does a batch, at most ``batch`` items.
    lost
        Told how many items the queue did not take.
    length
        Items waiting at most.
    before
        Called before each round, also when nothing waits.
    """

    def __init__(  # each is one of what differs between two logs
        self,
        name: str,
        work: Callable[[list[Item]], None],
        *,
        lost: Callable[[int], None],
        length: int,
        batch: int,
        pause_s: float,
        before: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._work = work
        self._lost = lost
        self._length = length
        self._batch = batch
        self._pause_s = pause_s
        self._before = before
        self._queue: deque[Item] = deque()
        self._overflowed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._seldom = Seldom()

    def start(self) -> None:
        """Start working."""
        self._thread.start()

    def append(self, item: Item) -> None:
        """Take an item, or count it lost when the queue is full; never waits."""
        if len(self._queue) >= self._length:
            self._overflowed += 1
            return
        self._queue.append(item)

    def close(self) -> None:
        """Do what is left and stop."""
        self._stop.set()
        self._thread.join()

    def flush(self) -> None:
        """Do what is queued."""
        if self._before is not None:
            self._before()
        if self._overflowed:
            lost, self._overflowed = self._overflowed, 0
            self._lost(lost)
        while self._queue:
            self._work([self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))])

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            self._flush_safely()
        self._flush_safely()

    def _flush_safely(self) -> None:
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001  # the outermost loop of this thread: it must not end
            self._seldom.warn(f"{self._name}_failed", error=type(error).__name__, at=place_of(error))
