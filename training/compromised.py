"""Cards that were already known as compromised: in production they are blocked, so no model is judged on them."""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from fraud.windows import DAY
from training.dataset import TrainingSet
from training.ranking import BoolArray
from training.split import not_known_compromised

BLOCKED_DAYS: Final = 30
"""A card known as compromised is blocked for this long, then it counts as replaced."""


def unblocked(rows: TrainingSet, statements: pa.Table) -> BoolArray:
    """Return which rows are of a card that no label had called compromised, in the last month, when they happened.

    Parameters
    ----------
    rows
        A training set; of a card's frauds those count that are among its rows.
    statements
        Table of ``labels.parquet``; what arrived after a row is not known to it.
    """
    frauds = statements.filter(statements["is_fraud"])
    place = pc.index_in(frauds["transaction_id"].combine_chunks(), rows.transaction_id)
    inside = place.is_valid().to_numpy(zero_copy_only=False)
    return not_known_compromised(
        rows.card,
        rows.event_time_ms,
        fraud_card=rows.card[place.drop_null().to_numpy()],
        fraud_arrival_ms=frauds["created_timestamp"].cast(pa.int64()).to_numpy()[inside] // 1000,
        forget_after_ms=BLOCKED_DAYS * DAY,
    )
