"""Fit, calibrate, choose thresholds: a training set in, the parts of a model bundle out.

What decides reproducibility is pinned here, not left to a library's defaults: a bare upgrade of XGBoost once moved
average precision by 0.076 through ``base_score`` and ``tree_method`` alone.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xgboost as xgb
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from fraud.calibration import Calibration
from fraud.features import CONTEXT_FEATURES, FEATURE_NAMES
from fraud.policy import Policy
from training.errors import UnfitTrainingSet
from training.transaction_log import Progress

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

BASELINE_FEATURES: Final = (
    *(feature.name for feature in CONTEXT_FEATURES[:7]),
    "card_transaction_count_24h",
    "card_amount_mean_24h",
    "card_transaction_count_7d",
    "card_amount_mean_7d",
    "card_transaction_count_30d",
    "card_amount_mean_30d",
    "merchant_transaction_count_24h",
    "merchant_report_share_24h",
    "merchant_transaction_count_7d",
    "merchant_report_share_7d",
    "merchant_transaction_count_30d",
    "merchant_report_share_30d",
)
"""The frozen baseline's inputs: the payment's own fields and the Fraud Detection Handbook's windows of card and
merchant, in this product's definitions; what a team without a device, short windows or distinct counts would have."""

LEAST_FRAUDS: Final = 30

REPORT_FEATURES: Final = tuple(name for name in FEATURE_NAMES if "_report_count_" in name or "_report_share_" in name)
"""How much fraud was reported of a card, a merchant, a device: more of it never makes a payment safer."""


@dataclass(frozen=True)
class Recipe:
    """How a model is fitted; every number that moves a result.

    Parameters
    ----------
    trees, depth, learning_rate, min_child_weight, subsample, colsample, reg_lambda
        As in XGBoost.
    early_stopping
        Rounds without a better validation loss; 0 fits all ``trees``.
    increasing
        Features whose rise never lowers the score, all else equal; those that the rows do not have are passed over.
    """

    trees: int = 300
    depth: int = 6
    learning_rate: float = 0.1
    min_child_weight: float = 5.0
    subsample: float = 0.8
    colsample: float = 0.6
    reg_lambda: float = 2.0
    early_stopping: int = 25
    increasing: tuple[str, ...] = ()


RECIPE: Final = Recipe(increasing=REPORT_FEATURES)
BASELINE_RECIPE: Final = Recipe(
    trees=100, depth=6, learning_rate=0.3, min_child_weight=1.0, subsample=1.0, colsample=1.0, reg_lambda=1.0,
    early_stopping=0,
)  # fmt: skip
"""XGBoost's classic defaults, as the Handbook used them."""


@dataclass(frozen=True)
class Rows:
    """Rows to fit or judge with: a float32 matrix, shape ``(n, width)``, NaN for null, and labels, shape ``(n,)``.

    ``weights``, shape ``(n,)``, say how many transactions each row stands for; null when each stands for itself.
    """

    matrix: Float32Array
    is_fraud: BoolArray
    weights: FloatArray | None = None


@dataclass(frozen=True)
class FittedModel:
    """A fitted and calibrated model.

    Parameters
    ----------
    model_json
        XGBoost's own JSON.
    features
        Ordered names of its inputs.
    calibration
        From margin to probability, fitted on validation rows.
    trees
        How many trees it kept.
    increasing
        Those of its inputs whose rise never lowers the margin.
    """

    model_json: bytes
    features: tuple[str, ...]
    calibration: Calibration
    trees: int
    increasing: tuple[str, ...] = ()

    def margins(self, matrix: Float32Array) -> FloatArray:
        """Return XGBoost's margin of each row, shape ``(n,)``."""
        booster = xgb.Booster({"nthread": _THREADS})
        booster.load_model(bytearray(self.model_json))
        found: FloatArray = booster.inplace_predict(matrix, predict_type="margin").astype(np.float64)
        return found

    def scores(self, matrix: Float32Array) -> FloatArray:
        """Return the calibrated probability of fraud of each row, shape ``(n,)``."""
        z = self.calibration.slope * self.margins(matrix) + self.calibration.intercept
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)), np.float64)


_THREADS: Final = 1


def fit_model(
    train: Rows,
    validation: Rows,
    features: tuple[str, ...],
    *,
    seed: int,
    recipe: Recipe = RECIPE,
    progress: Progress | None = None,
) -> FittedModel:
    """Return the model of ``train``, stopped and calibrated on ``validation``.

    Parameters
    ----------
    train, validation
        Later rows validate; each with at least ``LEAST_FRAUDS`` frauds and as many others.
    features
        Names of the columns.
    seed
        Of row and column sampling: same rows and seed, same bytes.
    progress
        Called with the trees done and the most there can be.

    Raises
    ------
    UnfitTrainingSet
        Too few frauds, or nothing but frauds.
    """
    for name, rows in (("training", train), ("validation", validation)):
        counted = rows.is_fraud if rows.weights is None else rows.is_fraud[rows.weights > 0.0]
        frauds = int(counted.sum())
        if min(frauds, len(counted) - frauds) < LEAST_FRAUDS:
            raise UnfitTrainingSet(
                f"{name} has {frauds} frauds in {len(counted)} rows; at least {LEAST_FRAUDS} of each class are "
                "needed: take a longer period, or a shorter label delay"
            )
    parameters: dict[str, Any] = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_bin": 256,
        "base_score": 0.5,
        "eval_metric": "logloss",
        "max_depth": recipe.depth,
        "learning_rate": recipe.learning_rate,
        "min_child_weight": recipe.min_child_weight,
        "subsample": recipe.subsample,
        "colsample_bytree": recipe.colsample,
        "reg_lambda": recipe.reg_lambda,
        "nthread": _THREADS,
        "seed": seed,
    }
    increasing = tuple(name for name in features if name in recipe.increasing)
    if increasing:
        parameters["monotone_constraints"] = tuple(int(name in increasing) for name in features)
    blocks = [xgb.QuantileDMatrix(train.matrix, train.is_fraud, weight=train.weights, nthread=_THREADS)]
    blocks.append(
        xgb.QuantileDMatrix(
            validation.matrix, validation.is_fraud, weight=validation.weights, nthread=_THREADS, ref=blocks[0]
        )
    )
    booster = xgb.train(
        parameters,
        blocks[0],
        num_boost_round=recipe.trees,
        evals=[(blocks[1], "validation")],
        early_stopping_rounds=recipe.early_stopping or None,
        verbose_eval=False,
        callbacks=[] if progress is None else [_Advance(recipe.trees, progress)],
    )
    kept = booster.best_iteration + 1 if recipe.early_stopping else recipe.trees
    booster = booster[:kept]
    booster.set_attr(best_iteration=None, best_score=None)
    model_json = bytes(booster.save_raw("json"))
    uncalibrated = FittedModel(model_json, features, Calibration(1.0, 0.0), kept, increasing)
    calibration = fit_calibration(
        uncalibrated.margins(validation.matrix), validation.is_fraud, weights=validation.weights
    )
    return replace(uncalibrated, calibration=calibration)


class _Advance(xgb.callback.TrainingCallback):
    """Tells a progress bar about each tree."""

    def __init__(self, trees: int, progress: Progress) -> None:
        self._trees = trees
        self._progress = progress

    def after_iteration(self, model: Any, epoch: int, _evals_log: Any) -> bool:  # noqa: ARG002  # XGBoost's signature
        self._progress(epoch + 1, self._trees)
        return False


def fit_calibration(margins: FloatArray, is_fraud: BoolArray, *, weights: FloatArray | None = None) -> Calibration:
    """Return the logistic calibration of ``margins``; one that would not increase is left as it is (slope 1).

    ``weights`` are those of :class:`Rows`. Sums over many rows are rounded as they are shared out among threads, so
    there is one: the same rows give the same bits on any number of cores, and nobody spins for a fit of two numbers.
    """
    model = LogisticRegression(C=1e6, max_iter=1000)
    with threadpool_limits(_THREADS, "blas"):
        fitted = model.fit(margins[:, None], is_fraud, sample_weight=weights)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return Calibration(slope, intercept) if slope > 0.0 else Calibration(1.0, 0.0)


def choose_policy(
    scores: FloatArray,
    is_fraud: BoolArray,
    *,
    version: str,
    review_share: float,
    insult_share: float,
    weight: FloatArray | None = None,
) -> Policy:
    """Return thresholds that keep two budgets on validation rows.

    Parameters
    ----------
    scores, is_fraud
        Validation rows, shape ``(n,)``.
    review_share
        Share of all transactions that people can look at (reviews and declines together stay within it).
    insult_share
        Share of legitimate transactions that may be declined.
    weight
        How many transactions each row stands for, shape ``(n,)``; null when every row stands for itself.

    Raises
    ------
    UnfitTrainingSet
        No legitimate row, or so many scores of 1 that no threshold keeps a budget.

    Examples
    --------
    Of four rows one may be looked at; of the three legitimate ones none may be declined. Thresholds lie half-way up.

    >>> policy = choose_policy(
    ...     np.array([0.1, 0.2, 0.6, 0.8]), np.array([False, False, False, True]),
    ...     version="p1", review_share=0.25, insult_share=0.0,
    ... )
    >>> policy.review_at, policy.decline_at
    (0.7, 0.8)
    """
    legitimate = scores[~is_fraud]
    if not len(legitimate):
        raise UnfitTrainingSet("validation has no legitimate row to choose thresholds with")
    counts = np.ones(len(scores)) if weight is None else weight.astype(np.float64)
    review_at = max(_threshold(scores, counts, review_share), 1e-6)
    return Policy(version, review_at, max(_threshold(legitimate, counts[~is_fraud], insult_share), review_at))


def _threshold(scores: FloatArray, counts: FloatArray, share: float) -> float:
    """Return a threshold that at most ``share`` of the rows' counts reach, half-way to the nearest score above."""
    order = np.argsort(-scores, kind="stable")
    falling, reached = scores[order], np.cumsum(counts[order])
    allowed = int(np.searchsorted(reached, share * reached[-1], side="right"))
    if allowed >= len(falling):
        return float(falling[-1])
    first_out = float(falling[allowed])
    if first_out >= 1.0:
        raise UnfitTrainingSet(f"more than {share:g} of {len(scores)} validation scores are 1: no threshold is above")
    higher = falling[:allowed][falling[:allowed] > first_out]
    return (first_out + (float(higher[-1]) if len(higher) else 1.0)) / 2.0
