"""A bounded search for a recipe, inside the training window only, and the same again for the same seed.

The window is cut once more in time: fit, stop, skip the label delay, score. The rows that a later evaluation judges are
not among them, so what the search promises is no evidence of what it found; that is what an evaluation is for. Trials
run one after another, because parallel ones would be told of each other in an order that chance decides. What must not
move between versions of a library (``tree_method``, ``base_score``, ``max_bin``) is pinned in :mod:`training.fit` and
is no part of the space.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from training.challenger import rows_of
from training.dataset import TrainingSet
from training.errors import InvalidSplit
from training.fit import RECIPE, Recipe, fit_model
from training.ranking import rank
from training.split import SplitPlan, prequential_folds, start_ending
from training.transaction_log import Progress

if TYPE_CHECKING:
    import optuna

MOST_TRIALS: Final = 200
SPACE: Final[dict[str, tuple[float, float]]] = {
    "depth": (3, 8),
    "learning_rate": (0.03, 0.2),
    "min_child_weight": (1.0, 30.0),
    "subsample": (0.5, 1.0),
    "colsample": (0.3, 1.0),
    "reg_lambda": (0.5, 10.0),
}
"""Bounds of each parameter; rates and weights are drawn on a logarithmic scale."""
_LOGARITHMIC: Final = frozenset({"learning_rate", "min_child_weight", "reg_lambda"})


@dataclass(frozen=True)
class SearchPlan:
    """How a training window is cut for the search.

    Parameters
    ----------
    stop_days, score_days
        Days that stop the fit, and days that score it, of each fold.
    label_delay_days
        Days skipped between them.
    folds
        Folds, each ``score_days`` later than the one before; a recipe's worth is its mean over them.
    trials
        Recipes tried, the product's own first; 1 to ``MOST_TRIALS``.
    seed
        Of the sampler and of the fits.

    Raises
    ------
    InvalidSplit
        A number is out of range.
    """

    stop_days: int = 7
    score_days: int = 7
    label_delay_days: int = 7
    folds: int = 2
    trials: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"stop_days": 1, "score_days": 1, "label_delay_days": 0, "folds": 1, "trials": 1, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise InvalidSplit(f"{name} {getattr(self, name)} is not at least {bound}")
        if self.trials > MOST_TRIALS:
            raise InvalidSplit(f"trials {self.trials} is more than {MOST_TRIALS}: a longer search fits its own noise")


@dataclass(frozen=True)
class Trial:
    """One recipe, and its mean PR-AUC over the folds."""

    recipe: Recipe
    pr_auc: float


@dataclass(frozen=True)
class Found:
    """The result of a search: every trial in order, the best of them, and what the product's own recipe reached."""

    trials: tuple[Trial, ...]
    best: Trial
    own: Trial


@dataclass(frozen=True)
class _Fold:
    fit: slice
    stop: slice
    score: slice


def search(rows: TrainingSet, plan: SearchPlan, *, progress: Progress) -> Found:
    """Return the best recipe of a bounded search; same rows, plan and library, same trials.

    Parameters
    ----------
    rows
        The training window, nothing after it.
    plan
        How it is cut and how long is searched.
    progress
        Called with the trials done and the trials in all.

    Raises
    ------
    InvalidSplit
        The window is too short for the plan.
    UnfitTrainingSet
        A fold has too few frauds.
    """
    import optuna

    folds = _folds(rows, plan)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=plan.seed, n_startup_trials=max(plan.trials // 3, 1))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial({name: getattr(RECIPE, name) for name in SPACE})
    trials: list[Trial] = []
    for number in range(plan.trials):
        asked = study.ask()
        recipe = _draw(asked)
        worth = float(np.mean([_worth(rows, fold, recipe, plan.seed) for fold in folds]))
        study.tell(asked, worth)
        trials.append(Trial(recipe, worth))
        progress(number + 1, plan.trials)
    return Found(tuple(trials), max(trials, key=lambda trial: trial.pr_auc), trials[0])


def _draw(trial: "optuna.Trial") -> Recipe:
    chosen: dict[str, float] = {}
    for name, (low, high) in SPACE.items():
        if isinstance(getattr(RECIPE, name), int):
            chosen[name] = trial.suggest_int(name, int(low), int(high))
        else:
            chosen[name] = trial.suggest_float(name, low, high, log=name in _LOGARITHMIC)
    return Recipe(**{**asdict(RECIPE), **chosen})


def _folds(rows: TrainingSet, plan: SearchPlan) -> Sequence[_Fold]:
    """Return the folds, each as long as the window allows, the last one ending where the window ends."""
    if not len(rows.is_fraud):
        raise InvalidSplit("the training window holds no row to search with")
    day_ms = 86_400_000
    start = int(rows.event_time_ms[0]) // day_ms
    end = int(rows.event_time_ms[-1]) // day_ms + 1
    train_days = end - start - plan.label_delay_days - plan.folds * plan.score_days
    if train_days <= plan.stop_days:
        raise InvalidSplit(
            f"{end - start} days are too few to search in: {plan.folds} folds of {plan.score_days} days after a delay "
            f"of {plan.label_delay_days} leave {train_days} to fit on and to stop with; take a longer window"
        )
    cut = SplitPlan(train_days, plan.label_delay_days, plan.score_days)
    first = start_ending(cut, end_ms=(end - (plan.folds - 1) * plan.score_days) * day_ms)
    found = []
    for fold in prequential_folds(rows.event_time_ms, cut, start_ms=first, folds=plan.folds):
        stop_from = fold.train_period.end_ms - plan.stop_days * day_ms
        found.append(
            _Fold(
                rows.between(fold.train_period.start_ms, stop_from),
                rows.between(stop_from, fold.train_period.end_ms),
                rows.between(fold.test_period.start_ms, fold.test_period.end_ms),
            )
        )
    return found


def _worth(rows: TrainingSet, fold: _Fold, recipe: Recipe, seed: int) -> float:
    model = fit_model(rows_of(rows, fold.fit), rows_of(rows, fold.stop), rows.features, seed=seed, recipe=recipe)
    scored = rows_of(rows, fold.score)
    ranking = rank(model.scores(scored.matrix), scored.is_fraud, weights=scored.weights)
    return float(ranking.curve().average_precision()[0])


def rounded(recipe: Recipe) -> Recipe:
    """Return a recipe with its numbers to four digits, as it is written to a file and then used."""
    values = {name: float(f"{value:.4g}") for name, value in asdict(recipe).items() if isinstance(value, float)}
    return Recipe(**{**asdict(recipe), **values})
