"""The models of the tiers below the full one, fitted beside it on the same rows.

Each is fitted to what its tier will really see. ``partial`` gets the training rows with whole entities taken away at
random, in every combination that is neither none nor all of them, and everything that hangs on such an entity is null,
exactly as the scorer leaves it when the store does not answer for it. The others get the columns of their tier.
Calibration and thresholds are its own: with a weaker model the same budgets are kept further up, so an outage costs
catch, and not insulted customers.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.policy import TierPolicy
from fraud.tiers import FALLBACKS, Tier, owner, tier_features
from fraud.windows import ENTITIES, Entity
from training.fit import FittedModel, Float32Array, FloatArray, Recipe, Rows, choose_policy, fit_model

FALLBACK_RECIPE: Final = Recipe(trees=80, depth=6, learning_rate=0.2, early_stopping=15)
"""A third of the full model's trees: it serves minutes a year and is fitted every week."""

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FittedFallback:
    """A fitted and calibrated model of one tier.

    Parameters
    ----------
    model
        Its inputs are a choice of the full model's.
    columns
        Where in the training set's rows they lie.
    scores, is_fraud, weights
        Of the validation rows as the tier sees them, shape ``(n,)``; no weights where each stands for itself.
    """

    model: FittedModel
    columns: npt.NDArray[np.intp]
    scores: FloatArray
    is_fraud: BoolArray
    weights: FloatArray | None = None


def fit_fallbacks(
    train: Rows, validation: Rows, features: Sequence[str], *, seed: int, recipe: Recipe = FALLBACK_RECIPE
) -> dict[Tier, FittedFallback]:
    """Return the model of each tier below the full one that ``features`` hold an input for.

    Parameters
    ----------
    train, validation, seed
        As in :func:`training.fit.fit_model`.
    features
        Names of the rows' columns.

    Raises
    ------
    UnfitTrainingSet
        Too few frauds, or nothing but frauds.
    """
    places = {name: index for index, name in enumerate(features)}
    fitted: dict[Tier, FittedFallback] = {}
    for number, tier in enumerate(FALLBACKS):
        names = tuple(name for name in tier_features(tier) if name in places)
        if not names:
            continue
        columns = np.array([places[name] for name in names], np.intp)
        seen = [Rows(rows.matrix[:, columns], rows.is_fraud, rows.weights) for rows in (train, validation)]
        if tier == "partial":
            for rows, offset in zip(seen, (0, 1), strict=True):
                take_entities_away(rows.matrix, names, seed=seed + offset)
        model = fit_model(seen[0], seen[1], names, seed=seed + number, recipe=recipe)
        scores = model.scores(seen[1].matrix)
        fitted[tier] = FittedFallback(model, columns, scores, validation.is_fraud, validation.weights)
    return fitted


def take_entities_away(matrix: Float32Array, features: Sequence[str], *, seed: int) -> None:
    """Make null, in place and row by row, all that hangs on a random choice of entities: not none, not all of them."""
    choices = [choice for size in range(1, len(ENTITIES)) for choice in itertools.combinations(ENTITIES, size)]
    drawn = np.random.default_rng(seed).integers(len(choices), size=len(matrix))
    for number, choice in enumerate(choices):
        rows = np.flatnonzero(drawn == number)
        matrix[np.ix_(rows, owned_columns(features, choice))] = np.nan


def owned_columns(features: Sequence[str], entities: Sequence[Entity]) -> npt.NDArray[np.intp]:
    """Return the places of the features that are null without ``entities``."""
    return np.array([index for index, name in enumerate(features) if owner(name) in entities], np.intp)


def tier_policies(
    fallbacks: Mapping[Tier, FittedFallback], *, review_share: float, insult_share: float
) -> dict[Tier, TierPolicy]:
    """Return the thresholds of each tier that keep the same budgets as the full one's.

    Raises
    ------
    UnfitTrainingSet
        So many scores of 1 that no threshold keeps a budget.
    """
    policies: dict[Tier, TierPolicy] = {}
    for tier, held in fallbacks.items():
        chosen = choose_policy(
            held.scores, held.is_fraud, version=tier, review_share=review_share, insult_share=insult_share,
            weight=held.weights,
        )  # fmt: skip
        policies[tier] = TierPolicy(chosen.review_at, chosen.decline_at)
    return policies
