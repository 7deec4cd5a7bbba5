"""Measures of a scored test set: ranking, false alarms at a fixed catch, work for analysts, value.

Pure functions of arrays. The ranking measures are those of :class:`training.ranking.Curve` with every day counted once,
so a point estimate and its interval can never be two formulas. Rows of equal score always enter together.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import InvalidMetricInput
from training.ranking import (
    BoolArray,
    FloatArray,
    IntArray,
    rank,
    require_scored_rows,
    require_share,
    same_length,
)


def average_precision(scores: FloatArray, is_fraud: BoolArray) -> float:
    """Return PR-AUC as average precision: the mean precision at each caught fraud, without interpolation.

    Parameters
    ----------
    scores
        Higher is riskier, finite, shape ``(n,)``.
    is_fraud
        Mature labels, shape ``(n,)``.

    Raises
    ------
    InvalidMetricInput
        Lengths differ, a score is not finite, or only one class is present.

    Examples
    --------
    >>> average_precision(np.array([0.9, 0.8, 0.4]), np.array([True, False, True]))
    0.8333
    """
    return float(rank(scores, is_fraud).curve().average_precision()[0])


def roc_auc(scores: FloatArray, is_fraud: BoolArray) -> float:
    """Return the chance that a random fraud outranks a random legitimate row, ties counting half.

    Parameters and errors as for :func:`average_precision`.

    Examples
    --------
    >>> roc_auc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False]))
    0.875
    """
    return float(rank(scores, is_fraud).curve().roc_auc()[0])


def recall_at_fpr(scores: FloatArray, is_fraud: BoolArray, *, fpr: float) -> float:
    """Return the highest recall of any threshold whose false-positive rate is at most ``fpr``.

    Parameters
    ----------
    scores, is_fraud
        As for :func:`average_precision`.
    fpr
        Share of the legitimate rows that may be alerted, in (0, 1].

    Raises
    ------
    InvalidMetricInput
        As for :func:`average_precision`, or ``fpr`` is out of range.

    Examples
    --------
    >>> recall_at_fpr(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False]), fpr=0.5)
    1.0
    """
    require_share("fpr", fpr)
    return float(rank(scores, is_fraud).curve().recall_at_fpr(fpr)[0])


def false_positives_at_recall(scores: FloatArray, is_fraud: BoolArray, *, recall: float) -> int:
    """Return how many legitimate rows are alerted by the highest threshold that reaches ``recall``.

    Every row of that threshold's score is alerted: ties go to the end of their block.

    Parameters
    ----------
    scores, is_fraud
        As for :func:`average_precision`.
    recall
        Share of the frauds to catch, in (0, 1]; rounded up to whole frauds.

    Raises
    ------
    InvalidMetricInput
        As for :func:`average_precision`, or ``recall`` is out of range.

    Examples
    --------
    >>> false_positives_at_recall(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]), recall=1.0)
    1
    """
    require_share("recall", recall)
    return int(rank(scores, is_fraud).curve().false_positives_at_recall(recall)[0])


def threshold_at_recall(scores: FloatArray, is_fraud: BoolArray, *, recall: float) -> float:
    """Return the highest score ``t`` for which alerting ``score >= t`` reaches ``recall``.

    Choose it on validation rows and report what it reaches on test rows. Parameters and errors as for
    :func:`false_positives_at_recall`.

    Examples
    --------
    >>> threshold_at_recall(np.array([0.9, 0.8, 0.4]), np.array([True, False, True]), recall=0.5)
    0.9
    """
    require_share("recall", recall)
    ranking = rank(scores, is_fraud)
    return float(ranking.thresholds[ranking.curve().threshold_at_recall(recall)[0]])


def alert_rate(flagged: BoolArray) -> float:
    """Return the share of rows that raised an alert.

    Examples
    --------
    >>> alert_rate(np.array([True, False, False, False]))
    0.25
    """
    if flagged.dtype != np.bool_ or not len(flagged):
        raise InvalidMetricInput(f"flagged must be boolean with at least one row, not {len(flagged)} {flagged.dtype}")
    return float(flagged.mean())


def value_detection_rate(flagged: BoolArray, is_fraud: BoolArray, amount_minor: IntArray) -> float:
    """Return the share of the fraud amount that raised an alert.

    Parameters
    ----------
    flagged
        Whether each row raised an alert, shape ``(n,)``.
    is_fraud
        Mature labels, shape ``(n,)``.
    amount_minor
        Amounts in minor units of one currency, shape ``(n,)``.

    Raises
    ------
    InvalidMetricInput
        Lengths differ, or no fraud has an amount.

    Examples
    --------
    >>> value_detection_rate(np.array([True, False]), np.array([True, True]), np.array([300, 100]))
    0.75
    """
    same_length(flagged, is_fraud=is_fraud, amount_minor=amount_minor)
    total = int(amount_minor[is_fraud].sum())
    if total <= 0:
        raise InvalidMetricInput(f"the fraud amount is {total}: there is no value to detect")
    return int(amount_minor[is_fraud & flagged].sum()) / total


def card_precision(scores: FloatArray, is_fraud: BoolArray, cards: npt.NDArray[Any], *, k: int) -> float:
    """Return the share of truly fraudulent cards among the ``k`` riskiest of one day.

    A card's risk is its highest score of the day, so ten alerts on one card cost an analyst one review.

    Parameters
    ----------
    scores
        Higher is riskier, finite, shape ``(n,)``. Ties break by position.
    is_fraud
        Mature labels, shape ``(n,)``.
    cards
        Card of each row, shape ``(n,)``.
    k
        Reviews available that day, ``1 <= k <= number of cards``.

    Raises
    ------
    InvalidMetricInput
        Lengths differ, or ``k`` is out of range.

    References
    ----------
    Le Borgne et al., *Fraud Detection Handbook*, "Precision top-k metrics".

    Examples
    --------
    >>> card_precision(np.array([.9, .8, .1]), np.array([True, False, True]), np.array([1, 2, 3]), k=2)
    0.5
    """
    same_length(scores, is_fraud=is_fraud, cards=cards)
    names, card = np.unique(cards, return_inverse=True)
    if not 1 <= k <= len(names):
        raise InvalidMetricInput(f"k {k} is not in 1..{len(names)}, the number of cards")
    return len(_detected(scores, is_fraud, card, k)) / k


def card_precision_by_day(
    scores: FloatArray, is_fraud: BoolArray, cards: npt.NDArray[Any], day: IntArray, *, k: int
) -> FloatArray:
    """Return the card precision at ``k`` of each day, leaving out cards that an earlier day's reviews found.

    Its mean over days is the Handbook's "CP@k". A found card is blocked, so its later transactions can neither help nor
    hurt. A day with fewer than ``k`` cards leaves reviews unused; they count as misses, as in the book.

    Parameters
    ----------
    scores, is_fraud, cards
        As for :func:`card_precision`.
    day
        Day of each row, shape ``(n,)``.
    k
        Reviews available each day, at least 1.

    Returns
    -------
    FloatArray
        One value per day that occurs, in order of the days.

    Raises
    ------
    InvalidMetricInput
        Lengths differ, a score is not finite, only one class is present, or ``k`` is out of range.

    Examples
    --------
    Card 7 is found on day 0 and no longer counts on day 1, where card 8 is then the riskiest.

    >>> scores, is_fraud = np.array([0.9, 0.1, 0.9, 0.2]), np.array([True, False, True, False])
    >>> card_precision_by_day(scores, is_fraud, np.array([7, 8, 7, 8]), np.array([0, 0, 1, 1]), k=1)
    array([1., 0.])
    """
    require_scored_rows(scores, is_fraud)
    same_length(scores, cards=cards, day=day)
    if k < 1:
        raise InvalidMetricInput(f"k {k} is not at least 1")
    names, card = np.unique(cards, return_inverse=True)
    found = np.zeros(len(names), np.bool_)
    days = np.unique(day)
    precision = np.zeros(len(days))
    for position, today in enumerate(days):
        rows = np.flatnonzero((day == today) & ~found[card])
        detected = _detected(scores[rows], is_fraud[rows], card[rows], k)
        found[detected] = True
        precision[position] = len(detected) / k
    return precision


def _detected(scores: FloatArray, is_fraud: BoolArray, card: npt.NDArray[np.intp], k: int) -> npt.NDArray[np.intp]:
    """Return the fraudulent cards among the ``k`` of highest risk."""
    order = np.argsort(-scores, kind="stable")
    cards, first = np.unique(card[order], return_index=True)
    riskiest = cards[np.argsort(first, kind="stable")[:k]]
    return np.intersect1d(riskiest, card[is_fraud])
