"""Queues of a fleet, event by event: every arrival is routed, has its turns of a worker and leaves.

A request goes to the open instance with the fewest requests outstanding and stays with that worker of it which has the
least work left (for requests of one turn that is one queue for all: Kiefer and Wolfowitz). A worker takes turns in the
order in which they could begin. A request may have two, one up to where it asks the store and one from the answer on;
between them its worker takes turns of others, as an event loop does, so that the first to come is not the first to go.
A turn that finds the worker idle takes longer: it has to be woken and its caches are cold (Welch's exceptional first
service). So does one that begins with few others about: a round of an event loop costs much the same whatever number it
serves.
"""

from collections.abc import Sequence

import numpy as np

from simulation.queue_events import EVENT, FREE, MANY, NOBODY, REQUEST, RULES, WORKER, Records, State, advance, serve
from simulation.randomness import FloatArray, IntArray


class Fleet:
    """Instances that serve requests; the caller says which are open and calls in order of time.

    Parameters
    ----------
    instances
        Instances that may ever exist, numbered from 0; each idle at the beginning.
    workers
        Workers of each.
    pause_every_s, pause_per_request_s
        From multiples of the one on, a worker does nothing for the other times the requests it has finished since its
        last pause, as a log that is written by another thread of the same interpreter makes it.
    cold
        How many times as long a turn takes that finds its worker idle, 1 or more.
    with_others
        How many times as long a turn takes that finds its worker at work, with 1, 2, 3, ... requests at that worker as
        it begins, its own and those at the store among them; the last holds for more. Up to ``MANY`` of them.
    first_turn
        Share of the first turn in the time of a worker, in (0, 1]. At 1 there is no second, and the time beyond the
        worker comes after the turn; else it comes between both.
    """

    def __init__(
        self,
        instances: int,
        *,
        workers: int = 1,
        pause_every_s: float = 1.0,
        pause_per_request_s: float = 0.0,
        cold: float = 1.0,
        with_others: Sequence[float] = (1.0,),
        first_turn: float = 1.0,
    ) -> None:
        places = instances * workers
        self._workers_each = workers
        slower = np.append(with_others, np.full(MANY - len(with_others), with_others[-1]))
        self._rules = np.array([(pause_every_s, pause_per_request_s, cold, slower, first_turn)], RULES)
        self._requests = np.zeros(0, REQUEST)
        self._workers = _idle(places)
        self._events = np.zeros(0, EVENT)  # at most as many as requests in flight
        self._free = np.zeros(0, np.int64)
        self._outstanding = np.zeros(instances, np.int64)
        self._counters = np.zeros(3, np.int64)
        self._known = np.empty(0)

    def serve(self, open_instances: Sequence[int], work: FloatArray) -> FloatArray:
        """Take requests; return the latencies (s) that are known by the last arrival, in order of their last turns.

        What is not done by then is returned by a later call: each latency once, by :meth:`finish` at the latest.

        Parameters
        ----------
        open_instances
            Who takes new requests, not empty. The others finish what they have.
        work
            Arrival time (s, ascending, not before the previous call's), time of a worker and time beyond it (s),
            shape ``(3, n)``.
        """
        self._make_room(work.shape[1])
        latencies = np.empty(len(self._requests))
        count = serve(self._state(), work, np.array(open_instances, np.int64), latencies)
        return self._with_known(latencies[:count])

    def finish(self) -> FloatArray:
        """Let every request finish; return the latencies (s) that no call has returned yet."""
        self.outstanding(np.inf)
        return self._with_known(np.empty(0))

    def outstanding(self, at: float) -> IntArray:
        """Return the requests outstanding at each instance at time ``at`` (s), not before the last arrival."""
        latencies = np.empty(len(self._requests))
        count = advance(self._state(), at, latencies, 0)
        self._known = np.concatenate([self._known, latencies[:count]])
        return self._outstanding.copy()

    def worked(self) -> FloatArray:
        """Return the time (s) that each worker has served in turns begun so far, pauses not counted."""
        return np.array(self._workers["worked_s"])

    def grow(self, instances: int) -> None:
        """Make room for ``instances`` in all; there is never less room than before."""
        added = max(0, instances - len(self._outstanding))
        self._workers = np.concatenate([self._workers, _idle(added * self._workers_each)])
        self._outstanding = np.concatenate([self._outstanding, np.zeros(added, np.int64)])

    def _state(self) -> State:
        flight = self._requests, self._workers, self._events
        return self._rules, *flight, self._free, self._outstanding, self._counters

    def _with_known(self, latencies: FloatArray) -> FloatArray:
        known, self._known = self._known, np.empty(0)
        return np.concatenate([known, latencies])

    def _make_room(self, count: int) -> None:
        """Have places for ``count`` requests more."""
        places, left = len(self._requests), int(self._counters[FREE])
        if left >= count:
            return
        added = max(count, places)
        self._requests = np.concatenate([self._requests, np.zeros(added, REQUEST)])
        self._events = np.concatenate([self._events, np.zeros(added, EVENT)])
        self._free = np.concatenate([self._free[:left], np.arange(places, places + added), self._free[left:]])
        self._counters[FREE] += added


def _idle(count: int) -> Records:
    workers = np.zeros(count, WORKER)
    for name in ("serving", "head", "tail"):
        workers[name] = NOBODY
    for name in ("promised", "idle_since"):
        workers[name] = -np.inf
    return workers
