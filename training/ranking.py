"""A ranking: scored rows reduced, once, to per-day counts from which every ranking metric follows.

Ranking metrics change only where a fraud is caught, so it is enough to know, for each distinct score that a fraud has
and for each day, how many frauds share it and how many legitimate rows reach it. A resample of whole days is then a
vector of day weights and its curve a matrix product: nothing is sorted again. Rows of equal score always enter
together, so no metric depends on the order of the rows.

Does not know what a good score is, nor how days are drawn: see ``training.metrics`` and ``training.intervals``.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.errors import InvalidMetricInput

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

DAY_MS = 86_400_000

_ROUNDING = 1e-9
"""Slack of a count derived from a share, so that 0.7 of 10 frauds is 7 and not 8."""


@dataclass(frozen=True)
class Curve:
    """Counts at each threshold that catches one more fraud, from the highest down, for each of ``n`` weightings.

    Parameters
    ----------
    frauds, legitimate, fraud_value
        Totals, shape ``(n,)``; the value in minor units.
    caught, false_positives, value_caught, false_value
        Totals at or above each threshold, shape ``(thresholds, n)``; the values are of frauds and of legitimate rows.
    false_positives_above
        Legitimate rows strictly above each threshold, shape ``(thresholds, n)``.
    """

    frauds: FloatArray
    legitimate: FloatArray
    fraud_value: FloatArray
    caught: FloatArray
    false_positives: FloatArray
    value_caught: FloatArray
    false_value: FloatArray
    false_positives_above: FloatArray

    def average_precision(self) -> FloatArray:
        """Return the area under the precision-recall steps, NaN where there is no fraud, shape ``(n,)``."""
        precision = self.caught / np.maximum(self.caught + self.false_positives, 1.0)
        return _share((self._gains() * precision).sum(axis=0), self.frauds)

    def roc_auc(self) -> FloatArray:
        """Return the chance that a fraud outranks a legitimate row, ties counting half, shape ``(n,)``."""
        outranking = (self.false_positives + self.false_positives_above) / 2.0
        return 1.0 - _share((self._gains() * outranking).sum(axis=0), self.frauds * self.legitimate)

    def recall_at_fpr(self, fpr: float) -> FloatArray:
        """Return the highest recall whose false-positive rate is at most ``fpr``, shape ``(n,)``."""
        allowed = np.floor(fpr * self.legitimate + _ROUNDING)
        caught = np.where(self.false_positives <= allowed, self.caught, 0.0).max(axis=0)
        return np.where(self.legitimate > 0, _share(caught, self.frauds), np.nan)

    def threshold_at_recall(self, recall: float) -> IntArray:
        """Return the first threshold's position that reaches ``recall``; past the end without frauds."""
        whole = np.minimum(np.ceil(recall * self.frauds - _ROUNDING), self.frauds)  # weighted totals need not be whole
        needed = np.where(self.frauds > 0, np.maximum(whole, _ROUNDING), 1.0)
        return np.asarray((self.caught < needed).sum(axis=0), np.int64)

    def false_positives_at_recall(self, recall: float) -> FloatArray:
        """Return the legitimate rows alerted where ``recall`` is reached, NaN without frauds, shape ``(n,)``."""
        return self.at(self.false_positives, self.threshold_at_recall(recall))

    def false_value_at_recall(self, recall: float) -> FloatArray:
        """Return the amount of the legitimate rows alerted where ``recall`` is reached, NaN without frauds."""
        return self.at(self.false_value, self.threshold_at_recall(recall))

    def alert_rate_at_recall(self, recall: float) -> FloatArray:
        """Return the share of rows alerted where ``recall`` is reached, shape ``(n,)``."""
        alerts = self.at(self.caught + self.false_positives, self.threshold_at_recall(recall))
        return _share(alerts, self.frauds + self.legitimate)

    def value_detection_at_recall(self, recall: float) -> FloatArray:
        """Return the share of the fraud amount alerted where ``recall`` is reached, shape ``(n,)``."""
        return _share(self.at(self.value_caught, self.threshold_at_recall(recall)), self.fraud_value)

    def _gains(self) -> FloatArray:
        return np.diff(self.caught, axis=0, prepend=0.0)

    @staticmethod
    def at(counts: FloatArray, position: IntArray) -> FloatArray:
        """Return each weighting's count at its threshold, NaN past the end, shape ``(n,)``."""
        inside = position < len(counts)
        columns = np.arange(counts.shape[1])
        return np.where(inside, counts[np.minimum(position, len(counts) - 1), columns], np.nan)


@dataclass(frozen=True)
class Ranking:
    """Scored rows as counts for each distinct fraud score (from the highest down) and each day.

    Parameters
    ----------
    thresholds
        Distinct scores of the frauds, falling, shape ``(thresholds,)``.
    days
        The days that occur, rising, shape ``(days,)``.
    caught, value_caught, false_positives, false_value, false_positives_above
        Running totals from the top, shape ``(thresholds, days)``; values in minor units.
    legitimate
        Legitimate rows of each day, shape ``(days,)``.
    """

    thresholds: FloatArray
    days: IntArray
    caught: FloatArray
    value_caught: FloatArray
    false_positives: FloatArray
    false_value: FloatArray
    false_positives_above: FloatArray
    legitimate: FloatArray

    def running(
        self,
        scores: FloatArray,
        day: IntArray,
        weights: FloatArray | None = None,
    ) -> FloatArray:
        """Return how many of some rows are at or above each threshold, by day, shape ``(thresholds, days)``.

        For a part of the ranked rows: the frauds of one type, the legitimate rows of one country.

        Parameters
        ----------
        scores, day
            Of those rows, shape ``(m,)``; every day is one of the ranking's.
        weights
            What each row counts, such as its amount; by default one.
        """
        shape = (len(self.thresholds), len(self.days))
        cells = _cells(np.searchsorted(-self.thresholds, -scores), np.searchsorted(self.days, day), shape)
        return _running(cells, shape, weights)

    def curve(self, day_weights: FloatArray | None = None) -> Curve:
        """Return the curve of each weighting of the days.

        Parameters
        ----------
        day_weights
            How often each day counts, shape ``(days, n)``; without it each day counts once and ``n`` is 1.
        """
        weights = np.ones((len(self.days), 1)) if day_weights is None else day_weights
        caught = self.caught @ weights
        value_caught = self.value_caught @ weights
        return Curve(
            frauds=caught[-1],
            legitimate=self.legitimate @ weights,
            fraud_value=value_caught[-1],
            caught=caught,
            false_positives=self.false_positives @ weights,
            value_caught=value_caught,
            false_value=self.false_value @ weights,
            false_positives_above=self.false_positives_above @ weights,
        )


def rank(
    scores: FloatArray,
    is_fraud: BoolArray,
    *,
    day: IntArray | None = None,
    amount_minor: IntArray | None = None,
    weights: FloatArray | None = None,
) -> Ranking:
    """Return the ranking of scored rows.

    Parameters
    ----------
    scores
        Higher is riskier, finite, shape ``(n,)``.
    is_fraud
        Mature labels, shape ``(n,)``; at least one fraud and one legitimate row.
    day
        Day of each row, shape ``(n,)``; without it all rows are of one day.
    amount_minor
        Amount of each row, shape ``(n,)``; without it every value is 0.
    weights
        How many rows each row stands for, such as inverse propensities, shape ``(n,)``; by default one.

    Raises
    ------
    InvalidMetricInput
        Lengths differ, a score or weight is not finite, a weight is negative, or only one class is present.

    Examples
    --------
    >>> rank(np.array([0.9, 0.9, 0.4, 0.1]), np.array([True, False, True, False])).false_positives
    array([[1.],
           [1.]])
    """
    require_scored_rows(scores, is_fraud)
    same_length(scores, day=day, amount_minor=amount_minor, weights=weights)
    weight = np.ones(len(scores)) if weights is None else weights
    if not np.isfinite(weight).all() or weight.min() < 0.0 or not weight[is_fraud].sum() > 0.0:
        raise InvalidMetricInput("weights must be finite and not negative, and some fraud must have one above 0")
    days, day_index = np.unique(np.zeros(len(scores), np.int64) if day is None else day, return_inverse=True)
    thresholds = np.unique(scores[is_fraud])[::-1]
    shape = (len(thresholds), len(days))
    fraud_cell = _cells(np.searchsorted(-thresholds, -scores[is_fraud]), day_index[is_fraud], shape)
    legit_scores, legit_day = scores[~is_fraud], day_index[~is_fraud]
    legit_cell = _cells(np.searchsorted(-thresholds, -legit_scores), legit_day, shape)
    above_cell = _cells(np.searchsorted(-thresholds, -legit_scores, side="right"), legit_day, shape)
    value = weight * (np.zeros(len(scores)) if amount_minor is None else amount_minor)
    return Ranking(
        thresholds=thresholds,
        days=np.asarray(days, np.int64),
        caught=_running(fraud_cell, shape, weight[is_fraud]),
        value_caught=_running(fraud_cell, shape, value[is_fraud]),
        false_positives=_running(legit_cell, shape, weight[~is_fraud]),
        false_value=_running(legit_cell, shape, value[~is_fraud]),
        false_positives_above=_running(above_cell, shape, weight[~is_fraud]),
        legitimate=np.bincount(legit_day, weight[~is_fraud], minlength=len(days)).astype(np.float64),
    )


def require_scored_rows(scores: FloatArray, is_fraud: BoolArray) -> None:
    """Raise :class:`InvalidMetricInput` unless scores are finite, labels boolean, and both classes present."""
    if scores.ndim != 1 or is_fraud.dtype != np.bool_:
        raise InvalidMetricInput(
            f"scores must be one-dimensional and labels boolean, not {scores.ndim}-d and {is_fraud.dtype}"
        )
    same_length(scores, is_fraud=is_fraud)
    not_finite = np.flatnonzero(~np.isfinite(scores))
    if len(not_finite):
        raise InvalidMetricInput(
            f"score {scores[not_finite[0]]} of row {not_finite[0]} is not finite ({len(not_finite)} such rows)"
        )
    frauds = int(is_fraud.sum())
    if frauds in {0, len(is_fraud)}:
        raise InvalidMetricInput(
            f"{frauds} of {len(is_fraud)} rows are fraud: a metric needs at least one fraud and one legitimate row"
        )


def same_length(scores: npt.NDArray[np.generic], **columns: npt.NDArray[np.generic] | None) -> None:
    """Raise :class:`InvalidMetricInput` naming the first column whose length is not that of the scores."""
    for name, column in columns.items():
        if column is not None and column.shape != scores.shape:
            raise InvalidMetricInput(f"{name} has shape {column.shape}, scores have {scores.shape}")


def require_share(name: str, value: float) -> None:
    """Raise :class:`InvalidMetricInput` unless ``0 < value <= 1``."""
    if not 0.0 < value <= 1.0:
        raise InvalidMetricInput(f"{name} {value} is not in (0, 1]")


def _cells(threshold: npt.NDArray[np.intp], day: npt.NDArray[np.intp], shape: tuple[int, int]) -> npt.NDArray[np.intp]:
    """Return the flat cell of each row; rows below the last threshold fall past the end."""
    return np.asarray(threshold * shape[1] + day, np.intp)


def _running(cells: npt.NDArray[np.intp], shape: tuple[int, int], weights: FloatArray | None = None) -> FloatArray:
    size = shape[0] * shape[1]
    inside = cells < size
    counts = np.bincount(cells[inside], None if weights is None else weights[inside], minlength=size)
    return np.asarray(counts.reshape(shape).cumsum(axis=0), np.float64)


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    out: FloatArray = np.full(len(whole), np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
