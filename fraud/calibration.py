"""From margin to probability: a two-parameter logistic (Platt) fit, strictly monotone, so that ranking is untouched."""

import math
from dataclasses import dataclass

from fraud.errors import CorruptBundle


@dataclass(frozen=True)
class Calibration:
    """``score = 1 / (1 + exp(-(slope * margin + intercept)))`` in float64.

    Parameters
    ----------
    slope
        Above 0: a higher margin is a higher score.
    intercept
        In log-odds.

    Examples
    --------
    >>> Calibration(slope=1.0, intercept=0.0).score(0.0)
    0.5

    References
    ----------
    Platt, "Probabilistic outputs for support vector machines", 1999.
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and math.isfinite(self.intercept) and self.slope > 0.0):
            raise CorruptBundle(f"calibration slope={self.slope}, intercept={self.intercept} is not increasing")

    def score(self, margin: float) -> float:
        """Return the probability of fraud, in [0, 1]."""
        z = self.slope * margin + self.intercept
        if z >= 0.0:
            return 1.0 / (1.0 + math.exp(-z))
        grown = math.exp(z)
        return grown / (1.0 + grown)
