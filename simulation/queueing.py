"""Queues of a fleet, exactly: every arrival is routed, waits its turn, is served once and leaves.

A request goes to the open instance with the fewest requests outstanding, where the first free of ``workers`` takes it
in order of arrival (the recursion of Kiefer and Wolfowitz). A worker that was idle takes longer for its first request:
it has to be woken and its caches are cold (Welch's exceptional first service). After the worker a request may spend
time beyond it, waiting for the store or on the wire, which keeps no worker busy but counts as outstanding.

References
----------
Kiefer and Wolfowitz, "On the theory of queues with many servers", 1955. Welch, "On a generalized M/G/1 queuing process
in which the first customer of each busy period receives exceptional service", 1964.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.kernels import kernel
from simulation.randomness import FloatArray, IntArray

BUCKETS: Final = 2_048
FINEST_S: Final = 1e-5
RATIO: Final = 1.01
"""A latency falls into a bucket 1 % wide, from 10 microseconds to some two hours."""


@kernel
def _enter(flight: FloatArray, size: int, departure: float, instance: int) -> None:
    """Put a departure on the heap ``flight``, shape ``(2, capacity)``, of which ``size`` are used."""
    child = size
    while child > 0:
        parent = (child - 1) // 2
        if flight[0, parent] <= departure:
            break
        flight[0, child] = flight[0, parent]
        flight[1, child] = flight[1, parent]
        child = parent
    flight[0, child] = departure
    flight[1, child] = instance


@kernel
def _leave(flight: FloatArray, size: int) -> int:
    """Take the earliest departure off the heap of ``size``; return its instance."""
    instance = int(flight[1, 0])
    last = size - 1
    departure = flight[0, last]
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= last:
            break
        if child + 1 < last and flight[0, child + 1] < flight[0, child]:
            child += 1
        if flight[0, child] >= departure:
            break
        flight[0, parent] = flight[0, child]
        flight[1, parent] = flight[1, child]
        parent = child
    flight[0, parent] = departure
    flight[1, parent] = flight[1, last]
    return instance


@kernel
def _drain(flight: FloatArray, counters: IntArray, outstanding: IntArray, until: float) -> None:
    while counters[0] > 0 and flight[0, 0] <= until:
        outstanding[_leave(flight, counters[0])] -= 1
        counters[0] -= 1


@kernel
def _least(open_instances: IntArray, outstanding: IntArray, first: int) -> int:
    """Return the place in ``open_instances`` with the fewest outstanding, ties going round from ``first``."""
    count = len(open_instances)
    best = first % count
    for step in range(1, count):
        place = (first + step) % count
        if outstanding[open_instances[place]] < outstanding[open_instances[best]]:
            best = place
    return best


@kernel
def _pause(free: FloatArray, pausing: FloatArray, rhythm: FloatArray, arrival: float) -> None:
    """Let the workers of one instance pause if a pause was due before ``arrival``, then count the arrival."""
    every = rhythm[0]
    if arrival >= pausing[0]:
        for worker in range(len(free)):
            free[worker] = max(free[worker], pausing[0]) + pausing[1] * rhythm[1]
        pausing[0] = (np.floor(arrival / every) + 1.0) * every
        pausing[1] = 0.0
    pausing[1] += 1.0


@kernel
def _serve(
    work: FloatArray,
    open_instances: IntArray,
    free: FloatArray,
    outstanding: IntArray,
    flight: FloatArray,
    counters: IntArray,
    pausing: FloatArray,
    rhythm: FloatArray,
) -> FloatArray:
    latency = np.empty(work.shape[1])
    for row in range(work.shape[1]):
        arrival = work[0, row]
        _drain(flight, counters, outstanding, arrival)
        place = _least(open_instances, outstanding, counters[1])
        counters[1] = place + 1
        instance = open_instances[place]
        if rhythm[1] > 0.0:
            _pause(free[instance], pausing[instance], rhythm, arrival)
        worker = 0
        for other in range(1, free.shape[1]):
            if free[instance, other] < free[instance, worker]:
                worker = other
        woken = rhythm[2] if free[instance, worker] <= arrival else 0.0
        done = max(arrival, free[instance, worker]) + woken + work[1, row]
        free[instance, worker] = done
        departure = done + work[2, row]
        _enter(flight, counters[0], departure, instance)
        counters[0] += 1
        outstanding[instance] += 1
        latency[row] = departure - arrival
    return latency


@kernel
def _tally(latency: FloatArray, buckets: IntArray) -> None:
    scale = 1.0 / np.log(RATIO)
    for value in latency:
        bucket = int(np.log(max(value, FINEST_S) / FINEST_S) * scale)
        buckets[min(bucket, len(buckets) - 1)] += 1


def tally(latency: FloatArray) -> IntArray:
    """Return how many of ``latency`` (s) fall into each bucket, shape ``(BUCKETS,)``."""
    buckets = np.zeros(BUCKETS, np.int64)
    _tally(latency, buckets)
    return buckets


def percentile(buckets: npt.ArrayLike, share: float) -> float:
    """Return the upper edge (s) of the bucket in which ``share`` of the tally is reached; NaN when it is empty.

    Examples
    --------
    >>> round(percentile(tally(np.array([0.01, 0.02, 0.5])), 0.5), 2)
    0.02
    """
    cumulative = np.cumsum(buckets)
    if cumulative[-1] == 0:
        return float("nan")
    bucket = int(np.searchsorted(cumulative, share * cumulative[-1]))
    return float(FINEST_S * RATIO ** (bucket + 1))


def share_above(buckets: npt.ArrayLike, deadline_s: float) -> float:
    """Return the share of a tally whose bucket lies above ``deadline_s``; 0 when it is empty."""
    counts = np.asarray(buckets)
    total = int(counts.sum())
    first = int(np.ceil(np.log(deadline_s / FINEST_S) / np.log(RATIO)))
    return float(counts[max(first, 0) :].sum() / total) if total else 0.0


class Fleet:
    """Instances that serve requests; the caller says which are open and calls in order of time.

    Parameters
    ----------
    instances
        Instances that may ever exist, numbered from 0; each idle at the beginning.
    workers
        Workers of each.
    pause_every_s, pause_per_request_s
        At multiples of the one, an instance does nothing for the other times the requests since its last pause, as a
        log that is written by another thread of the same interpreter makes it.
    wake_s
        How much longer a worker takes for a request that finds it idle.
    """

    def __init__(
        self,
        instances: int,
        *,
        workers: int = 1,
        pause_every_s: float = 1.0,
        pause_per_request_s: float = 0.0,
        wake_s: float = 0.0,
    ) -> None:
        self._pausing = np.zeros((instances, 2))  # when the next pause is due; requests since the last
        self._rhythm = np.array([pause_every_s, pause_per_request_s, wake_s])
        self._free = np.full((instances, workers), -np.inf)
        self._outstanding = np.zeros(instances, np.int64)
        self._flight = np.zeros((2, 1_024))
        self._counters = np.zeros(2, np.int64)  # requests in flight; where the next tie is broken first

    def serve(self, open_instances: Sequence[int], work: FloatArray) -> FloatArray:
        """Serve requests and return their latencies (s), shape ``(n,)``.

        Parameters
        ----------
        open_instances
            Who takes new requests, not empty. The others finish what they have.
        work
            Arrival time (s, ascending, not before the previous call's), time of a worker and time beyond it (s),
            shape ``(3, n)``.
        """
        needed = int(self._counters[0]) + work.shape[1]
        if needed > self._flight.shape[1]:
            grown = np.zeros((2, 2 * needed))
            grown[:, : self._flight.shape[1]] = self._flight
            self._flight = grown
        taking = np.array(open_instances, np.int64)
        queues = (self._free, self._outstanding, self._flight, self._counters)
        return np.asarray(_serve(work, taking, *queues, self._pausing, self._rhythm))

    def outstanding(self, at: float) -> IntArray:
        """Return the requests outstanding at each instance at time ``at`` (s), not before the last arrival."""
        _drain(self._flight, self._counters, self._outstanding, at)
        return self._outstanding.copy()

    def grow(self, instances: int) -> None:
        """Make room for ``instances`` in all; there is never less room than before."""
        added = max(0, instances - len(self._outstanding))
        self._free = np.concatenate([self._free, np.full((added, self._free.shape[1]), -np.inf)])
        self._outstanding = np.concatenate([self._outstanding, np.zeros(added, np.int64)])
        self._pausing = np.concatenate([self._pausing, np.zeros((added, 2))])
