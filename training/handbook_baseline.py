"""The frozen baseline on the Handbook data: what a team would have in production, pinned for good.

The book's own fifteen features on eleven weeks, ``2018-05-15`` to ``2018-07-31``, stopped and calibrated on the two
weeks that follow a label delay later. Every number is a constant of this module, so that what our figures are compared
with never moves: neither a library's defaults nor a better recipe of ours reaches it.
"""

from typing import Final

import numpy as np

from training.fit import FittedModel, Float32Array, Recipe, Rows, fit_model
from training.handbook import HandbookTransactions
from training.handbook_protocol import BOOK_FEATURES, book_features
from training.split import Period
from training.transaction_log import Progress

FROZEN_RECIPE: Final = Recipe(
    trees=400, depth=6, learning_rate=0.1, min_child_weight=5.0, subsample=0.8, colsample=0.8, reg_lambda=1.0,
    early_stopping=30,
)  # fmt: skip


def _days(first: str, after_last: str) -> Period:
    start, end = (int(np.datetime64(day, "ms").astype(np.int64)) for day in (first, after_last))
    return Period(start, end)


TRAIN: Final = _days("2018-05-15", "2018-08-01")
VALIDATION: Final = _days("2018-08-08", "2018-08-22")
TEST: Final = _days("2018-08-29", "2018-10-01")


def frozen_matrix(transactions: HandbookTransactions, *, label_delay_ms: int) -> Float32Array:
    """Return the frozen baseline's inputs of each transaction, its terminal risks ``label_delay_ms`` late."""
    return book_features(transactions, label_delay_ms=label_delay_ms).astype(np.float32)


def frozen_model(
    transactions: HandbookTransactions, matrix: Float32Array, *, seed: int, progress: Progress | None = None
) -> FittedModel:
    """Return the frozen baseline.

    Parameters
    ----------
    transactions
        The whole benchmark, in time order.
    matrix
        Of :func:`frozen_matrix`.
    seed
        Of row and column sampling, the only thing that is not pinned.
    progress
        Called with the trees done and the most there can be.
    """
    blocks = [period.contains(transactions.event_time_ms) for period in (TRAIN, VALIDATION)]
    train, validation = (Rows(matrix[taken], transactions.is_fraud[taken]) for taken in blocks)
    return fit_model(train, validation, BOOK_FEATURES, seed=seed, recipe=FROZEN_RECIPE, progress=progress)
