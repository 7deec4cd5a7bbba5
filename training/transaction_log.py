"""The transaction log on disk: schemas, and a writer that leaves a whole data set or nothing.

A data set is a folder: ``transactions/dt=YYYY-MM-DD/part-0.parquet`` by UTC day of event time, rows sorted by event
time and transaction id; ``labels.parquet``; ``truth.parquet`` where somebody knows it (never a model input); and
``manifest.json``. It is written beside its place and moved there when complete.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.errors import UnreadableSource, UnwritableOutput
from training.ranking import DAY_MS, IntArray

Progress = Callable[[int, int], None]
"""Called with the rows done and the rows in all."""

_MOMENT = pa.timestamp("us", "UTC")

TRANSACTIONS_SCHEMA = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("card_id", pa.string(), nullable=False),
        pa.field("merchant_id", pa.string(), nullable=False),
        pa.field("device_id", pa.string()),
        pa.field("ip", pa.string()),
        pa.field("amount_minor", pa.int64(), nullable=False),
        pa.field("currency", pa.string(), nullable=False),
        pa.field("event_timestamp", _MOMENT, nullable=False),
        pa.field("created_timestamp", _MOMENT, nullable=False),
        pa.field("channel", pa.string(), nullable=False),
        pa.field("merchant_category", pa.int32(), nullable=False),
        pa.field("country", pa.string(), nullable=False),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("authorised", pa.bool_()),
    ]
)

LABELS_SCHEMA = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("is_fraud", pa.bool_(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("event_timestamp", _MOMENT, nullable=False),
        pa.field("created_timestamp", _MOMENT, nullable=False),
    ]
)

TRUTH_SCHEMA = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("is_fraud", pa.bool_(), nullable=False),
        pa.field("fraud_type", pa.string()),
    ]
)


def log_folder(lake: Path) -> Path:
    """Return the folder of a lake's transaction log.

    Raises
    ------
    UnreadableSource
        It is not there, or the lake is an address and no folder.
    """
    refuse_address(lake)
    folder = lake / "transactions"
    if not folder.is_dir():
        raise UnreadableSource(f"{folder} is missing: generate or import a data set first")
    return folder


def log_days(lake: Path) -> list[str]:
    """Return the days of a lake's transaction log, such as ``2026-03-25``, in order; at least one.

    Raises
    ------
    UnreadableSource
        There is none.
    """
    refuse_address(lake)
    days = sorted(folder.name.removeprefix("dt=") for folder in (lake / "transactions").glob("dt=*"))
    if not days:
        raise UnreadableSource(f"{lake / 'transactions'} has no day: generate or import a data set first")
    return days


def refuse_address(lake: Path) -> None:
    """Raise :class:`UnreadableSource` for an address such as ``s3://bucket/lake``: commands work on a folder."""
    scheme, colon, rest = str(lake).partition(":/")  # a path has one of the two slashes left
    if colon and scheme.isalnum() and len(scheme) > 1:
        raise UnreadableSource(
            f"{scheme}://{rest.lstrip('/')} is an address, and commands work on a folder: mount it, or copy it "
            f"(aws s3 sync s3://BUCKET/lake LAKE); Feast's offline store reads s3:// itself, see docs/history.md"
        )


def moments(time_ms: IntArray) -> pa.Array:
    """Return epoch milliseconds as a ``timestamp[us, UTC]`` column."""
    return pa.array(time_ms * 1000, pa.int64()).cast(_MOMENT)


def day_text(time_ms: int) -> str:
    """Return the UTC day of a moment as text.

    Examples
    --------
    >>> day_text(1_522_540_831_000)
    '2018-04-01'
    """
    return str(np.datetime64(time_ms, "ms").astype("datetime64[D]"))


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a folder to write in that becomes ``out`` when the block ends well and vanishes when it does not.

    Raises
    ------
    UnwritableOutput
        ``out`` exists and is not an empty folder, or the disk refused a write.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UnwritableOutput(f"{out} exists already; remove it or choose another folder")
    staging = out.with_name(f"{out.name}.partial")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        staging.replace(out)
    except OSError as error:
        if error.filename is not None and not _within(error.filename, (staging, out)):
            raise  # what was read failed, not what is written
        raise UnwritableOutput(f"{out} cannot be written: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _within(name: Any, folders: Sequence[Path]) -> bool:
    path = Path(os.fsdecode(name))
    return any(path.is_relative_to(folder) or folder.is_relative_to(path) for folder in folders)


def write_transactions(transactions: pa.Table, event_time_ms: IntArray, folder: Path, progress: Progress) -> int:
    """Write one file per UTC day and return the number of days.

    Parameters
    ----------
    transactions
        Of :data:`TRANSACTIONS_SCHEMA`, sorted by event time and transaction id.
    event_time_ms
        Its event times, shape ``(n,)``.
    folder
        Folder of the data set.
    progress
        Called after each day.
    """
    days = event_time_ms // DAY_MS
    bounds = np.flatnonzero(np.diff(days, prepend=days[0] - 1, append=days[-1] + 1))
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        partition = folder / "transactions" / f"dt={day_text(int(event_time_ms[start]))}"
        partition.mkdir(parents=True)
        write_table(transactions.slice(start, end - start), partition / "part-0.parquet")
        progress(end, len(days))
    return len(bounds) - 1


def write_table(table: pa.Table, path: Path) -> None:
    """Write one Parquet file."""
    pq.write_table(table, path, compression="zstd")


def write_manifest(manifest: dict[str, object], folder: Path) -> None:
    """Write ``manifest.json``, keys in the order given."""
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
