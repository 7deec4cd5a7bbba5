"""What the capacity model is given of the scorer, by the kernel's account: requests, turns, saturation, pauses."""

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

import numpy as np

from bench.accounting import Used
from bench.capacity_processes import Relay, Running
from bench.poll_load import closed_loop, one_by_one
from serving.decisions import PAUSE_S
from simulation.randomness import FloatArray
from simulation.service import from_samples

CONNECTIONS: Final = 32
"""The same in every phase: a request on a connection that was idle for long costs more."""

SINGLE_REQUESTS: Final = 300
MOMENT: Final = 100
SINGLE_S: Final = 1.5
"""Of one turn of single requests at most, pauses included."""
BUSY_REQUESTS: Final = 8_000
NUMBERS: Final = (2, 3, 4, 6, 8, 16)
"""Connections with one request on each: so few keep a scorer busy too, but its event loop has less to do at a time."""
FEW_REQUESTS: Final = 1_500
TURN_REQUESTS: Final = 400
TURN_GAP_S: Final = 0.001


@dataclass(frozen=True)
class Calibration:
    """What the model is given, in seconds.

    Parameters
    ----------
    worker, beyond
        Of single requests: the scorer's processor time, and the rest of the latency.
    first_turn
        Share of a request's processor time that it takes before it has asked the store.
    busy, beside
        Processor time per request under saturation: of the path of a request among many, and of the decision log's
        threads.
    with_others
        How many times as long as ``busy`` the path takes with 1, 2, 3, ... requests at the scorer, the last 1.
    closed_rps
        Requests per second of the closed loop; below ``1 / (busy + beside)`` by what other work took away.
    """

    worker: FloatArray
    beyond: FloatArray
    first_turn: float
    busy: float
    beside: float
    with_others: FloatArray
    closed_rps: float


@dataclass(frozen=True)
class Busy:
    """Seconds per request of a scorer that is never idle: of the processor on its path and beside it, and by the clock.

    ``at_scorer`` is how many requests were there on average (Little's law: their latencies over the time).
    """

    path: float
    beside: float
    clock: float
    at_scorer: float


def busy(running: Running) -> dict[int, Busy]:
    """Keep the scorer busy for a while, with many requests and with fewer; return what one took, by connections."""
    counts = dict.fromkeys(NUMBERS, FEW_REQUESTS) | {CONNECTIONS: BUSY_REQUESTS}
    return {connections: _kept_busy(running, connections, count) for connections, count in counts.items()}


def _kept_busy(running: Running, connections: int, count: int) -> Busy:
    before, began = running.used(), time.perf_counter()
    load = closed_loop(running.port, running.requests, connections=connections, count=count)
    assert load.statuses[200] == count, load.statuses
    seconds = time.perf_counter() - began
    time.sleep(2 * PAUSE_S)  # until the last decisions are written
    scorer = running.used() - before
    return Busy(scorer.first / count, scorer.others / count, seconds / count, sum(load.latencies) / seconds)


def saturation(measured: Sequence[dict[int, Busy]]) -> float:
    """Return the requests per second that one processor does when it does nothing else."""
    many = [each[CONNECTIONS] for each in measured]
    return 1.0 / float(np.median([each.path + each.beside for each in many]))


def single(running: Running, *, number: int, rate: float) -> tuple[FloatArray, FloatArray]:
    """Return processor time and latency (s) of single requests, each after a pause as a load of ``rate`` leaves idle.

    Between busy spells a Poisson load leaves the scorer idle for exponential times of mean ``1 / rate``; the longer it
    was idle, the colder are its caches and the deeper sleeps the processor.
    """
    accounts: list[Used] = []
    gaps = np.random.default_rng(number)

    def between() -> None:
        time.sleep(gaps.exponential(1.0 / rate))  # what is done after an answer belongs to its request
        accounts.append(running.used())

    count = max(MOMENT, min(SINGLE_REQUESTS, int(SINGLE_S * rate)))
    first = number * SINGLE_REQUESTS % len(running.requests)
    some = [*running.requests, *running.requests][first : first + count]
    load = one_by_one(running.port, some, between=between, connections=CONNECTIONS)
    return np.diff([then.first for then in accounts]), np.array(load.latencies)


def first_turn(running: Running, relay: Relay) -> float:
    """Return the median share of the first turn in the processor time of single requests, behind a relay."""
    shares: list[float] = []
    before = running.path_s()

    def between() -> None:
        nonlocal before
        time.sleep(TURN_GAP_S)  # what is done after an answer belongs to its request
        if len(relay.asked) == 1:
            shares.append((relay.asked[0] - before) / (running.path_s() - before))
        relay.asked.clear()
        before = running.path_s()

    one_by_one(running.port, running.requests[:TURN_REQUESTS], between=between, connections=CONNECTIONS)
    return float(np.median(shares[TURN_REQUESTS // 4 :]))


def calibration(
    singles: Sequence[tuple[FloatArray, FloatArray]], measured: Sequence[dict[int, Busy]], turn: float
) -> Calibration:
    """Return what was measured, over all turns."""
    worker = _of_median_moment([spent for spent, _ in singles])
    beyond = _of_median_moment([np.maximum(latency - spent, 0.0) for spent, latency in singles])
    middle = {
        number: np.median([astuple(each[number]) for each in measured], axis=0) for number in (*NUMBERS, CONNECTIONS)
    }
    path, beside, clock, _ = middle[CONNECTIONS].tolist()
    there, taken = np.array([(each[3], each[0]) for each in middle.values()]).T
    number = np.append(np.arange(1.0, CONNECTIONS), there[-1])
    with_others = np.maximum(1.0, np.interp(np.log(number), np.log(there), taken / path))
    return Calibration(worker, beyond, turn, path, beside, with_others, 1.0 / clock)


def _of_median_moment(turns: Sequence[FloatArray]) -> FloatArray:
    """Return quantiles, each the median of those of a hundred requests at a time.

    The loads' percentiles are those of the median quarter of a second: what the machine does elsewhere for a moment is
    in neither.
    """
    moments = [turn[first : first + MOMENT] for turn in turns for first in range(0, len(turn) - MOMENT + 1, MOMENT)]
    return np.asarray(np.median([from_samples(moment.tolist()) for moment in moments], axis=0))


def service_json(found: Calibration, trees: int, depth: int) -> dict[str, Any]:
    """Return service times as JSON: the spread of single requests, the speed of many, how slow a cold worker is."""
    mean = float(found.worker.mean())
    return {
        "source": f"measured: the scorer with {trees} trees of depth {depth} on one of two shared cores",
        "service_ms": _milliseconds(found.worker * (found.busy / mean)),
        "beyond_ms": _milliseconds(found.beyond),
        "cold": round(max(1.0, mean / found.busy), 4),
        "pause_every_ms": PAUSE_S * 1e3,
        "pause_ms_per_request": round(found.beside * 1e3, 5),
        "first_turn": round(found.first_turn, 4),
        "with_others": found.with_others.round(4).tolist(),
    }


def _milliseconds(quantiles: FloatArray) -> list[float]:
    return [round(float(value) * 1e3, 5) for value in quantiles[8::16]]
