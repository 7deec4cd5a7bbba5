"""What a policy costs, and the thresholds that cost least within the reviews people can do.

The costs are the shop's own numbers, all per transaction or as shares of its amount:

* an approved fraud loses its amount times ``loss_share`` and a ``chargeback_minor`` fee;
* a declined honest payment loses the margin on it, ``margin_share``, and ``insult_minor`` of goodwill;
* a review costs ``review_minor``; it stops the share ``review_catch`` of the frauds it sees and lets honest ones pass.

Everything is linear in counts and amounts of rows between two thresholds, so all pairs of candidate thresholds are
solved at once from running totals. A threshold on the score alone is not the optimum of a cost that knows the amount;
it is the optimum among the policies that the scorer can serve.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from fraud.policy import Policy
from training.errors import InvalidMetricInput
from training.ranking import BoolArray, FloatArray, IntArray, require_scored_rows, same_length

CANDIDATES: Final = 400
"""Candidate thresholds at most; half of them among the riskiest thousandth part, where they matter."""


@dataclass(frozen=True)
class Costs:
    """Prices, in minor units or shares.

    Raises
    ------
    InvalidMetricInput
        One is negative, or a share is above 1.
    """

    loss_share: float = 1.0
    chargeback_minor: int = 1500
    margin_share: float = 0.03
    insult_minor: int = 500
    review_minor: int = 300
    review_catch: float = 0.9

    def __post_init__(self) -> None:
        for name in ("loss_share", "margin_share", "review_catch"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidMetricInput(f"{name} {getattr(self, name)} is not in [0, 1]")
        for name in ("chargeback_minor", "insult_minor", "review_minor"):
            if getattr(self, name) < 0:
                raise InvalidMetricInput(f"{name} {getattr(self, name)} is negative")


@dataclass(frozen=True)
class CostCurve:
    """Cost of declining from each threshold on, without any review; minor units per transaction.

    Parameters
    ----------
    thresholds
        Rising, shape ``(n,)``.
    declining
        Cost at each, shape ``(n,)``.
    doing_nothing
        Cost of approving everything.
    """

    thresholds: FloatArray
    declining: FloatArray
    doing_nothing: float


@dataclass(frozen=True)
class Solution:
    """The cheapest policy within the budget, on the rows it was solved on.

    Parameters
    ----------
    policy
        Its thresholds.
    cost, doing_nothing
        Minor units per transaction, with it and with everything approved.
    reviews_a_day
        Mean over the days.
    """

    policy: Policy
    cost: float
    doing_nothing: float
    reviews_a_day: float


@dataclass(frozen=True)
class _Totals:
    """Totals of the rows at or above each candidate, shape ``(candidates,)``; the last is above all of them."""

    thresholds: FloatArray
    rows: FloatArray
    legitimate: FloatArray
    legitimate_value: FloatArray
    frauds: FloatArray
    fraud_value: FloatArray


def cost_curve(
    scores: FloatArray,
    is_fraud: BoolArray,
    amount_minor: IntArray,
    *,
    costs: Costs,
    weights: FloatArray | None = None,
) -> CostCurve:
    """Return what declining from each threshold on would have cost; parameters and errors as for :func:`solve`."""
    totals, total_rows = _totals(scores, is_fraud, amount_minor, weights)
    lost, saved, insulted = _per_candidate(totals, costs)
    return CostCurve(totals.thresholds, (lost - saved + insulted) / total_rows, lost / total_rows)


def solve(  # three columns, their days and weights, the prices and the budget
    scores: FloatArray,
    is_fraud: BoolArray,
    amount_minor: IntArray,
    *,
    days: int,
    costs: Costs,
    reviews_a_day: float,
    version: str = "cost",
    weights: FloatArray | None = None,
) -> Solution:
    """Return the thresholds that cost least among those whose reviews stay within the budget.

    Parameters
    ----------
    scores
        Probability of fraud, in [0, 1], shape ``(n,)``; validation rows.
    is_fraud
        Mature labels, shape ``(n,)``.
    amount_minor
        Amounts in minor units, shape ``(n,)``.
    days
        Days the rows span, at least 1.
    reviews_a_day
        Transactions that people can look at on a mean day.
    version
        Of the policy.
    weights
        How many rows each row stands for; by default one.

    Raises
    ------
    InvalidMetricInput
        Lengths differ, one class only, a score is no probability, or ``days`` or the budget is out of range.

    Examples
    --------
    A sure fraud is declined, a doubtful one is reviewed where the budget has room for one review.

    >>> scores = np.array([0.95, 0.5, 0.5, 0.01])
    >>> fraud = np.array([True, True, False, False])
    >>> amount = np.array([10_000, 10_000, 10_000, 10_000])
    >>> solve(scores, fraud, amount, days=1, costs=Costs(insult_minor=9_000), reviews_a_day=2).reviews_a_day
    2.0
    """
    if days < 1 or reviews_a_day < 0:
        raise InvalidMetricInput(f"{days} days and {reviews_a_day} reviews a day: at least 1 and at least 0")
    totals, total_rows = _totals(scores, is_fraud, amount_minor, weights)
    lost, saved, insulted = _per_candidate(totals, costs)
    reviewed = totals.rows[:, None] - totals.rows[None, :]
    caught = (saved[:, None] - saved[None, :]) * costs.review_catch
    cost = lost - saved[None, :] + insulted[None, :] + reviewed * costs.review_minor - caught
    order = np.arange(len(totals.thresholds))
    allowed = (order[:, None] <= order[None, :]) & (reviewed <= reviews_a_day * days * (1 + 1e-12))
    review, decline = np.unravel_index(np.argmin(np.where(allowed, cost, np.inf)), cost.shape)
    policy = Policy(version, float(totals.thresholds[review]), float(totals.thresholds[decline]))
    return Solution(
        policy,
        float(cost[review, decline] / total_rows),
        lost / total_rows,
        float(reviewed[review, decline] / days),
    )


def _per_candidate(totals: _Totals, costs: Costs) -> tuple[float, FloatArray, FloatArray]:
    """Return the loss with everything approved, what declining from each candidate on saves of it, and its insults."""
    saved = totals.fraud_value * costs.loss_share + totals.frauds * costs.chargeback_minor
    insulted = totals.legitimate_value * costs.margin_share + totals.legitimate * costs.insult_minor
    return float(saved[0]), saved, insulted


def _totals(
    scores: FloatArray, is_fraud: BoolArray, amount_minor: IntArray, weights: FloatArray | None
) -> tuple[_Totals, float]:
    require_scored_rows(scores, is_fraud)
    same_length(scores, amount_minor=amount_minor, weights=weights)
    if scores.min() < 0.0 or scores.max() > 1.0:
        raise InvalidMetricInput(f"scores span {scores.min()}..{scores.max()}, which are no probabilities")
    weight = np.ones(len(scores)) if weights is None else weights
    half = CANDIDATES // 2
    shares = np.concatenate([np.linspace(0.0, 0.999, half), np.linspace(0.999, 1.0, half)])
    quantiles = np.unique(np.quantile(scores, shares, method="higher"))
    inner = np.maximum(quantiles[1:], 1e-9)
    above_all = [np.nextafter(scores.max(), 2.0)] if scores.max() < 1.0 else []  # no policy spares a score of 1
    thresholds = np.unique(np.concatenate([[0.0], inner, above_all]))
    group = np.searchsorted(thresholds, scores, side="right") - 1

    def at_or_above(of: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(group, of, minlength=len(thresholds))[::-1].cumsum()[::-1], np.float64)

    fraud, value = is_fraud.astype(np.float64), amount_minor.astype(np.float64)
    totals = _Totals(
        thresholds=np.maximum(thresholds, 1e-9),
        rows=at_or_above(weight),
        legitimate=at_or_above(weight * (1 - fraud)),
        legitimate_value=at_or_above(weight * (1 - fraud) * value),
        frauds=at_or_above(weight * fraud),
        fraud_value=at_or_above(weight * fraud * value),
    )
    return totals, float(weight.sum())
