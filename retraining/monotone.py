"""Whether a challenger keeps what its contract promises: more reported fraud never lowers a score.

Looked at in the scorer's own runtime, on held-out rows: each promised feature is moved through the values that occur,
everything else stays, and the margin may not fall. A constraint that the library dropped, or a model that somebody
edited, shows here.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.bundle import ModelBundle
from fraud.trees import predict_margin
from retraining.verdict import Check, not_asked

NAME: Final = "keeps_monotone"
ROWS: Final = 200
STEPS: Final = 12
"""Values of a feature that are tried, evenly spaced among those that occur: rare large ones count as much."""
SLACK: Final = 1e-6
"""Rounding: a margin is a float32 sum."""


def monotone_checked(
    bundle: ModelBundle, matrix: npt.NDArray[np.float32], is_fraud: npt.NDArray[np.bool_], wanted: tuple[str, ...]
) -> Check:
    """Return the check.

    Parameters
    ----------
    bundle
        The challenger as the scorer opens it.
    matrix, is_fraud
        Held-out rows in the order of the bundle's features.
    wanted
        What the recipe asked for, of the features that there are.
    """
    if not wanted and not bundle.increasing:
        return not_asked(NAME, "the recipe constrains no feature")
    lost = [name for name in wanted if name not in bundle.increasing]
    if lost:
        said = f"the recipe wants {lost[0]} and {len(lost) - 1} more to be increasing, the contract does not say so"
        return Check(NAME, passed=False, evidence=said)
    rows = matrix[_chosen(is_fraud)].astype(np.float64)
    falls, worst, where = 0, 0.0, ""
    for name in bundle.increasing:
        column = bundle.features.index(name)
        drop = _largest_fall(bundle, rows, column, _values(matrix[:, column]))
        if drop > SLACK:
            falls += 1
            worst, where = max((worst, where), (drop, name))
    said = f"{len(bundle.increasing)} features moved through what occurs in {len(rows)} rows: "
    said += f"{falls} let the margin fall, {where} by {worst:.3f}" if falls else "no margin fell"
    return Check(NAME, falls == 0, said)


def _chosen(is_fraud: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return rows of both kinds, evenly spaced."""
    halves = [np.flatnonzero(is_fraud), np.flatnonzero(~is_fraud)]
    return np.concatenate([half[np.unique(np.linspace(0, len(half) - 1, ROWS // 2).astype(np.int64))] for half in halves
                           if len(half)])  # fmt: skip


def _values(column: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return rising values that occur."""
    found = np.unique(column[~np.isnan(column)]).astype(np.float64)
    return found[np.unique(np.linspace(0, len(found) - 1, STEPS).astype(np.int64))] if len(found) else found


def _largest_fall(
    bundle: ModelBundle, rows: npt.NDArray[np.float64], column: int, values: npt.NDArray[np.float64]
) -> float:
    largest = 0.0
    for row in rows:
        moved, before = row.copy(), -np.inf
        for value in values:
            moved[column] = value
            margin = predict_margin(bundle.forest, moved)
            largest = max(largest, before - margin)
            before = margin
    return largest
