"""A training set as a Parquet file: one row per transaction, features in contract order, label last."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from training.dataset import TrainingSet
from training.transaction_log import moments


def write_training_set(rows: TrainingSet, path: Path) -> str:
    """Write ``rows`` and return the file's SHA-256; equal sets give equal bytes.

    Nulls of the features are Parquet nulls.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, pa.Array] = {
        "transaction_id": rows.transaction_id,
        "event_timestamp": moments(rows.event_time_ms),
        "amount_minor": pa.array(rows.amount_minor),
    }
    for position, name in enumerate(rows.features):
        columns[name] = pa.array(rows.matrix[:, position], from_pandas=True)
    columns["is_fraud"] = pa.array(rows.is_fraud)
    pq.write_table(pa.table(columns), path, compression="zstd")
    return hashlib.sha256(path.read_bytes()).hexdigest()
