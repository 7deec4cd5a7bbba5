"""How old a transaction has to be before the absence of a label means something: the maturity curve, from data.

Of the frauds we know, the young ones are known only because their labels were quick: a plain average of delays promises
too much. The delays are *right-truncated* by the time they are read at, so the curve is estimated by the reverse hazard
(Lynden-Bell 1971; the chain ladder of insurers): of the labels that came by age ``d`` and could have been seen at that
age, the share that came on day ``d`` itself, multiplied down from the oldest age there is.

The curve is that of the frauds whose label arrives within the oldest age observed. Labels that never arrive leave no
trace in the labels, so no estimate from them can count them; where the truth is known they are reported beside it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.errors import UnreadableSource
from training.intervals import day_block_weights
from training.labels import settle_labels
from training.ranking import DAY_MS, FloatArray, IntArray

LEAST_AT_RISK: Final = 10
"""Labels below which an age's hazard is not believed: the curve starts at the oldest age with as many."""


@dataclass(frozen=True)
class MaturityCurve:
    """Share of the eventual fraud labels that have arrived by each age.

    Parameters
    ----------
    arrived
        Share by the end of day ``d`` of age, ``d = 0, 1, ...``; rising, the last is 1. Shape ``(ages,)``.
    low, high
        95 % bounds over resampled event days, shape ``(ages,)``.
    labels
        Fraud labels it rests on.
    """

    arrived: FloatArray
    low: FloatArray
    high: FloatArray
    labels: int

    def days_until(self, share: float) -> int:
        """Return the youngest age in whole days at which ``share`` of the labels has arrived.

        Examples
        --------
        >>> curve = MaturityCurve(np.array([0.2, 0.9, 1.0]), np.zeros(3), np.ones(3), 10)
        >>> curve.days_until(0.9), curve.days_until(0.95)
        (2, 3)
        """
        return int(np.searchsorted(self.arrived, share - 1e-12)) + 1

    def share_at(self, age_days: float) -> float:
        """Return the share arrived when a transaction is ``age_days`` old; between whole days, the day before's.

        Examples
        --------
        >>> curve = MaturityCurve(np.array([0.2, 0.9, 1.0]), np.zeros(3), np.ones(3), 10)
        >>> curve.share_at(0.5), curve.share_at(2.0), curve.share_at(99.0)
        (0.0, 0.9, 1.0)
        """
        whole = int(age_days)
        return 0.0 if whole < 1 else float(self.arrived[min(whole, len(self.arrived)) - 1])


def fraud_delays(
    statements: pa.Table, transaction_ids: pa.Array, event_time_ms: IntArray, *, as_of_ms: int
) -> tuple[IntArray, IntArray]:
    """Return event time and delay (ms) of each transaction that counts as fraud at ``as_of_ms``.

    The delay is that of the first statement that said fraud: a later confirmation makes nothing younger. A transaction
    whose first word was later corrected is no fraud and is left out.

    Parameters
    ----------
    statements
        Table of ``labels.parquet``.
    transaction_ids, event_time_ms
        Of the transactions, shape ``(n,)``.
    as_of_ms
        When the labels are read, epoch ms.
    """
    settled = settle_labels(statements, transaction_ids, as_of_ms=as_of_ms)
    arrival_us = statements["created_timestamp"].cast(pa.int64())
    known = pc.and_(statements["is_fraud"], pc.less_equal(arrival_us, as_of_ms * 1000))
    said = pa.table({"id": statements["transaction_id"], "arrival": arrival_us}).filter(known)
    first = said.group_by("id").aggregate([("arrival", "min")])
    place = pc.index_in(first["id"].combine_chunks(), transaction_ids)
    inside = place.is_valid().to_numpy(zero_copy_only=False)
    rows = place.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
    arrived_ms = first["arrival_min"].to_numpy()[inside] // 1000
    counts = settled.is_fraud[rows]
    time_ms = event_time_ms[rows[counts]]
    return time_ms, arrived_ms[counts] - time_ms


def estimate_maturity(
    event_time_ms: IntArray, delay_ms: IntArray, *, as_of_ms: int, resamples: int = 200, seed: int = 0
) -> MaturityCurve:
    """Return the curve of labels that were read at ``as_of_ms``.

    Parameters
    ----------
    event_time_ms, delay_ms
        Of each fraud whose label has arrived, shape ``(n,)``; ``event_time_ms + delay_ms <= as_of_ms``.
    as_of_ms
        When the labels were read: the truncation.
    resamples, seed
        Of the event days, for the bounds.

    Raises
    ------
    UnreadableSource
        A delay is negative or reaches beyond ``as_of_ms``, or fewer than ten labels are of any use.

    Examples
    --------
    Ten frauds long ago, half of them known on the first day and half on the second; and ten so young that only the
    quick half can be known. A plain average would say two thirds.

    >>> time = np.array([0] * 10 + [97 * DAY_MS] * 5)
    >>> delay = np.array([0] * 5 + [DAY_MS] * 5 + [0] * 5)
    >>> estimate_maturity(time, delay, as_of_ms=99 * DAY_MS).arrived
    array([0.5, 1. ])
    """
    if (delay_ms < 0).any() or (event_time_ms + delay_ms > as_of_ms).any():
        raise UnreadableSource("a label arrived before its transaction, or after the time the labels were read at")
    # An event day's last payment is a day younger than its first: the ages that all of them have been through.
    through = as_of_ms // DAY_MS - event_time_ms // DAY_MS - 1
    age = delay_ms // DAY_MS
    usable = age < through
    if int(usable.sum()) < LEAST_AT_RISK:
        raise UnreadableSource(f"{int(usable.sum())} fraud labels are too few for a maturity curve: {LEAST_AT_RISK}")
    seen_days, which = np.unique(through[usable], return_inverse=True)
    ages = int(age[usable].max()) + 1
    came = np.zeros((len(seen_days), ages))
    np.add.at(came, (which, age[usable]), 1.0)
    visible = np.arange(ages)[None, :] < seen_days[:, None]
    new, at_risk = np.where(visible, came, 0.0), np.where(visible, came.cumsum(axis=1), 0.0)
    oldest = np.flatnonzero(at_risk.sum(axis=0) >= LEAST_AT_RISK)
    new, at_risk = new[:, : oldest[-1] + 1], at_risk[:, : oldest[-1] + 1]
    point = _multiplied_down(np.ones((1, len(seen_days))), new, at_risk)[0]
    drawn = _multiplied_down(day_block_weights(len(seen_days), resamples=resamples, seed=seed).T, new, at_risk)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return MaturityCurve(point, low, high, int(usable.sum()))


def _multiplied_down(weights: FloatArray, new: FloatArray, at_risk: FloatArray) -> FloatArray:
    """Return the curve of each weighting of the event days, shape ``(weightings, ages)``."""
    came, exposed = weights @ new, weights @ at_risk
    kept = 1.0 - np.divide(came, exposed, out=np.zeros_like(came), where=exposed > 0)
    after = np.concatenate([kept[:, 1:], np.ones((len(kept), 1))], axis=1)
    return np.asarray(np.cumprod(after[:, ::-1], axis=1)[:, ::-1], np.float64)
