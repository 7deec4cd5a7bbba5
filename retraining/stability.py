"""How far two samples of scores lie apart: the population stability index over bands of the first.

The bands lie where decisions fall. Two models of the same quality may put the mass of legitimate payments at 0.0002 or
at 0.001: nobody decides anything there, and over bands that count it no successor of an odd champion would ever pass.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

PSI_QUANTILES: Final = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)
"""Edges of the bands where no threshold is known: quantiles of the champion's scores."""

AROUND_REVIEW: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Edges of the bands where one is: so many times the score from which on the champion reviews."""


def population_stability(expected: FloatArray, found: FloatArray, *, review_at: float | None = None) -> float:
    """Return the population stability index between two score samples, over bands of the expected one.

    Parameters
    ----------
    expected, found
        Scores in [0, 1], of any lengths.
    review_at
        Score from which on payments are reviewed, around which the bands lie; null takes quantiles of ``expected``.

    Examples
    --------
    >>> scores = np.linspace(0.0, 1.0, 1001)
    >>> population_stability(scores, scores), population_stability(scores, scores**2) > 0.1
    (0.0, True)
    >>> bulk = np.linspace(0.0, 0.002, 1001)
    >>> population_stability(bulk, bulk * 4, review_at=0.1)
    0.0
    """
    edges = np.unique(np.quantile(expected, PSI_QUANTILES))
    if review_at is not None:
        edges = np.minimum(review_at * np.array(AROUND_REVIEW), 1.0)
    shares = []
    for scores in (expected, found):
        counts = np.bincount(np.searchsorted(edges, scores, side="right"), minlength=len(edges) + 1)
        shares.append((counts + 0.5) / (len(scores) + 0.5 * (len(edges) + 1)))
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
