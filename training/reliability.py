"""Can a score be read as a probability? Groups of scores against what happened in them.

Groups hold equally many rows of the riskiest tenth and of the rest in turn, because nearly all payments score next to
nothing: groups of equal width would put everything into one, groups of equal size would hide the few that matter.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from training.errors import InvalidMetricInput
from training.ranking import BoolArray, FloatArray, require_scored_rows, same_length

RISKY_SHARE: Final = 0.1
"""Share of the rows, the riskiest, that gets half of the groups."""


@dataclass(frozen=True)
class Reliability:
    """What scores said and what happened, by group of rising score; each of shape ``(groups,)``.

    Parameters
    ----------
    said, happened
        Mean score and share of fraud.
    rows
        Weight of each group: its rows, or the sum of their weights.
    expected_error
        ECE: mean of ``|said - happened|`` over rows.
    ratio
        Frauds expected over frauds seen: 1 is right, 2 promises twice as many as there are.
    """

    said: FloatArray
    happened: FloatArray
    rows: FloatArray
    expected_error: float
    ratio: float


def reliability(
    scores: FloatArray, is_fraud: BoolArray, *, groups: int = 20, weights: FloatArray | None = None
) -> Reliability:
    """Return how well scores agree with what happened.

    Parameters
    ----------
    scores
        Probability of fraud, each in [0, 1], shape ``(n,)``.
    is_fraud
        Mature labels, shape ``(n,)``.
    groups
        At most how many, an even number.
    weights
        How many rows each row stands for, such as inverse propensities; by default one.

    Raises
    ------
    InvalidMetricInput
        A score is no probability, lengths differ, one class only, or ``groups`` is odd or below 2.

    Examples
    --------
    >>> found = reliability(np.array([0.2, 0.2, 0.8, 0.8]), np.array([False, False, True, True]), groups=2)
    >>> found.expected_error, found.ratio
    (0.2, 1.0)
    """
    require_scored_rows(scores, is_fraud)
    same_length(scores, weights=weights)
    if scores.min() < 0.0 or scores.max() > 1.0:
        raise InvalidMetricInput(f"scores span {scores.min()}..{scores.max()}, which are no probabilities")
    if groups < 2 or groups % 2:
        raise InvalidMetricInput(f"groups {groups} is not an even number of at least 2")
    half = groups // 2
    shares = np.concatenate(
        [np.linspace(0, 1 - RISKY_SHARE, half, endpoint=False)[1:], np.linspace(1 - RISKY_SHARE, 1, half + 1)[:-1]]
    )
    edges = np.unique(np.quantile(scores, shares, method="higher"))
    group = np.searchsorted(edges, scores, side="right")
    weight = np.ones(len(scores)) if weights is None else weights
    rows, said, happened = (
        np.bincount(group, weight * value, minlength=len(edges) + 1).astype(np.float64)
        for value in (np.ones(len(scores)), scores, is_fraud.astype(np.float64))
    )
    held = rows > 0
    rows, said, happened = rows[held], said[held], happened[held]
    return Reliability(
        said=said / rows,
        happened=happened / rows,
        rows=rows,
        expected_error=float(np.abs(said - happened).sum() / rows.sum()),
        ratio=float(said.sum() / happened.sum()),
    )
