"""What happens in a fleet's queues, event by event: kernels over one state, behind :mod:`simulation.queueing`.

References
----------
Kiefer and Wolfowitz, "On the theory of queues with many servers", 1955. Takács, "A single-server queue with feedback",
1963. Welch, "On a generalized M/G/1 queuing process in which the first customer of each busy period receives
exceptional service", 1964.
"""

from typing import Any, Final

import numpy as np

from fraud.kernels import kernel
from simulation.randomness import FloatArray, IntArray

NOBODY: Final = -1
TURN_ENDS, STORE_ANSWERS, LEAVES = 0, 1, 2
"""What may come next for a request."""

REQUEST: Final = np.dtype(
    [
        ("arrived", np.float64),
        ("worker_s", np.float64),
        ("beyond_s", np.float64),
        ("worker", np.int64),
        ("second", np.int64),  # 1 from the end of the first turn on
        ("behind", np.int64),  # who comes next in the queue of its worker
    ]
)
"""A request in flight."""

WORKER: Final = np.dtype(
    [
        ("serving", np.int64),
        ("head", np.int64),
        ("tail", np.int64),
        ("has", np.int64),  # requests that have not had their last turn
        ("promised", np.float64),  # when all that it has taken would be done if it worked without a break
        ("idle_since", np.float64),
        ("pause_at", np.float64),
        ("left_over", np.float64),  # requests finished since its last pause
        ("worked_s", np.float64),
    ]
)
"""A worker: whom it serves, who waits, and times (s); those of one instance stand side by side."""

EVENT: Final = np.dtype([("when", np.float64), ("what", np.int64), ("whose", np.int64)])
"""What comes next; those to come are a heap."""

MANY: Final = 32
"""As many requests at a worker are as many as any."""

RULES: Final = np.dtype(
    [
        ("pause_every_s", np.float64),
        ("pause_per_request_s", np.float64),
        ("cold", np.float64),
        ("with_others", np.float64, (MANY,)),  # how much slower a turn is by requests at its worker, from one on
        ("first_turn", np.float64),
    ]
)
"""What holds for every worker, as :class:`~simulation.queueing.Fleet` is given it."""

Records = Any
"""An array of one of these."""

State = tuple[Records, Records, Records, Records, IntArray, IntArray, IntArray]
"""All of a fleet: rules (one), requests, workers, events to come, places for requests that nobody has, requests
outstanding by instance, and three counters. A plain tuple: a cached kernel would seek a class of ours by its name, and
not be readable once that is another.
"""

EVENTS, FREE, FIRST_ASKED = 0, 1, 2
"""Counters: events to come; free places; the instance that is asked first next time."""


@kernel
def _expect(events: Records, counters: IntArray, when: float, what: int, whose: int) -> None:
    """Put an event on the heap."""
    child = counters[EVENTS]
    counters[EVENTS] += 1
    while child > 0:
        parent = (child - 1) // 2
        if events[parent].when <= when:
            break
        events[child] = events[parent]
        child = parent
    events[child].when = when
    events[child].what = what
    events[child].whose = whose


@kernel
def _drop_earliest(events: Records, counters: IntArray) -> None:
    """Take the earliest event off the heap."""
    counters[EVENTS] -= 1
    last = counters[EVENTS]
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= last:
            break
        if child + 1 < last and events[child + 1].when < events[child].when:
            child += 1
        if events[child].when >= events[last].when:
            break
        events[parent] = events[child]
        parent = child
    events[parent] = events[last]


@kernel
def _begin(
    rules: Records,
    requests: Records,
    workers: Records,
    events: Records,
    counters: IntArray,
    request: int,
    now: float,
    slower: float,
) -> None:
    """Let the worker of a request begin its turn at ``now``, or after a pause that is due."""
    worker = requests[request].worker
    if rules[0].pause_per_request_s > 0.0 and now >= workers[worker].pause_at:
        paused_at = max(workers[worker].idle_since, workers[worker].pause_at)
        workers[worker].pause_at = (np.floor(now / rules[0].pause_every_s) + 1.0) * rules[0].pause_every_s
        now = max(now, paused_at + rules[0].pause_per_request_s * workers[worker].left_over)
        workers[worker].left_over = 0.0
    share = 1.0 - rules[0].first_turn if requests[request].second else rules[0].first_turn
    takes = share * slower * requests[request].worker_s
    workers[worker].serving = request
    workers[worker].worked_s += takes
    _expect(events, counters, now + takes, TURN_ENDS, request)


@kernel
def _queue(
    rules: Records,
    requests: Records,
    workers: Records,
    events: Records,
    counters: IntArray,
    request: int,
    now: float,
) -> None:
    """Give a request to its worker, which begins at once when it is idle."""
    worker = requests[request].worker
    if workers[worker].serving == NOBODY:
        _begin(rules, requests, workers, events, counters, request, now, rules[0].cold)
        return
    requests[request].behind = NOBODY
    if workers[worker].head == NOBODY:
        workers[worker].head = request
    else:
        requests[workers[worker].tail].behind = request
    workers[worker].tail = request


@kernel
def _end_turn(
    rules: Records,
    requests: Records,
    workers: Records,
    events: Records,
    counters: IntArray,
    request: int,
    now: float,
) -> float:
    """Let a worker go on to the next turn; return the latency of the request when this was its last, else -1."""
    worker = requests[request].worker
    beyond, latency = requests[request].beyond_s, -1.0
    if rules[0].first_turn < 1.0 and requests[request].second == 0:
        requests[request].second = 1
        _expect(events, counters, now + beyond, STORE_ANSWERS, request)
    else:
        left = now if requests[request].second else now + beyond
        latency = left - requests[request].arrived
        workers[worker].left_over += 1.0
        workers[worker].has -= 1
        _expect(events, counters, left, LEAVES, request)
    follower = workers[worker].head
    workers[worker].serving = NOBODY
    workers[worker].idle_since = now
    if follower != NOBODY:
        workers[worker].head = requests[follower].behind
        slower = rules[0].with_others[min(MANY, workers[worker].has) - 1]
        _begin(rules, requests, workers, events, counters, follower, now, slower)
    return latency


@kernel
def advance(state: State, until: float, latencies: FloatArray, count: int) -> int:
    """Let everything happen that does until then; return how many ``latencies`` are known, of which ``count`` were."""
    rules, requests, workers, events, free, outstanding, counters = state
    workers_each = len(workers) // len(outstanding)
    while counters[EVENTS] > 0 and events[0].when <= until:
        now, what, request = events[0].when, events[0].what, events[0].whose
        _drop_earliest(events, counters)
        if what == TURN_ENDS:
            latency = _end_turn(rules, requests, workers, events, counters, request, now)
            if latency >= 0.0:
                latencies[count] = latency
                count += 1
        elif what == STORE_ANSWERS:
            _queue(rules, requests, workers, events, counters, request, now)
        else:
            outstanding[requests[request].worker // workers_each] -= 1
            free[counters[FREE]] = request
            counters[FREE] += 1
    return count


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
def _promise(workers: Records, first: int, count: int, arrival: float, worker_s: float, cold: float) -> int:
    """Return which of ``count`` workers from ``first`` on has the least work left; it is promised this too."""
    chosen = first
    for worker in range(first + 1, first + count):
        if workers[worker].promised < workers[chosen].promised:
            chosen = worker
    slower = cold if workers[chosen].promised <= arrival else 1.0
    workers[chosen].promised = max(arrival, workers[chosen].promised) + slower * worker_s
    return chosen


@kernel
def serve(state: State, work: FloatArray, open_instances: IntArray, latencies: FloatArray) -> int:
    """Let requests arrive, ``work`` as :meth:`simulation.queueing.Fleet.serve` has it; return how many are known."""
    rules, requests, workers, events, free, outstanding, counters = state
    workers_each = len(workers) // len(outstanding)
    count = 0
    for row in range(work.shape[1]):
        arrival, worker_s = work[0, row], work[1, row]
        if counters[EVENTS] > 0 and events[0].when <= arrival:
            count = advance(state, arrival, latencies, count)
        place = _least(open_instances, outstanding, counters[FIRST_ASKED])
        counters[FIRST_ASKED] = place + 1
        instance = open_instances[place]
        outstanding[instance] += 1
        counters[FREE] -= 1
        request = free[counters[FREE]]
        requests[request].arrived = arrival
        requests[request].worker_s = worker_s
        requests[request].beyond_s = work[2, row]
        requests[request].second = 0
        requests[request].worker = _promise(
            workers, instance * workers_each, workers_each, arrival, worker_s, rules[0].cold
        )
        workers[requests[request].worker].has += 1
        _queue(rules, requests, workers, events, counters, request, arrival)
    return count
