"""A world on disk: one Parquet file for each day of transactions, labels, truth, and a manifest written last."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraud.errors import InvalidSetting
from simulation.randomness import DAY_MS
from simulation.world import World, fraud_counts

MANIFEST: Final = "manifest.json"
_OURS: Final = ("transactions", "labels.parquet", "truth.parquet", MANIFEST)


def claim(directory: Path, *, force: bool) -> None:
    """Make ``directory`` ready to be written.

    Raises
    ------
    InvalidSetting
        It is a file, or it holds something and ``force`` is not set, or it holds something that is no world.
    """
    if directory.exists() and not directory.is_dir():
        raise InvalidSetting(f"{directory} is not a directory; name one that is new or empty")
    held = sorted(entry.name for entry in directory.iterdir()) if directory.exists() else []
    foreign = [name for name in held if name not in _OURS]
    if foreign:
        raise InvalidSetting(f"{directory} holds {foreign[0]!r}, which is not part of a world; name an empty directory")
    if held and not force:
        raise InvalidSetting(f"{directory} is not empty; name another directory, or replace the world in it by --force")
    _empty(directory)
    directory.mkdir(parents=True, exist_ok=True)


def write(world: World, directory: Path, *, progress: Callable[[int], None] | None = None) -> dict[str, object]:
    """Write ``world`` below an empty or new ``directory`` and return its manifest.

    The manifest is written last: a directory without one is incomplete. What was written is removed again when writing
    fails or is interrupted, so the same call can be repeated.

    Parameters
    ----------
    world
        What to write.
    directory
        Where; see :func:`claim`.
    progress
        Called with the rows of each day as it is written.

    Raises
    ------
    InvalidSetting
        The directory holds something.
    """
    claim(directory, force=False)
    try:
        for day, rows in days_of(world.transactions):
            folder = directory / "transactions" / f"dt={day}"
            folder.mkdir(parents=True)
            _write(rows, folder / "part-0.parquet")
            if progress is not None:
                progress(rows.num_rows)
        _write(world.labels, directory / "labels.parquet")
        _write(world.truth, directory / "truth.parquet")
        manifest = describe(world)
        (directory / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    except BaseException:
        _empty(directory)
        raise
    return manifest


def _empty(directory: Path) -> None:
    """Remove what of a world a directory holds."""
    for entry in [directory / name for name in _OURS if (directory / name).exists()]:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def describe(world: World) -> dict[str, object]:
    """Return the manifest of ``world``."""
    counts = fraud_counts(world.truth)
    config = world.config
    return {
        "rows": world.transactions.num_rows,
        "days": config.days,
        "first_day": config.start.isoformat(),
        "last_day": (config.start + timedelta(days=config.days - 1)).isoformat(),
        "currency": config.currency,
        "seed": config.seed,
        "source": "simulation",
        "frauds": sum(counts.values()),
        "fraud_types": counts,
        "labels": world.labels.num_rows,
    }


def days_of(transactions: pa.Table) -> list[tuple[str, pa.Table]]:
    """Return the rows of each UTC day, with its ISO date, for a table sorted by event time; empty days are left out."""
    day = transactions["event_timestamp"].cast(pa.int64()).to_numpy() // (DAY_MS * 1000)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(day)) + 1, [len(day)]])
    return [
        (datetime.fromtimestamp(int(day[first]) * 86_400, UTC).date().isoformat(), transactions[first:last])
        for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        if last > first
    ]


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")
