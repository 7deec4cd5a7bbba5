"""How long one request takes: measured samples or stated percentiles, drawn from a table of quantiles.

Two parts: the time of a worker, during which it does nothing else, and the time beyond the worker (store, wire), during
which it serves others. The worker's may be two turns with the other part between them. Besides, a worker takes longer
when it was idle or has few requests, and it may pause at fixed times for work left over by its requests.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final, Self

import numpy as np

from fraud.errors import InvalidSetting
from simulation.queue_events import MANY
from simulation.queueing import Fleet
from simulation.randomness import FloatArray

SHIPPED: Final = Path(__file__).with_name("service.json")
"""Service times of the real scorer, as ``bench/capacity_check.py`` measured them."""

QUANTILES: Final = 8_192
"""Entries of a table: the finest tail it can show is one in 8,192."""

KNOWN: Final = {
    "beyond_ms",
    "cold",
    "first_turn",
    "pause_every_ms",
    "pause_ms_per_request",
    "service_ms",
    "source",
    "with_others",
}
"""What a file of service times may say."""

_PLACES: Final = (np.arange(QUANTILES) + 0.5) / QUANTILES


@dataclass(frozen=True, eq=False)
class ServiceTimes:
    """Times (s) of a request.

    Parameters
    ----------
    worker, beyond
        Quantiles of both parts, each ascending, shape ``(QUANTILES,)``.
    source
        Where they are from, for people.
    pause_every, pause_per_request
        When the worker pauses, and how long for each request since the last pause.
    cold
        How many times as long a turn takes that finds its worker idle: it has to be woken, with cold caches.
    first_turn
        Share of the worker's time that it takes before the time beyond, in (0, 1]; the rest comes after.
    with_others
        How many times as long a turn takes that finds its worker at work, with 1, 2, 3, ... requests there; the last,
        1, holds for more.
    """

    worker: FloatArray
    beyond: FloatArray
    source: str
    pause_every: float = 1.0
    pause_per_request: float = 0.0
    cold: float = 1.0
    first_turn: float = 1.0
    with_others: tuple[float, ...] = (1.0,)

    @property
    def mean(self) -> float:
        """Mean time that a request takes from a worker that has always many, pauses included (s)."""
        return float(self.worker.mean()) + self.pause_per_request

    def draw(self, rng: np.random.Generator, count: int) -> tuple[FloatArray, FloatArray]:
        """Return ``count`` independent times of both parts (s)."""
        places = rng.integers(0, QUANTILES, (2, count))
        return self.worker[places[0]], self.beyond[places[1]]

    def saturating_at(self, rate: float, *, workers: int) -> Self:
        """Return times of the same shape, slower or faster, so that ``workers`` are busy all the time at ``rate``."""
        factor = workers / (rate * self.mean)
        source = f"{self.source}, scaled by {factor:.3g}"
        pause = self.pause_per_request * factor
        return replace(self, worker=self.worker * factor, pause_per_request=pause, source=source)


def from_samples(samples: Sequence[float]) -> FloatArray:
    """Return the quantiles of measured times (any unit, kept).

    Raises
    ------
    InvalidSetting
        Fewer than 100 samples, or one that is negative or no number.
    """
    values = np.asarray(samples, np.float64)
    if values.ndim != 1 or len(values) < 100:
        raise InvalidSetting(f"service times: {values.size} samples are too few for a tail; measure at least 100")
    if not (np.all(np.isfinite(values)) and np.all(values >= 0.0)):
        raise InvalidSetting("service times: a sample is negative or no finite number")
    return np.quantile(values, _PLACES)


def from_percentiles(percentiles: Mapping[float, float]) -> FloatArray:
    """Return quantiles through stated percentiles: lognormal between them and beyond the outer ones.

    Parameters
    ----------
    percentiles
        Time at each share in (0, 1), positive and ascending; two at least.

    Examples
    --------
    >>> table = from_percentiles({0.5: 1.0, 0.95: 3.0, 0.99: 4.0})
    >>> np.quantile(table, [0.5, 0.95, 0.99]).round(2).tolist()
    [1.0, 3.0, 4.0]
    """
    shares = sorted(percentiles)
    values = np.array([percentiles[share] for share in shares])
    if len(shares) < 2 or not 0.0 < shares[0] < shares[-1] < 1.0:
        raise InvalidSetting(f"percentiles {shares} are not two or more shares between 0 and 1")
    if not (values[0] > 0.0 and np.all(np.diff(values) >= 0.0)):
        raise InvalidSetting(f"percentiles {values.tolist()} are not positive and ascending")
    normal = NormalDist()
    knots = np.array([normal.inv_cdf(share) for share in shares])
    places = np.array([normal.inv_cdf(place) for place in _PLACES])
    logs = np.interp(places, knots, np.log(values))
    slopes = np.diff(np.log(values)) / np.diff(knots)
    logs += np.where(places < knots[0], (places - knots[0]) * slopes[0], 0.0)
    logs += np.where(places > knots[-1], (places - knots[-1]) * slopes[-1], 0.0)
    quantiles: FloatArray = np.exp(logs)
    return quantiles


def read_service(path: Path) -> ServiceTimes:
    """Read service times from JSON.

    ``{"service_ms": …, "beyond_ms": …}``, where each is a list of measured milliseconds or an object of percentiles
    such as ``{"p50": 0.4, "p95": 0.9, "p99": 1.6}``; ``beyond_ms`` may be absent, and so may the pauses,
    ``"pause_every_ms": 10, "pause_ms_per_request": 0.05``, how many times as long an idle worker takes, ``"cold": 2``,
    and one with 1, 2, 3 requests or more, ``"with_others": [1.4, 1.2, 1]``, and the share of the first turn,
    ``"first_turn": 0.4``.

    Raises
    ------
    InvalidSetting
        The file is not such JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        worker = _table(content["service_ms"])
        beyond = _table(content["beyond_ms"]) if "beyond_ms" in content else np.zeros(QUANTILES)
        pauses = float(content.get("pause_every_ms", 1e3)), float(content.get("pause_ms_per_request", 0.0))
        cold = float(content.get("cold", 1.0))
        with_others = tuple(float(factor) for factor in content.get("with_others", [1.0]))
        first_turn = float(content.get("first_turn", 1.0))
    except OSError as error:
        raise InvalidSetting(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidSetting(f"{path} does not hold service times ({error!r}); see docs/capacity.md") from None
    unknown = sorted(set(content) - KNOWN)
    if unknown:
        raise InvalidSetting(f"{path}: {unknown[0]!r} is none of {', '.join(sorted(KNOWN))}")
    if pauses[0] <= 0.0 or pauses[1] < 0.0:
        raise InvalidSetting(f"{path}: pauses {pauses} are not positive")
    if not 1.0 <= cold < np.inf:
        raise InvalidSetting(f"{path}: an idle worker takes {cold} times as long, which is less than once")
    if not (1 <= len(with_others) <= MANY and all(1.0 <= factor < np.inf for factor in with_others)):
        raise InvalidSetting(f"{path}: 'with_others' is not 1 to {MANY} factors from 1 on")
    if with_others[-1] != 1.0:
        raise InvalidSetting(f"{path}: 'with_others' ends with {with_others[-1]}; 'service_ms' is with many, so with 1")
    if not 0.0 < first_turn <= 1.0:
        raise InvalidSetting(f"{path}: a first turn of {first_turn} is no share above 0 and up to 1")
    source = str(content.get("source", path.name))
    return ServiceTimes(
        worker=worker / 1e3,
        beyond=beyond / 1e3,
        source=source,
        pause_every=pauses[0] / 1e3,
        pause_per_request=pauses[1] / 1e3,
        cold=cold,
        first_turn=first_turn,
        with_others=with_others,
    )


def idle_fleet(service: ServiceTimes, *, instances: int, workers: int) -> Fleet:
    """Return an idle fleet that pauses, and is slow when cold or with few requests, as ``service`` says."""
    return Fleet(
        instances,
        workers=workers,
        pause_every_s=service.pause_every,
        pause_per_request_s=service.pause_per_request,
        cold=service.cold,
        first_turn=service.first_turn,
        with_others=service.with_others,
    )


def _table(content: Any) -> FloatArray:
    if isinstance(content, dict):
        return from_percentiles({float(name.removeprefix("p")) / 100.0: value for name, value in content.items()})
    return from_samples(content)
