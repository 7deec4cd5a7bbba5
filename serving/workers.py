"""One process per core: a small parent that starts workers, replaces those that die, and drains them all.

A worker is a whole scorer with a listening socket of its own on the shared port (``SO_REUSEPORT``): the kernel spreads
connections evenly, and a socket exists only while its worker is warm and serves. Workers are forked from a parent that
has opened, verified and warmed the bundle, so that they share its pages and a new one serves within milliseconds. The
parent answers nothing, runs no thread and no event loop.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from fraud.errors import TollgateError, sentence
from serving.logs import note, warn

DRAIN_WITHIN_S: Final = 28.0
"""After SIGTERM; what still runs then is killed, before SageMaker would do it at 30 s."""

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
"""Before a worker is replaced: doubled each time one dies young."""

YOUNG_S: Final = 10.0
_STARTING_POLL_S: Final = 0.02
_POLL_S: Final = 1.0
_ENDS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_HEARD: Final = frozenset({*_ENDS, signal.SIGHUP, signal.SIGCHLD})
_READY: Final = b"r"


@dataclass(frozen=True)
class Place:
    """What a worker knows of where it works.

    Parameters
    ----------
    number
        0 up to one less than ``of``; the worker's successor has the same.
    of
        How many workers there are.
    parent
        Becomes readable when the parent is gone.
    """

    number: int
    of: int
    parent: socket.socket

    def ready(self) -> None:
        """Tell the parent that this worker serves."""
        self.parent.send(_READY)


class _Worker:
    """A worker as its parent sees it."""

    def __init__(self, number: int, pid: int, link: socket.socket) -> None:
        self.number = number
        self.pid = pid
        self.link = link
        self.begun = time.monotonic()
        self.is_ready = False

    def look(self) -> bool:
        """Return whether it has ever been ready."""
        if not self.is_ready:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                self.is_ready = self.link.recv(1) == _READY
        return self.is_ready


class Workers:
    """Keeps ``count`` workers at work; ``work`` is what one does, in its own process, until it is told to stop."""

    def __init__(self, count: int, work: Callable[[Place], None]) -> None:
        self._count = count
        self._work = work
        self._running: dict[int, _Worker] = {}
        self._due: dict[int, float] = dict.fromkeys(range(count), 0.0)
        self._pauses: dict[int, float] = dict.fromkeys(range(count), FIRST_PAUSE_S)
        self._proven = False
        self._drain_until = 0.0

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; return the status to end with, 1 when not even the first worker could start."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        try:
            while True:
                self._start_due(before)
                self._hear(signal.sigtimedwait(_HEARD, self._patience_s()))
                self._reap()
                if not self._running and (self._drain_until or not (self._due or self._proven)):
                    return 0 if self._proven or self._drain_until else 1
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _patience_s(self) -> float:
        waiting = self._due or any(not worker.is_ready for worker in self._running.values())
        return _STARTING_POLL_S if waiting or self._drain_until else _POLL_S

    def _start_due(self, mask: Iterable[int]) -> None:
        """Start who is due; the first one alone, so that what ails them all is said once."""
        ready = [worker for worker in self._running.values() if worker.look()]
        self._proven = self._proven or bool(ready)
        if self._drain_until or (self._running and not self._proven):
            return
        for number, due in list(self._due.items()):
            if due <= time.monotonic():
                del self._due[number]
                self._start(number, mask)
                if not self._proven:
                    return

    def _start(self, number: int, mask: Iterable[int]) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for other in self._running.values():
                other.link.close()  # or the parent's end would not be the last to close
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _end(self._work, Place(number, self._count, theirs))
        theirs.close()
        ours.settimeout(0.0)
        self._running[pid] = _Worker(number, pid, ours)

    def _hear(self, heard: "signal.struct_siginfo | None") -> None:
        if self._drain_until and time.monotonic() > self._drain_until:
            self._tell(signal.SIGKILL)
        if heard is None or heard.si_signo == signal.SIGCHLD:
            return
        if heard.si_signo == signal.SIGHUP:
            self._tell(signal.SIGHUP)
        elif not self._drain_until:
            note("workers_drain_begun", workers=len(self._running))
            self._drain_until = time.monotonic() + DRAIN_WITHIN_S
            self._tell(signal.SIGTERM)

    def _tell(self, told: signal.Signals) -> None:
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, told)

    def _reap(self) -> None:
        """Take note of who has ended; as process 1 of a container also of who is nobody's child."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._running:
                self._lost(self._running.pop(pid), os.waitstatus_to_exitcode(status))

    def _lost(self, worker: _Worker, status: int) -> None:
        self._proven = worker.look() or self._proven
        worker.link.close()
        if self._drain_until:
            return
        if not self._proven:
            self._due.clear()  # it has said why, and the others would say the same
            return
        number, lived = worker.number, time.monotonic() - worker.begun
        if lived > YOUNG_S:
            self._pauses[number] = FIRST_PAUSE_S
        pause = self._pauses[number]
        warn("worker_lost", worker=number, pid=worker.pid, status=status, again_in_s=pause)
        self._due[number] = time.monotonic() + pause
        self._pauses[number] = min(LONGEST_PAUSE_S, 2.0 * pause)


def _end(work: Callable[[Place], None], place: Place) -> None:
    """Work, then end this process without the parent's clearing up; an error is one sentence, as everywhere."""
    status = 1
    try:
        work(place)
        status = 0
    except TollgateError as error:
        sys.stderr.write(f"serving: {sentence(error)}\n")
    except Exception as error:  # noqa: BLE001  # the outermost frame of a process: nothing may return into the parent's
        warn("worker_failed", worker=place.number, error=type(error).__name__)
    finally:
        sys.stderr.flush()
        os._exit(status)
