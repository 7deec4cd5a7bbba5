"""The phases of the spike certificate: what load comes when, and what is done to the store meanwhile."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Span = tuple[float, float]
Disturbance = Callable[["Store", float], None]
"""Takes the store and the moment, on ``time.perf_counter``, at which its phase begins; runs in a thread."""


@dataclass(frozen=True)
class Phase:
    """Some seconds of load.

    Parameters
    ----------
    spans
        One after another: requests per second, seconds.
    storm
        Requests per second of card testing at one merchant on top of it.
    disturbance
        What is done to the store.
    whole
        Whether no answer may be degraded.
    """

    name: str
    spans: tuple[Span, ...]
    storm: float = 0.0
    disturbance: Disturbance | None = None
    whole: bool = True

    @property
    def seconds(self) -> float:
        """Return how long it takes."""
        return sum(seconds for _, seconds in self.spans)

    def arrivals(self, rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Return when requests are due, from the phase's begin, sorted, and which of them belong to the storm."""
        times, begun = [], 0.0
        for rate, seconds in self.spans:
            times.append(begun + np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds))))
            begun += seconds
        calm = np.concatenate(times)
        storm = rng.uniform(0.0, begun, rng.poisson(self.storm * begun))
        due = np.concatenate((calm, storm))
        order = np.argsort(due, kind="stable")
        return due[order], (np.arange(len(due)) >= len(calm))[order]


class Store:
    """The Valkey process under the scorer; ``start`` gives another one, filled, and its process id.

    Neither looking for the process nor filling it may take the generator's time: both share its interpreter.
    """

    def __init__(self, start: Callable[[], int]) -> None:
        self._start = start
        self.pid = start()

    def restart(self) -> None:
        """Start a new one, filled."""
        self.pid = self._start()


def pulse(store: Store, begun: float) -> None:
    """Stop the store for 15 ms of every 100 ms: slower than usual, faster than the deadline."""
    pid = store.pid
    _await(begun + 1.0)
    while time.perf_counter() < begun + 5.0:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.015)
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.085)


def hang(store: Store, begun: float) -> None:
    """Stop the store for two seconds."""
    pid = store.pid
    _await(begun + 1.0)
    os.kill(pid, signal.SIGSTOP)
    _await(begun + 3.0)
    os.kill(pid, signal.SIGCONT)


def kill(store: Store, begun: float) -> None:
    """Kill the store, and start a filled one two seconds later."""
    pid = store.pid
    _await(begun + 1.0)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _await(begun + 3.0)
    store.restart()


def _await(moment: float) -> None:
    time.sleep(max(0.0, moment - time.perf_counter()))


def phases(base: float) -> tuple[Phase, ...]:
    """Return the certificate's phases around ``base`` requests per second."""
    return (
        Phase("steady", ((base, 6.0),)),
        Phase("step x2", ((2 * base, 5.0),)),
        Phase("step x5", ((5 * base, 5.0),)),
        Phase("burst x10 in one second", ((base, 2.0), (10 * base, 1.0), (base, 3.0))),
        Phase("card-testing storm", ((base, 5.0),), storm=4 * base),
        Phase("slow store (15 ms pauses)", ((2 * base, 6.0),), disturbance=pulse, whole=False),
        Phase("store hangs for 2 s", ((2 * base, 6.0),), disturbance=hang, whole=False),
        Phase("store killed, back after 2 s", ((2 * base, 7.0),), disturbance=kill, whole=False),
        Phase("burst x10 while recovering", ((base, 1.0), (10 * base, 1.0), (base, 3.0)), whole=False),
        Phase("steady again", ((base, 5.0),)),
    )


PLOT_BUCKET_S: Final = 0.25
