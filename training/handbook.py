"""The public Handbook benchmark: read its Parquet file, and bring it into the transaction log's layout.

The data are simulated (4,990 customers, 10,000 terminals, 183 days of 2018, 0.84 % fraud) and carry no device, place or
category, so these are constants here. Amounts are rounded half to even to minor units; the few that round to nothing
become one minor unit in the log, whose amounts are positive, and are counted in the report.

References
----------
Le Borgne, Siblini, Lebichot, Bontempi, *Reproducible Machine Learning for Credit Card Fraud Detection*, 2022, ch. 3.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.errors import UnreadableSource
from training.ranking import DAY_MS, BoolArray, IntArray
from training.transaction_log import (
    LABELS_SCHEMA,
    TRANSACTIONS_SCHEMA,
    TRUTH_SCHEMA,
    Progress,
    day_text,
    moments,
    whole_folder,
    write_manifest,
    write_table,
    write_transactions,
)

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

FRAUD_TYPES: Final = (None, "amount_over_220", "terminal_compromised", "card_details_stolen")
"""Name of each scenario number; 0 is legitimate."""

CURRENCY: Final = "EUR"
CHANNEL: Final = "pos"
MERCHANT_CATEGORY: Final = 5999
"""Miscellaneous and specialty retail: the data name no category."""

COUNTRY: Final = "BE"
"""Where the book was written: the data name no country."""


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


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote.

    Parameters
    ----------
    rows, days, frauds, labels
        Transactions, UTC days with any, fraudulent transactions, label rows.
    first_day, last_day
        UTC days as text.
    raised_amounts
        Transactions whose amount was nothing and became one minor unit.
    fraud_types
        Frauds of each type.
    """

    rows: int
    days: int
    frauds: int
    labels: int
    first_day: str
    last_day: str
    raised_amounts: int
    fraud_types: dict[str, int]


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
    if not 0 <= scenario.min() <= scenario.max() < len(FRAUD_TYPES):
        raise UnreadableSource(f"{parquet}: TX_FRAUD_SCENARIO is not in 0..{len(FRAUD_TYPES) - 1}")
    return HandbookTransactions(
        transaction=transaction[order],
        customer=columns["CUSTOMER_ID"].astype(np.int64)[order],
        terminal=columns["TERMINAL_ID"].astype(np.int64)[order],
        amount_minor=np.rint(columns["TX_AMOUNT"] * 100.0).astype(np.int64)[order],
        event_time_ms=event_time_ms[order],
        is_fraud=(columns["TX_FRAUD"] != 0)[order],
        scenario=scenario[order],
    )


def import_handbook(
    parquet: Path, out_dir: Path, progress: Progress, *, label_delay_ms: int = LABEL_DELAY_MS
) -> ImportReport:
    """Write the benchmark as a transaction log and return what was written.

    Parameters
    ----------
    parquet
        The benchmark's file.
    out_dir
        Folder of the data set; must not exist, or be empty.
    progress
        Called after each day with the rows written and the rows in all.
    label_delay_ms
        How long after its transaction each fraud's chargeback arrives, at least 0.

    Raises
    ------
    UnreadableSource
        As for :func:`read_handbook`, or the delay is negative.
    UnwritableOutput
        The folder holds something already, or the disk refused.
    """
    if label_delay_ms < 0:
        raise UnreadableSource(f"label delay {label_delay_ms} ms is negative: a label cannot precede its transaction")
    rows = read_handbook(parquet)
    names = pa.array(FRAUD_TYPES, pa.string())
    identifier = _identifiers("t", rows.transaction, 7)
    fraud_type = names.take(pa.array(rows.scenario))
    fraudulent = np.flatnonzero(rows.is_fraud)
    counts = np.bincount(rows.scenario[fraudulent], minlength=len(FRAUD_TYPES))
    with whole_folder(out_dir) as folder:
        days = write_transactions(_transactions(rows, identifier), rows.event_time_ms, folder, progress)
        labels = _labels(identifier.take(pa.array(fraudulent)), rows.event_time_ms[fraudulent] + label_delay_ms)
        write_table(labels, folder / "labels.parquet")
        truth = pa.table([identifier, pa.array(rows.is_fraud), fraud_type], schema=TRUTH_SCHEMA)
        write_table(truth, folder / "truth.parquet")
        report = ImportReport(
            rows=len(identifier),
            days=days,
            frauds=len(fraudulent),
            labels=len(labels),
            first_day=day_text(int(rows.event_time_ms[0])),
            last_day=day_text(int(rows.event_time_ms[-1])),
            raised_amounts=int((rows.amount_minor < 1).sum()),
            fraud_types={name: int(count) for name, count in zip(FRAUD_TYPES, counts, strict=True) if name},
        )
        write_manifest(_manifest(report, label_delay_ms), folder)
    return report


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


def _identifiers(prefix: str, numbers: IntArray, width: int) -> pa.Array:
    """Return each number as text of at least ``width`` digits behind the prefix."""
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")
    return pc.binary_join_element_wise(pa.scalar(prefix), digits, "")


def _transactions(rows: HandbookTransactions, identifier: pa.Array) -> pa.Table:
    n = len(identifier)
    moment = moments(rows.event_time_ms)
    known = {
        "transaction_id": identifier,
        "card_id": _identifiers("c", rows.customer, 5),
        "merchant_id": _identifiers("m", rows.terminal, 5),
        "amount_minor": pa.array(np.maximum(rows.amount_minor, 1)),
        "currency": pa.repeat(CURRENCY, n),
        "event_timestamp": moment,
        "created_timestamp": moment,
        "channel": pa.repeat(CHANNEL, n),
        "merchant_category": pa.repeat(pa.scalar(MERCHANT_CATEGORY, pa.int32()), n),
        "country": pa.repeat(COUNTRY, n),
    }
    columns = [known.get(field.name, pa.nulls(n, field.type)) for field in TRANSACTIONS_SCHEMA]
    return pa.table(columns, schema=TRANSACTIONS_SCHEMA)


def _labels(identifier: pa.Array, arrival_ms: IntArray) -> pa.Table:
    n, arrival = len(identifier), moments(arrival_ms)
    columns = [identifier, pa.repeat(pa.scalar(value=True), n), pa.repeat("chargeback", n), arrival, arrival]
    return pa.table(columns, schema=LABELS_SCHEMA)


def _manifest(report: ImportReport, label_delay_ms: int) -> dict[str, object]:
    return {
        "rows": report.rows,
        "days": report.days,
        "first_day": report.first_day,
        "last_day": report.last_day,
        "currency": CURRENCY,
        "seed": None,
        "source": "handbook",
        "frauds": report.frauds,
        "fraud_types": report.fraud_types,
        "label_delay_ms": label_delay_ms,
        "raised_amounts": report.raised_amounts,
    }
