"""A card is blocked from the arrival of a label that calls it compromised, for a month, and only then."""

import numpy as np
import pyarrow as pa

from fraud.windows import DAY
from training.compromised import unblocked
from training.dataset import TrainingSet
from training.transaction_log import LABELS_SCHEMA


def test_rows_between_arrival_and_a_month_later_are_blocked() -> None:
    days = np.array([0, 2, 4, 31, 33, 34, 4])
    rows = TrainingSet(
        features=("x",),
        matrix=np.zeros((7, 1), np.float32),
        transaction_id=pa.array([f"t{number}" for number in range(7)]),
        card=np.array([1, 1, 1, 1, 1, 1, 2]),
        event_time_ms=days * DAY,
        amount_minor=np.ones(7, np.int64),
        is_fraud=np.zeros(7, np.bool_),
        as_of_ms=99 * DAY,
    )
    moments = [pa.array([day * DAY * 1000, 0], pa.int64()).cast(pa.timestamp("us", "UTC")) for day in (3, 3)]
    ids, said = pa.array(["t0", "t6"]), pa.array([True, False])
    statements = pa.table([ids, said, pa.array(["chargeback", "chargeback"]), *moments], schema=LABELS_SCHEMA)
    # The label of the first row arrives on day 3: rows of day 4 and 31 are blocked, those from day 33 on are not.
    assert unblocked(rows, statements).tolist() == [True, True, False, False, True, True, True]
