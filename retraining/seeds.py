"""Whether the recipe finds the same model whatever the seed: a challenger that was lucky must not be promoted."""

from dataclasses import replace
from typing import Final

import numpy as np

from retraining.verdict import Check
from training.challenger import TrainingPlan
from training.dataset import TrainingSet
from training.fit import Rows, fit_model
from training.metrics import average_precision
from training.ranking import BoolArray

TREES: Final = 60
"""Of each refit: enough to disagree, a fraction of the time."""
LEGITIMATE: Final = 60_000
"""Legitimate training rows of each refit, evenly spaced; every fraud is kept."""
SPREAD: Final = 0.35
"""Largest (best - worst) / mean of the refits' PR-AUC on the held-out rows."""


def seeds_agree(
    rows: TrainingSet, plan: TrainingPlan, *, as_of_ms: int, others: int = 2, spread: float = SPREAD
) -> Check:
    """Return the check on refits with the plan's seed and others, on the same rows.

    Parameters
    ----------
    rows, plan, as_of_ms
        As for :func:`training.challenger.fit_challenger`.
    others
        Seeds besides the plan's.
    spread
        Allowed.

    Raises
    ------
    UnfitTrainingSet
        Too few frauds to fit.
    """
    name = "seeds_agree"
    start, validation_from, test_from, end = plan.edges(as_of_ms)
    train, validation = (_thinned(rows, rows.between(*edges)) for edges in ((start, validation_from),
                                                                            (validation_from, test_from)))  # fmt: skip
    held = rows.between(test_from, end)
    fraud = rows.is_fraud[held]
    if not 0 < int(fraud.sum()) < len(fraud):
        return Check(name, passed=False, evidence=f"{int(fraud.sum())} frauds in {len(fraud)} held-out rows")
    recipe = replace(plan.recipe, trees=min(TREES, plan.recipe.trees))
    areas = [
        average_precision(
            fit_model(train, validation, rows.features, seed=plan.seed + other, recipe=recipe).scores(
                rows.matrix[held]
            ),
            fraud,
        )
        for other in range(others + 1)
    ]
    found = (max(areas) - min(areas)) / float(np.mean(areas))
    said = ", ".join(f"{area:.3f}" for area in areas)
    return Check(
        name, found <= spread, f"PR-AUC of {len(areas)} seeds {said}: apart by {found:.0%}, {spread:.0%} allowed"
    )


def _thinned(rows: TrainingSet, taken: slice) -> Rows:
    """Return every fraud and some legitimate rows, each weighing what it stands for."""
    fraud: BoolArray = rows.is_fraud[taken]
    legitimate = np.flatnonzero(~fraud)
    step = max(1, -(-len(legitimate) // LEGITIMATE))
    places = np.sort(np.concatenate([np.flatnonzero(fraud), legitimate[::step]])) + taken.start
    weights = np.where(rows.is_fraud[places], 1.0, float(step))
    if rows.weights is not None:
        weights = weights * rows.weights[places]
    return Rows(rows.matrix[places], rows.is_fraud[places], weights.astype(np.float32))
