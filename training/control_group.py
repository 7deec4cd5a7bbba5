"""What declining did, from logged decisions: good customers declined and frauds caught, without the declines' own bias.

A declined payment has no label: it cannot be charged back. Its share in any table of labels is therefore what somebody
assumed. The control group (:mod:`fraud.control_group`) lets a few through by lot; each of them stands for one over the
probability with which it was let through, and so they speak for all that the lot was drawn for. Three kinds of rows:

- *covered*: the policy said decline and the lot decided, with its probability logged; estimated here;
- *uncovered*: declined without a lot, because of its amount, a used-up allowance or a list; nothing is known of them,
  they are counted and left out of every figure;
- everything else: approved or reviewed, with labels of its own; counted as they are.

Pass rows of one policy that are old enough for their labels, one row per transaction.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.policy import OUTCOMES
from training.errors import InvalidMetricInput

FloatArray = npt.NDArray[np.float64]
LARGEST_WEIGHT: Final = 1000.0
"""Weights are clipped here: a payment drawn with less than one in a thousand would speak for too many."""


@dataclass(frozen=True)
class Estimate:
    """A point with the bounds of its confidence interval; the point is NaN when nothing was let through."""

    point: float
    low: float
    high: float


@dataclass(frozen=True)
class ControlGroupEstimates:
    """What the control group says.

    Parameters
    ----------
    covered, uncovered
        Would-be declines whose outcome the lot decided; declines without a lot.
    let_through, effective_sample
        Covered ones that were approved and have a label; how many equally weighted ones they are worth.
    clipped
        How many of them had their weight clipped: above 0 the estimates lean towards the others.
    fraud_share
        Frauds among the covered would-be declines, in [0, 1].
    false_positives
        Good payments among the covered would-be declines, a count.
    insult_rate
        Those, as a share of all good payments that are not uncovered.
    recall
        Frauds that were to be declined or were reviewed, as a share of all frauds that are not uncovered.
    """

    covered: int
    uncovered: int
    let_through: int
    effective_sample: float
    clipped: int
    fraud_share: Estimate
    false_positives: Estimate
    insult_rate: Estimate
    recall: Estimate


def estimate_declines(
    outcomes: npt.ArrayLike,
    propensities: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    largest_weight: float = LARGEST_WEIGHT,
) -> ControlGroupEstimates:
    """Return estimates from logged decisions by inverse propensity, normalised by the number of covered declines.

    The realised figures of these very rows are estimated, so what was approved or reviewed adds no uncertainty; that of
    the covered declines is a Wilson interval at the effective sample size.

    Parameters
    ----------
    outcomes
        What was answered, each of ``OUTCOMES``, shape ``(n,)``.
    propensities
        Probability of that answer as logged, in (0, 1], shape ``(n,)``; below 1 only where a lot decided.
    labels
        1 fraud, 0 legitimate, NaN unknown, shape ``(n,)``; that of a declined payment is not looked at.
    confidence
        Of the intervals, in (0, 1).
    largest_weight
        Where weights are clipped, at least 1.

    Raises
    ------
    InvalidMetricInput
        Lengths differ, or a value is out of its range.

    Examples
    --------
    Of 8 would-be declines half were let through, one of them fraudulent: 2 of the 8 are frauds, 6 are not.

    >>> found = estimate_declines(
    ...     ["approve"] * 4 + ["decline"] * 4, [0.5] * 8, [1, 0, 0, 0] + [math.nan] * 4)
    >>> found.covered, found.fraud_share.point, found.false_positives.point
    (8, 0.25, 6.0)

    References
    ----------
    Horvitz and Thompson, 1952; Hajek, 1971 (normalised weights); Kish, 1965 (effective sample size); Wilson, 1927.
    """
    outcome, propensity, label = _checked(outcomes, propensities, labels, confidence, largest_weight)
    covered = propensity < 1.0
    declined = outcome == "decline"
    known = ~np.isnan(label) & ~declined
    drawn, others = known & covered, known & ~covered
    weight = np.minimum(1.0 / propensity[drawn], largest_weight)
    number = int(covered.sum())
    size = float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0
    share = _wilson(float(weight @ label[drawn] / weight.sum()) if len(weight) else math.nan, size, confidence)
    if not number:
        share = Estimate(math.nan, 0.0, 0.0)
    good = float((label[others] == 0.0).sum())
    missed = float((label[others & (outcome == "approve")] == 1.0).sum())
    reviewed = float((label[others & (outcome == "review")] == 1.0).sum())
    insulted = Estimate(
        number * (1.0 - share.point) if number else 0.0, number * (1.0 - share.high), number * (1.0 - share.low)
    )
    return ControlGroupEstimates(
        covered=number,
        uncovered=int((declined & ~covered).sum()),
        let_through=len(weight),
        effective_sample=size,
        clipped=int((1.0 / propensity[drawn] > largest_weight).sum()),
        fraud_share=share,
        false_positives=insulted,
        insult_rate=_each(insulted, lambda count: count / (count + good)),
        recall=_each(
            Estimate(number * share.point if number else 0.0, number * share.low, number * share.high),
            lambda count: (count + reviewed) / (count + reviewed + missed),
        ),
    )


def _each(counts: Estimate, share: Callable[[float], float]) -> Estimate:
    values = []
    for count in (counts.point, counts.low, counts.high):
        try:
            values.append(share(count))
        except ZeroDivisionError:
            values.append(math.nan)
    return Estimate(*values)


def _wilson(point: float, size: float, confidence: float) -> Estimate:
    """Return the Wilson interval of a share seen in ``size`` draws; everything is possible after none."""
    if size <= 0.0:
        return Estimate(math.nan, 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    scale = 1.0 + z * z / size
    middle = (point + z * z / (2.0 * size)) / scale
    half = z * math.sqrt(point * (1.0 - point) / size + z * z / (4.0 * size * size)) / scale
    return Estimate(point, max(0.0, middle - half), min(1.0, middle + half))


def _checked(
    outcomes: npt.ArrayLike, propensities: npt.ArrayLike, labels: npt.ArrayLike, confidence: float, largest: float
) -> tuple[npt.NDArray[np.str_], FloatArray, FloatArray]:
    outcome = np.asarray(outcomes, np.str_)
    propensity, label = np.asarray(propensities, np.float64), np.asarray(labels, np.float64)
    if not (outcome.ndim == 1 and outcome.shape == propensity.shape == label.shape):
        shapes = f"{outcome.shape}, {propensity.shape}, {label.shape}"
        raise InvalidMetricInput(f"outcomes, propensities and labels have shapes {shapes}, not one and the same (n,)")
    strange = np.setdiff1d(outcome, OUTCOMES)
    if len(strange):
        raise InvalidMetricInput(f"outcome {str(strange[0])!r} is none of {', '.join(OUTCOMES)}")
    if not ((propensity > 0.0) & (propensity <= 1.0)).all():
        raise InvalidMetricInput(f"propensities from {propensity.min()} to {propensity.max()} are not in (0, 1]")
    if ((outcome == "review") & (propensity < 1.0)).any():
        raise InvalidMetricInput("a reviewed payment has a propensity below 1: no lot sends anybody to review")
    if not (np.isnan(label) | (label == 0.0) | (label == 1.0)).all():
        raise InvalidMetricInput("a label is neither 0, 1 nor NaN")
    if not (0.0 < confidence < 1.0 and largest >= 1.0):
        raise InvalidMetricInput(f"confidence {confidence} is not in (0, 1), or largest_weight {largest} below 1")
    return outcome, propensity, label
