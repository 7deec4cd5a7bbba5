"""The public Handbook benchmark, read for its own protocol; the ready mapping ``handbook`` brings it into a log.

The data are simulated: 4,990 customers, 10,000 terminals, 183 days of 2018, 0.84 % fraud. Amounts are rounded half to
even to minor units.

References
----------
Le Borgne, Siblini, Lebichot, Bontempi, *Reproducible Machine Learning for Credit Card Fraud Detection*, 2022, ch. 3.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.errors import UnreadableSource
from training.ranking import DAY_MS, BoolArray, IntArray

COLUMNS: Final = (
    "TRANSACTION_ID",
    "TX_DATETIME",
    "CUSTOMER_ID",
    "TERMINAL_ID",
    "TX_AMOUNT",
    "TX_FRAUD",
    "TX_FRAUD_SCENARIO",
)
"""What the file must hold; other columns are not read."""

LABEL_DELAY_MS: Final = 7 * DAY_MS
"""The book's label delay."""

SCENARIOS: Final = 4
"""Numbers of the scenarios are below; 0 is legitimate."""


@dataclass(frozen=True)
class HandbookTransactions:
    """The benchmark as columns, by event time and then transaction number; each of shape ``(n,)``.

    Parameters
    ----------
    transaction, customer, terminal
        The book's numbers.
    amount_minor
        Cents; a few are 0.
    event_time_ms
        Epoch milliseconds, UTC.
    is_fraud, scenario
        Truth, and the number of the scenario that made it (0 when legitimate). Never a model input.
    """

    transaction: IntArray
    customer: IntArray
    terminal: IntArray
    amount_minor: IntArray
    event_time_ms: IntArray
    is_fraud: BoolArray
    scenario: IntArray


def read_handbook(parquet: Path) -> HandbookTransactions:
    """Return the benchmark's rows.

    Raises
    ------
    UnreadableSource
        The file is missing, no Parquet, empty, or lacks a column or a value; the message says which.
    """
    table = _read_columns(parquet)
    columns = {name: table[name].to_numpy() for name in COLUMNS}
    transaction = columns["TRANSACTION_ID"].astype(np.int64)
    event_time_ms = columns["TX_DATETIME"].astype("datetime64[ms]").astype(np.int64)
    order = np.lexsort((transaction, event_time_ms))
    scenario = columns["TX_FRAUD_SCENARIO"].astype(np.int64)
    if not 0 <= scenario.min() <= scenario.max() < SCENARIOS:
        raise UnreadableSource(f"{parquet}: TX_FRAUD_SCENARIO is not in 0..{SCENARIOS - 1}")
    return HandbookTransactions(
        transaction=transaction[order],
        customer=columns["CUSTOMER_ID"].astype(np.int64)[order],
        terminal=columns["TERMINAL_ID"].astype(np.int64)[order],
        amount_minor=np.rint(columns["TX_AMOUNT"] * 100.0).astype(np.int64)[order],
        event_time_ms=event_time_ms[order],
        is_fraud=(columns["TX_FRAUD"] != 0)[order],
        scenario=scenario[order],
    )


def _read_columns(parquet: Path) -> pa.Table:
    if not parquet.is_file():
        raise UnreadableSource(f"{parquet}: no such file")
    try:
        present = pq.read_schema(parquet).names
        missing = [name for name in COLUMNS if name not in present]
        if missing:
            raise UnreadableSource(f"{parquet}: column {', '.join(missing)} is missing")
        table = pq.read_table(parquet, columns=list(COLUMNS))
    except (pa.ArrowInvalid, OSError) as error:
        raise UnreadableSource(f"{parquet}: not readable as Parquet ({error})") from error
    if not len(table):
        raise UnreadableSource(f"{parquet}: holds no rows")
    for name in COLUMNS:
        if table[name].null_count:
            raise UnreadableSource(f"{parquet}: column {name} holds {table[name].null_count} nulls")
    return table
