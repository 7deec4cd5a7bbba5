"""The parts of the held-out rows that a total may hide, read from the features themselves: channel, home or abroad."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud.transaction import CHANNELS
from training.dataset import TrainingSet

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "transaction_channel": CHANNELS,
    "transaction_foreign": ("at home", "abroad"),
}
"""Features whose value says which part a row is in, and what each value means."""
THIRDS: Final = ("the smallest third of fraud amounts", "the middle third", "the largest third of fraud amounts")


def parts_of(rows: TrainingSet, taken: IntArray) -> dict[str, BoolArray]:
    """Return which of some rows are in each part; a part that no feature tells is not there."""
    found: dict[str, BoolArray] = {}
    for feature, names in _NAMES.items():
        if feature in rows.features:
            values = rows.matrix[taken, rows.features.index(feature)]
            found |= {name: values == number for number, name in enumerate(names)}
    return found


def amount_thirds(amount_minor: IntArray, is_fraud: BoolArray) -> dict[str, BoolArray]:
    """Return which rows are in each third of the fraud amounts.

    Examples
    --------
    >>> [int(part.sum()) for part in amount_thirds(np.arange(9), np.ones(9, np.bool_)).values()]
    [3, 3, 3]
    """
    edges = np.quantile(amount_minor[is_fraud], [1 / 3, 2 / 3])
    band = np.searchsorted(edges, amount_minor)
    return {name: band == number for number, name in enumerate(THIRDS)}


def summed_by_day(
    values: npt.NDArray[Any], parts: Mapping[str, BoolArray], day: npt.NDArray[np.intp], days: int
) -> FloatArray:
    """Return the sum of ``values`` over each part and day, shape ``(parts, days)``."""
    return np.stack([np.bincount(day, values * part, minlength=days) for part in parts.values()])
