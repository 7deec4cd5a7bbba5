"""What the gate judges: the held-out rows scored by both models, and what is known of the packed challenger."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Thresholds:
    """Where each model reviews and declines on its own, and the budgets that the challenger's were chosen for.

    Parameters
    ----------
    champion, challenger
        Scores from which on each reviews, and declines.
    review_share, insult_share
        Share of all rows that people can look at; share of the legitimate ones that may be declined.
    """

    champion: tuple[float, float]
    challenger: tuple[float, float]
    review_share: float
    insult_share: float


@dataclass(frozen=True)
class HeldOut:
    """The rows both models are judged on: equally long columns.

    Parameters
    ----------
    champion, challenger
        Scores of each, in [0, 1].
    is_fraud
        Labels known at the time.
    event_time_ms
        Event times.
    amount_minor
        Amounts; without them no bands are compared.
    parts
        Which rows are in each segment whose catch is compared.
    fraud_type
        Text, empty where nobody knows; null where labels carry no type.
    card
        A number for each card: several frauds of one card are one witness; without it each row is one.
    thresholds
        Of both models; without them nothing is said of their operating points.
    weights
        How many payments each row stands for, above 0; null when each stands for itself.
    left_out
        Rows that are not here: their card was known as compromised when they happened.
    """

    champion: FloatArray
    challenger: FloatArray
    is_fraud: BoolArray
    event_time_ms: IntArray
    amount_minor: IntArray | None = None
    parts: Mapping[str, BoolArray] = field(default_factory=dict)
    fraud_type: npt.NDArray[np.object_] | None = None
    card: IntArray | None = None
    thresholds: Thresholds | None = None
    weights: FloatArray | None = None
    left_out: int = 0

    @property
    def weight(self) -> FloatArray:
        """What each row counts."""
        return np.ones(len(self.is_fraud)) if self.weights is None else self.weights

    @property
    def effective_rows(self) -> float:
        """Kish's effective sample size: how many equally weighted rows would know as much."""
        return effective_size(self.weight)

    @property
    def effective_frauds(self) -> float:
        """Kish's effective sample size of the frauds."""
        return effective_size(self.weight[self.is_fraud])


@dataclass(frozen=True)
class PackedModel:
    """What is known of the packed challenger before it is judged on rows.

    Parameters
    ----------
    fault
        Why it does not open and reproduce its recorded margins in the scorer's own runtime; null when it does.
    total_bytes, trees
        Size of all its files, and of its model.
    row_us
        Processor time of one row in the scorer's runtime, microseconds; null when it was not measured.
    """

    fault: str | None
    total_bytes: int
    trees: int
    row_us: float | None = None


def effective_size(weights: FloatArray) -> float:
    """Return ``(sum w)^2 / sum w^2``, 0 for nothing.

    Examples
    --------
    >>> effective_size(np.ones(5)), effective_size(np.array([1.0, 1.0, 10.0]))
    (5.0, 1.4118)
    """
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0
