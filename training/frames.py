"""A training set as a Parquet file: one row per transaction, features in contract order, label and weight last."""

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stores.columns import milliseconds
from training.dataset import TrainingSet
from training.errors import UnreadableSource
from training.transaction_log import moments

_AS_OF: Final = b"tollgate.labels_as_of_ms"
_NOT_FEATURES: Final = ("transaction_id", "event_timestamp", "card", "amount_minor", "is_fraud", "weight")


def write_training_set(rows: TrainingSet, path: Path) -> str:
    """Write ``rows`` and return the file's SHA-256; equal sets give equal bytes.

    Nulls of the features are Parquet nulls. There is a column ``weight`` where some rows were left out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, pa.Array] = {
        "transaction_id": rows.transaction_id,
        "event_timestamp": moments(rows.event_time_ms),
        "card": pa.array(rows.card),
        "amount_minor": pa.array(rows.amount_minor),
    }
    for position, name in enumerate(rows.features):
        columns[name] = pa.array(rows.matrix[:, position], from_pandas=True)
    columns["is_fraud"] = pa.array(rows.is_fraud)
    if rows.weights is not None:
        columns["weight"] = pa.array(rows.weights)
    table = pa.table(columns).replace_schema_metadata({_AS_OF: str(rows.as_of_ms).encode()})
    pq.write_table(table, path, compression="zstd")
    with path.open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


def read_training_set(path: Path) -> TrainingSet:
    """Return the training set in a file, bit for bit as it was written.

    Parameters
    ----------
    path
        The file, or the folder of a built set with its ``rows.parquet``.

    Raises
    ------
    UnreadableSource
        There is no such file, or it is no training set.
    """
    file = path / "rows.parquet" if path.is_dir() else path
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableSource(f"{file} cannot be read: {error}") from None
    missing = [name for name in _NOT_FEATURES[:-1] if name not in table.column_names]
    as_of = (table.schema.metadata or {}).get(_AS_OF)
    if missing or as_of is None:
        raise UnreadableSource(f"{file} is no training set: {missing[0] if missing else 'its as-of'} is not there")
    features = tuple(name for name in table.column_names if name not in _NOT_FEATURES)
    matrix = np.empty((len(table), len(features)), np.float32)
    for position, name in enumerate(features):
        matrix[:, position] = table[name].to_numpy()
    return TrainingSet(
        features=features,
        matrix=matrix,
        transaction_id=table["transaction_id"].combine_chunks(),
        card=table["card"].to_numpy(),
        event_time_ms=milliseconds(table["event_timestamp"]),
        amount_minor=table["amount_minor"].to_numpy(),
        is_fraud=table["is_fraud"].to_numpy(),
        as_of_ms=int(as_of),
        weights=table["weight"].to_numpy() if "weight" in table.column_names else None,
    )
