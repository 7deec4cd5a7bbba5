"""The Handbook's own baseline: its fifteen features, its split in time, its removal of known cards.

Kept exactly as the book has them (a transaction counts itself, windows are ``(t - w, t]``), because they exist to
reproduce the book's figures and so to prove our metrics; the product's windows are those of the feature contract.

References
----------
Le Borgne et al., *Fraud Detection Handbook*, ch. 3, "Baseline feature transformation" and "Baseline system".
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from training.errors import InvalidSplit
from training.handbook import LABEL_DELAY_MS, HandbookTransactions
from training.ranking import DAY_MS, FloatArray, IntArray

WINDOW_DAYS: Final = (1, 7, 30)

BOOK_FEATURES: Final = (
    "TX_AMOUNT",
    "TX_DURING_WEEKEND",
    "TX_DURING_NIGHT",
    "CUSTOMER_ID_NB_TX_1DAY_WINDOW",
    "CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW",
    "CUSTOMER_ID_NB_TX_7DAY_WINDOW",
    "CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW",
    "CUSTOMER_ID_NB_TX_30DAY_WINDOW",
    "CUSTOMER_ID_AVG_AMOUNT_30DAY_WINDOW",
    "TERMINAL_ID_NB_TX_1DAY_WINDOW",
    "TERMINAL_ID_RISK_1DAY_WINDOW",
    "TERMINAL_ID_NB_TX_7DAY_WINDOW",
    "TERMINAL_ID_RISK_7DAY_WINDOW",
    "TERMINAL_ID_NB_TX_30DAY_WINDOW",
    "TERMINAL_ID_RISK_30DAY_WINDOW",
)
"""The book's names, in its order."""

_HOUR_MS: Final = 3_600_000
_EPOCH_WEEKDAY: Final = 3
"""1970-01-01 was a Thursday, with Monday as 0."""
_SATURDAY: Final = 5
_LAST_NIGHT_HOUR: Final = 6


@dataclass(frozen=True)
class BookSplit:
    """Row positions of the book's training and test set, each in time order."""

    train: IntArray
    test: IntArray


def book_features(transactions: HandbookTransactions, *, label_delay_ms: int = LABEL_DELAY_MS) -> FloatArray:
    """Return the fifteen features of each transaction, point in time, shape ``(n, 15)``.

    Parameters
    ----------
    transactions
        In time order; rows of one entity at one millisecond are taken in the order given.
    label_delay_ms
        Terminal counts and risks end this long before the transaction.

    Returns
    -------
    FloatArray
        Columns as in :data:`BOOK_FEATURES`. A risk without any transaction in its window is 0.
    """
    time = transactions.event_time_ms
    amount = transactions.amount_minor
    columns: list[npt.NDArray[np.generic]] = [
        amount / 100.0,
        (time // DAY_MS + _EPOCH_WEEKDAY) % 7 >= _SATURDAY,
        time % DAY_MS // _HOUR_MS <= _LAST_NIGHT_HOUR,
    ]
    for days in WINDOW_DAYS:
        count, total = _trailing(transactions.customer, time, amount, window_ms=days * DAY_MS, delay_ms=0)
        columns += [count, total / 100.0 / count]
    fraud = transactions.is_fraud.astype(np.int64)
    for days in WINDOW_DAYS:
        count, frauds = _trailing(transactions.terminal, time, fraud, window_ms=days * DAY_MS, delay_ms=label_delay_ms)
        columns += [count, frauds / np.maximum(count, 1)]
    return np.column_stack(columns).astype(np.float64)


def book_split(
    transactions: HandbookTransactions,
    *,
    train_start_ms: int,
    train_days: int = 7,
    delay_days: int = 7,
    test_days: int = 7,
) -> BookSplit:
    """Return the book's training and test rows.

    A test day leaves out every customer with a fraud from the first training day up to, and without, the day that lies
    ``delay_days`` before it: those whose labels have arrived.

    Parameters
    ----------
    transactions
        In time order.
    train_start_ms
        Midnight UTC of the first training day.
    train_days, delay_days, test_days
        Lengths; the delay lies between training and test.

    Raises
    ------
    InvalidSplit
        A length is out of range, the start is no midnight, or a part holds no row.
    """
    if train_start_ms % DAY_MS or train_days < 1 or test_days < 1 or delay_days < 0:
        raise InvalidSplit(
            f"train_start_ms {train_start_ms} must be a midnight, train_days {train_days} and test_days {test_days} "
            f"at least 1, delay_days {delay_days} at least 0"
        )
    day = transactions.event_time_ms // DAY_MS
    train_start = train_start_ms // DAY_MS
    test_start = train_start + train_days + delay_days
    never = int(day.max()) + delay_days + 1
    first_fraud_day = np.full(int(transactions.customer.max()) + 1, never)
    counted = transactions.is_fraud & (day >= train_start)
    np.minimum.at(first_fraud_day, transactions.customer[counted], day[counted])
    known = first_fraud_day[transactions.customer] < day - delay_days
    train = np.flatnonzero((day >= train_start) & (day < train_start + train_days))
    test = np.flatnonzero((day >= test_start) & (day < test_start + test_days) & ~known)
    if not len(train) or not len(test):
        raise InvalidSplit(f"{len(train)} rows to train and {len(test)} to test from train_start_ms {train_start_ms}")
    return BookSplit(train, test)


def _trailing(
    entity: IntArray, time_ms: IntArray, values: IntArray, *, window_ms: int, delay_ms: int
) -> tuple[IntArray, IntArray]:
    """Return count and exact sum over ``(t - delay - window, t - delay]`` of each row's entity, in input order.

    Without a delay the window ends with the row itself; later rows of the same millisecond are not in it.
    """
    order = np.lexsort((time_ms, entity))
    reach = int(time_ms.max() - time_ms.min()) + delay_ms + window_ms + 1
    key = entity[order] * (2 * reach) + (time_ms[order] - time_ms.min()) + reach
    end = np.searchsorted(key, key - delay_ms, side="right") if delay_ms else np.arange(1, len(key) + 1)
    start = np.searchsorted(key, key - delay_ms - window_ms, side="right")
    running = np.concatenate([[0], np.cumsum(values[order])])
    count, total = np.empty(len(key), np.int64), np.empty(len(key), np.int64)
    count[order] = end - start
    total[order] = running[end] - running[start]
    return count, total
