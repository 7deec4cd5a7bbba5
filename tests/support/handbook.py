"""The public benchmark's layout: where the data may be, and a small world of the same shape."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.handbook import HandbookTransactions
from training.ranking import DAY_MS

DATA = Path(os.environ.get("TOLLGATE_DATA", Path(__file__).parents[3] / "shared" / "data"))
PARQUET = DATA / "handbook" / "transactions.parquet"
HOUR_MS = DAY_MS // 24
SUNDAY = 17_622 * DAY_MS
"""2018-04-01, a Sunday."""

needs_benchmark = pytest.mark.skipif(
    not PARQUET.is_file(), reason=f"the Handbook data are not at {PARQUET}; set TOLLGATE_DATA to their folder"
)


def small_world(rows: int = 600, seed: int = 0) -> HandbookTransactions:
    """Few customers and terminals over fifty days, with shared milliseconds, and amounts down to nothing."""
    rng = np.random.default_rng(seed)
    scenario = rng.choice(4, rows, p=[0.85, 0.05, 0.05, 0.05])
    return HandbookTransactions(
        transaction=np.arange(rows),
        customer=rng.integers(0, 6, rows),
        terminal=rng.integers(0, 5, rows),
        amount_minor=rng.integers(0, 30_000, rows),
        event_time_ms=SUNDAY + np.sort(rng.integers(0, 50 * 24, rows)) * HOUR_MS,
        is_fraud=scenario > 0,
        scenario=scenario,
    )


def write_source(path: Path, world: HandbookTransactions) -> Path:
    table = pa.table(
        {
            "TRANSACTION_ID": pa.array(world.transaction, pa.int32()),
            "TX_DATETIME": pa.array(world.event_time_ms.astype("datetime64[ms]")).cast(pa.timestamp("ns")),
            "CUSTOMER_ID": pa.array(world.customer, pa.int32()),
            "TERMINAL_ID": pa.array(world.terminal, pa.int32()),
            "TX_AMOUNT": pa.array(world.amount_minor / 100.0),
            "TX_FRAUD": pa.array(world.is_fraud).cast(pa.int8()),
            "TX_FRAUD_SCENARIO": pa.array(world.scenario, pa.int8()),
        }
    )
    pq.write_table(table, path)
    return path
