"""How far two samples of scores lie apart: the population stability index over bands of the first."""

from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

PSI_QUANTILES: Final = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)
"""Edges of the score bands that are compared: quantiles of the champion's scores, finest where decisions fall."""


def population_stability(expected: FloatArray, found: FloatArray) -> float:
    """Return the population stability index between two score samples, over bands of the expected one.

    Examples
    --------
    >>> scores = np.linspace(0.0, 1.0, 1001)
    >>> population_stability(scores, scores), population_stability(scores, scores**2) > 0.1
    (0.0, True)
    """
    edges = np.unique(np.quantile(expected, PSI_QUANTILES))
    shares = []
    for scores in (expected, found):
        counts = np.bincount(np.searchsorted(edges, scores, side="right"), minlength=len(edges) + 1)
        shares.append((counts + 0.5) / (len(scores) + 0.5 * (len(edges) + 1)))
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
