"""The price of lag: what the model would have caught, had the store been some seconds behind.

A change is visible once the lag has passed since it happened (for a fraud report: since it became known). Every request
is asked again of the log with only what was visible; windows still end at the request, so the newest is missing. With
*write-through* the scorer itself has applied the card's and the device's earlier transactions, and only what the stream
alone knows lags: merchants, declines (the issuer answers later) and fraud reports.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.bundle import ModelBundle
from fraud.features import FEATURE_NAMES, VELOCITY, cross_columns
from fraud.history import History, Questions
from fraud.trees import predict_margin
from fraud.windows import DAY, ENTITIES, VELOCITY_FEATURES, Entity
from monitoring.errors import NothingToCompare
from monitoring.offline import questions_of
from monitoring.visible import reach_of, read_visible
from stores.columns import same_bits
from stores.files import Location
from stores.log import load_log
from training.dataset import read_log
from training.labels import read_labels, read_truth, settle_labels
from training.offline_vectors import history_vectors

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Advance = Callable[[int, int], None]

LAGS_MS: Final = (0, 1_000, 5_000, 60_000, 600_000)
BURST: Final = 2
"""Earlier transactions on the card within the burst window from which on a request is part of a burst."""

BURST_WINDOWS: Final = ("1m", "10m", "1h")

_FIRST: Final = FEATURE_NAMES.index(VELOCITY[0].name)
_END_OF_TIME: Final = 2**42


@dataclass(frozen=True)
class Priced:
    """What one lag costs.

    Parameters
    ----------
    lag_ms, write_through
        Which one.
    differs, burst_differs
        Share of vectors that differ in any bit from those without lag; of all requests, of requests in bursts.
    caught, burst_caught
        Share of the frauds above the threshold that gives the same false positives; null where there is no fraud.
    caught_at_kept_threshold
        Share of all frauds above the threshold chosen without lag.
    """

    lag_ms: int
    write_through: bool
    differs: float
    burst_differs: float
    caught: float | None
    burst_caught: float | None
    caught_at_kept_threshold: float | None


@dataclass(frozen=True)
class Staleness:
    """The price of every lag, over the same requests."""

    rows: int
    frauds: int
    burst_rows: int
    burst_frauds: int
    burst_window: str
    truth: str
    fpr: float
    priced: tuple[Priced, ...]


def price_of_lag(
    lake: Path,
    bundle: ModelBundle,
    *,
    days: int,
    fpr: float,
    burst_window: str = "1m",
    lags_ms: Sequence[int] = LAGS_MS,
    advance: Advance = lambda _done, _all: None,
) -> Staleness:
    """Return the price of each lag on the last days of a lake.

    Parameters
    ----------
    bundle
        The model that scores.
    days
        Last days of the lake to ask about; best days that the model was not trained on.
    fpr
        False positives, as a share of the legitimate requests, at which the caught fraud is compared.
    burst_window
        One of ``BURST_WINDOWS``.

    Raises
    ------
    NothingToCompare
        There is no transaction, or not both kinds of them.
    """
    rows = last_days(lake, days)
    fraud, truth = truth_of(lake, rows)
    if not fraud.any() or fraud.all():
        raise NothingToCompare(f"the last {days} days of {lake} hold {int(fraud.sum())} frauds in {len(fraud)} rows")
    current = history_vectors(lake, rows)
    burst = np.asarray(current[:, FEATURE_NAMES.index(f"card_transaction_count_{burst_window}")] >= BURST, np.bool_)
    unlagged = score_all(bundle, current)
    asked = Lagging(lake, rows, current)
    cases = [(lag, through) for lag in lags_ms for through in ((False, True) if lag else (False,))]
    kept: float | None = None
    priced = []
    for done, (lag, through) in enumerate(cases):
        vectors = asked.vectors(lag, write_through=through)
        differs = np.asarray((~same_bits(vectors, current)).any(axis=1), np.bool_)
        scores = unlagged.copy()
        scores[differs] = score_all(bundle, vectors[differs])
        threshold = threshold_at_fpr(scores, fraud, fpr)
        kept = threshold if kept is None else kept
        priced.append(
            Priced(
                lag,
                through,
                float(differs.mean()),
                float(differs[burst].mean()) if burst.any() else 0.0,
                _share(scores[fraud] > threshold),
                _share(scores[fraud & burst] > threshold),
                _share(scores[fraud] > kept),
            )
        )
        advance(done + 1, len(cases))
    counts = len(fraud), int(fraud.sum()), int(burst.sum()), int((fraud & burst).sum())
    return Staleness(*counts, burst_window, truth, fpr, tuple(priced))


class Lagging:
    """The features of some rows as a store that lags would have given them.

    Parameters
    ----------
    lake
        Whose log.
    rows
        Of the log.
    current
        Their features without lag.
    """

    def __init__(self, lake: Path, rows: pa.Table, current: FloatArray) -> None:
        time_ms = rows["event_timestamp"].cast(pa.int64()).to_numpy() // 1000
        log = load_log(Location(str(lake)), first_ms=int(time_ms.min()), last_ms=int(time_ms.max()))
        self._histories = {entity: log.history(entity) for entity in ENTITIES}
        self._asked = questions_of(log, rows)
        self._current = current
        self._amount = rows["amount_minor"].to_numpy()

    def vectors(self, lag_ms: int, *, write_through: bool) -> FloatArray:
        """Return the feature vectors when everything is visible only ``lag_ms`` after it happened."""
        seen: dict[Entity, FloatArray] = {}
        for entity in ENTITIES:
            seen[entity] = read_lagging(self._histories[entity], self._asked[entity], lag_ms)
            if write_through and entity != "merchant":
                own = read_lagging(self._histories[entity], self._asked[entity], 0)
                late = np.array([_stream_only(feature.name) for feature in VELOCITY_FEATURES[entity]])
                seen[entity] = np.where(late, seen[entity], own)
        velocity = np.hstack([seen[entity] for entity in ENTITIES])
        crossed = cross_columns(self._amount, velocity)
        vectors = self._current.copy()
        vectors[:, _FIRST : _FIRST + len(VELOCITY)] = velocity
        vectors[:, _FIRST + len(VELOCITY) : _FIRST + len(VELOCITY) + crossed.shape[1]] = crossed
        return vectors


def _stream_only(name: str) -> bool:
    """Return whether a feature counts what the scorer does not know of its own transactions."""
    return "_declined_" in name or "_report_" in name


def read_lagging(history: History, asked: Questions, lag_ms: int) -> FloatArray:
    """Return every value of a history for every question, from the changes at least ``lag_ms`` old.

    Without lag: from all changes strictly before the question, as ever.
    """
    nothing = np.zeros(len(history.changes), np.int64)  # every change was there from the start
    last_seen = np.minimum(asked.as_of_ms, asked.as_of_ms - lag_ms + 1)
    reach = reach_of(history, asked, nothing)
    until = reach_of(history, replace(asked, as_of_ms=np.maximum(last_seen, 0)), nothing).last
    bounded = replace(reach, last=np.maximum(np.minimum(reach.last, until), reach.first))
    every = np.arange(len(asked.key), dtype=np.int64)
    return read_visible(history, asked, every, bounded, np.zeros(len(every), np.int64))


def last_days(lake: Path, days: int) -> pa.Table:
    """Return the transactions of the last days of a lake.

    Raises
    ------
    NothingToCompare
        There is none.
    """
    names = sorted(path.name.removeprefix("dt=") for path in (lake / "transactions").glob("dt=*"))
    if not names:
        raise NothingToCompare(f"{lake} holds no transaction")
    end_ms = int(np.datetime64(names[-1], "ms").astype(np.int64)) + DAY
    return read_log(lake, end_ms - days * DAY, end_ms)


def truth_of(lake: Path, rows: pa.Table) -> tuple[BoolArray, str]:
    """Return which rows are fraud, and where that is known from: the truth, else every label there is."""
    ids = rows["transaction_id"].combine_chunks()
    truth = read_truth(lake)
    if truth is None:
        return settle_labels(read_labels(lake), ids, as_of_ms=_END_OF_TIME).is_fraud, "labels.parquet"
    place = pc.index_in(ids, truth["transaction_id"].combine_chunks())
    said = truth["is_fraud"].combine_chunks().take(place)
    return np.asarray(pc.fill_null(said, fill_value=False).to_numpy(zero_copy_only=False), np.bool_), "truth.parquet"


def score_all(bundle: ModelBundle, vectors: FloatArray) -> FloatArray:
    """Return the model's margin of each vector; calibration keeps their order and is left out."""
    columns = [FEATURE_NAMES.index(name) for name in bundle.features]
    chosen = np.ascontiguousarray(vectors[:, columns])
    return np.array([predict_margin(bundle.forest, row) for row in chosen])


def threshold_at_fpr(scores: FloatArray, fraud: BoolArray, fpr: float) -> float:
    """Return the lowest threshold above which at most a share ``fpr`` of the legitimate rows lies.

    Examples
    --------
    >>> threshold_at_fpr(np.array([0.9, 0.8, 0.1]), np.array([True, False, False]), 0.5)
    0.1
    """
    legitimate = np.sort(scores[~fraud])[::-1]
    allowed = int(fpr * len(legitimate))
    return float(legitimate[min(allowed, len(legitimate) - 1)])


def _share(flags: BoolArray) -> float | None:
    return float(flags.mean()) if len(flags) else None


def as_data(found: Staleness) -> dict[str, Any]:
    """Return the price of lag as plain data."""
    lags: list[Mapping[str, Any]] = [vars(line) for line in found.priced]
    return {
        "rows": found.rows,
        "frauds": found.frauds,
        "burst_rows": found.burst_rows,
        "burst_frauds": found.burst_frauds,
        "burst_window": found.burst_window,
        "truth": found.truth,
        "fpr": found.fpr,
        "lags": lags,
    }
