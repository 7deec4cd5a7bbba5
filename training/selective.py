"""Selective labels: a declined transaction never shows what it would have been.

What was let through speaks for what was not, by the inverse of the probability with which it was let through (Horvitz
and Thompson 1952). Ordinary approvals were certain and weigh one; a would-be decline that the control group let through
with probability 0.02 weighs fifty; a declined one weighs nothing, whatever anybody says about it. Weights are clipped,
because a few huge ones are noise: the effective sample size says how much of the data is left.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud.policy import OUTCOMES
from training.dataset import TrainingSet
from training.errors import InvalidMetricInput, UnreadableSource
from training.ranking import BoolArray, FloatArray

LARGEST_WEIGHT: Final = 50.0
"""No row speaks for more than this many; larger weights are cut, which favours what was let through often."""

_DECISIONS: Final = pa.schema([("transaction_id", pa.string()), ("outcome", pa.string()), ("propensity", pa.float64())])


@dataclass(frozen=True)
class SelectionWeights:
    """How many transactions each row stands for.

    Parameters
    ----------
    weights
        Shape ``(n,)``; 0 for a declined row, at least 1 for any other.
    observed
        Rows that were let through.
    clipped
        Rows whose weight was cut.
    effective_sample_size
        Kish's: ``(sum w)^2 / sum w^2``; how many equally weighted rows would know as much.
    """

    weights: FloatArray
    observed: int
    clipped: int
    effective_sample_size: float


def selection_weights(
    outcome: npt.NDArray[Any], propensity: FloatArray, *, largest: float = LARGEST_WEIGHT
) -> SelectionWeights:
    """Return the weights of decided transactions.

    Parameters
    ----------
    outcome
        ``approve``, ``review`` or ``decline`` of each, as it was carried out, shape ``(n,)``.
    propensity
        Probability with which each was to get that outcome, in (0, 1], shape ``(n,)``.
    largest
        Weights above it are cut to it, at least 1.

    Raises
    ------
    InvalidMetricInput
        Lengths differ, a propensity is not in (0, 1], ``largest`` is below 1, or everything was declined.

    Examples
    --------
    Three ordinary approvals, one of the control group's, one decline.

    >>> outcome = np.array(["approve", "approve", "review", "approve", "decline"])
    >>> found = selection_weights(outcome, np.array([1.0, 1.0, 1.0, 0.1, 0.9]))
    >>> found.weights, found.effective_sample_size
    (array([ 1., 1., 1., 10., 0.]), 1.6407)
    """
    if outcome.shape != propensity.shape:
        raise InvalidMetricInput(f"propensity has shape {propensity.shape}, outcome has {outcome.shape}")
    wrong = np.flatnonzero(~((propensity > 0.0) & (propensity <= 1.0)))
    if len(wrong):
        raise InvalidMetricInput(f"propensity {propensity[wrong[0]]} of row {wrong[0]} is not in (0, 1]")
    if largest < 1.0:
        raise InvalidMetricInput(f"largest weight {largest} is below 1: an approved row stands for itself at least")
    observed: BoolArray = outcome != "decline"
    if not observed.any():
        raise InvalidMetricInput(f"all {len(outcome)} transactions were declined: nothing is known of any of them")
    weights = np.where(observed, np.minimum(1.0 / propensity, largest), 0.0)
    clipped = int((observed & (1.0 / propensity > largest)).sum())
    return SelectionWeights(weights, int(observed.sum()), clipped, float(weights.sum() ** 2 / (weights**2).sum()))


def weights_of(decisions: pa.Table, transaction_ids: pa.Array, *, largest: float = LARGEST_WEIGHT) -> SelectionWeights:
    """Return the weight of each transaction from the decisions made on them; one that nobody decided on weighs one.

    Parameters
    ----------
    decisions
        ``transaction_id`` (text), ``outcome`` (text), ``propensity`` (float); of several decisions on one transaction
        the last row counts.
    transaction_ids
        Shape ``(n,)``, text.
    largest
        As for :func:`selection_weights`.
    """
    newest = decisions.take(pa.array(np.arange(len(decisions))[::-1].copy()))
    place = pc.index_in(transaction_ids, newest["transaction_id"].combine_chunks())
    found = newest.take(place)
    outcome = pc.fill_null(found["outcome"], "approve").to_numpy(zero_copy_only=False)
    propensity = pc.fill_null(found["propensity"], 1.0).to_numpy(zero_copy_only=False).astype(np.float64)
    return selection_weights(np.asarray(outcome, object), propensity, largest=largest)


def read_decisions(path: Path) -> pa.Table:
    """Return the decisions of a Parquet file.

    Raises
    ------
    UnreadableSource
        The file is missing, no Parquet, lacks a column, or has one that is no text or no number; or an outcome is none
        that there is.
    """
    names = ", ".join(_DECISIONS.names)
    if not path.is_file():
        raise UnreadableSource(f"{path}: no such file; decisions are a Parquet file with {names}")
    try:
        found = pq.read_table(path, columns=_DECISIONS.names).select(_DECISIONS.names).cast(_DECISIONS)
    except (pa.ArrowException, KeyError) as error:
        raise UnreadableSource(f"{path}: not readable as decisions ({error}); needed are {names}") from None
    strange = [outcome for outcome in pc.unique(found["outcome"]).to_pylist() if outcome not in OUTCOMES]
    if strange:
        raise UnreadableSource(f"{path}: outcome {strange[0]!r} is none of {', '.join(OUTCOMES)}")
    return found


def weigh(rows: TrainingSet, decisions: pa.Table) -> TrainingSet:
    """Return the same rows, each weighed by the decision made on it, beside what it weighed before."""
    weights = weights_of(decisions, rows.transaction_id).weights
    return replace(rows, weights=weights if rows.weights is None else rows.weights * weights)
