"""Splits in time: train on the past, skip the label delay, test on what follows.

A model fitted at a moment knows only the labels that have settled by then, so between the end of training and the first
row it is judged on lies one label delay; where thresholds are chosen on validation rows, another one lies between those
and the test. Never random: a random split lets a model see a compromised merchant's later victims.

Pure functions of epoch milliseconds (UTC); periods are half-open, ``[start, end)``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import InvalidSplit
from training.ranking import DAY_MS, BoolArray, IntArray


@dataclass(frozen=True)
class Period:
    """A half-open span of time, epoch milliseconds."""

    start_ms: int
    end_ms: int

    def contains(self, event_time_ms: IntArray) -> BoolArray:
        """Return whether each time lies in the period, shape ``(n,)``."""
        return (event_time_ms >= self.start_ms) & (event_time_ms < self.end_ms)


@dataclass(frozen=True)
class SplitPlan:
    """Lengths in days of ``train | delay | test`` or, with validation, ``train | delay | validation | delay | test``.

    Raises
    ------
    InvalidSplit
        Training or test is shorter than a day, or another length is negative.
    """

    train_days: int
    delay_days: int
    test_days: int
    validation_days: int = 0

    def __post_init__(self) -> None:
        for name, least in (("train_days", 1), ("delay_days", 0), ("test_days", 1), ("validation_days", 0)):
            days = getattr(self, name)
            if days < least:
                raise InvalidSplit(f"{name} {days} is not at least {least}")

    @property
    def days(self) -> int:
        """Days from the first of training to the last of test, delays included."""
        gaps = 2 if self.validation_days else 1
        return self.train_days + gaps * self.delay_days + self.validation_days + self.test_days


@dataclass(frozen=True)
class TimeSplit:
    """Row positions of each part, in the order of the rows given, and the periods they come from.

    ``validation`` is empty where the plan has none.
    """

    train_period: Period
    validation_period: Period
    test_period: Period
    train: IntArray
    validation: IntArray
    test: IntArray


def split_by_time(event_time_ms: IntArray, plan: SplitPlan, *, start_ms: int) -> TimeSplit:
    """Return the rows of each part of a plan that starts at ``start_ms``.

    Parameters
    ----------
    event_time_ms
        Event time of each row, any order, shape ``(n,)``.
    plan
        Lengths of the parts.
    start_ms
        First millisecond of training, usually midnight UTC.

    Raises
    ------
    InvalidSplit
        A part that the plan asks for holds no row.

    Examples
    --------
    One row a day: two days to train, one of delay, two to test.

    >>> days = np.arange(6) * 86_400_000
    >>> parts = split_by_time(days, SplitPlan(train_days=2, delay_days=1, test_days=2), start_ms=0)
    >>> parts.train, parts.test
    (array([0, 1]), array([3, 4]))
    """
    train = Period(start_ms, start_ms + plan.train_days * DAY_MS)
    start = train.end_ms + plan.delay_days * DAY_MS
    validation = Period(start, start + plan.validation_days * DAY_MS)
    start = validation.end_ms + (plan.delay_days * DAY_MS if plan.validation_days else 0)
    test = Period(start, start + plan.test_days * DAY_MS)
    rows = {
        name: np.flatnonzero(period.contains(event_time_ms))
        for name, period in (("train", train), ("validation", validation), ("test", test))
    }
    for name, period in (("train", train), ("validation", validation), ("test", test)):
        if period.start_ms < period.end_ms and not len(rows[name]):
            raise InvalidSplit(f"no row to {name} on in {_text(period)}; the rows span {_span(event_time_ms)}")
    return TimeSplit(train, validation, test, rows["train"], rows["validation"], rows["test"])


def start_ending(plan: SplitPlan, *, end_ms: int) -> int:
    """Return where a plan has to start for its test to end at ``end_ms`` (exclusive).

    Examples
    --------
    >>> start_ending(SplitPlan(train_days=7, delay_days=7, test_days=7), end_ms=21 * 86_400_000)
    0
    """
    return end_ms - plan.days * DAY_MS


def prequential_folds(event_time_ms: IntArray, plan: SplitPlan, *, start_ms: int, folds: int) -> tuple[TimeSplit, ...]:
    """Return ``folds`` splits, each one test length later than the one before; no two tests overlap.

    Parameters
    ----------
    event_time_ms, plan
        As for :func:`split_by_time`.
    start_ms
        First millisecond of the first fold's training.
    folds
        How many, at least 1.

    Raises
    ------
    InvalidSplit
        ``folds`` is below 1, or a part of a fold holds no row.

    Examples
    --------
    >>> days, plan = np.arange(6) * 86_400_000, SplitPlan(train_days=2, delay_days=1, test_days=1)
    >>> [fold.test for fold in prequential_folds(days, plan, start_ms=0, folds=3)]
    [array([3]), array([4]), array([5])]
    """
    if folds < 1:
        raise InvalidSplit(f"folds {folds} is not at least 1")
    step = plan.test_days * DAY_MS
    return tuple(split_by_time(event_time_ms, plan, start_ms=start_ms + fold * step) for fold in range(folds))


def not_known_compromised(
    card: npt.NDArray[Any],
    event_time_ms: IntArray,
    *,
    fraud_card: npt.NDArray[Any],
    fraud_arrival_ms: IntArray,
    forget_after_ms: int | None = None,
) -> BoolArray:
    """Return which rows belong to a card that was not known as compromised when they happened.

    In production such a card is blocked; leaving its rows in a test flatters every model that remembers it.

    Parameters
    ----------
    card, event_time_ms
        Of each row, shape ``(n,)``.
    fraud_card, fraud_arrival_ms
        Card and arrival time of each fraud label, any order, shape ``(m,)``. A label that arrives at a row's very
        millisecond is known to it.
    forget_after_ms
        A card counts as replaced this long after its last label; without it, never.

    Examples
    --------
    Card 1 is known from time 10 on.

    >>> card, time = np.array([1, 1, 2]), np.array([5, 15, 15])
    >>> not_known_compromised(card, time, fraud_card=np.array([1]), fraud_arrival_ms=np.array([10]))
    array([ True, False,  True])
    """
    if not len(fraud_card):
        return np.ones(len(card), np.bool_)
    _, codes = np.unique(np.concatenate([fraud_card, card]), return_inverse=True)
    label_code, row_code = codes[: len(fraud_card)], codes[len(fraud_card) :]
    order = np.lexsort((fraud_arrival_ms, label_code))
    label_code, arrival = label_code[order], fraud_arrival_ms[order]
    moments, moment = np.unique(np.concatenate([arrival, event_time_ms]), return_inverse=True)
    label_key = label_code * len(moments) + moment[: len(arrival)]
    row_key = row_code * len(moments) + moment[len(arrival) :]
    last = np.searchsorted(label_key, row_key, side="right") - 1
    known = (last >= 0) & (label_code[np.maximum(last, 0)] == row_code)
    if forget_after_ms is not None:
        known &= event_time_ms - arrival[np.maximum(last, 0)] < forget_after_ms
    return np.asarray(~known, np.bool_)


def _text(period: Period) -> str:
    return f"{_moment(period.start_ms)}..{_moment(period.end_ms)}"


def _span(event_time_ms: IntArray) -> str:
    if not len(event_time_ms):
        return "nothing"
    return f"{_moment(int(event_time_ms.min()))}..{_moment(int(event_time_ms.max()))}"


def _moment(time_ms: int) -> str:
    return str(np.datetime64(time_ms, "ms").astype("datetime64[m]"))
