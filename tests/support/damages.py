"""Ways in which a transaction log or its labels can be damaged, in a lake of :mod:`tests.support.lakes`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.support.lakes import MOMENT

Damage = Callable[[Path], None]


def day(lake: Path) -> Path:
    """The file of a day in the middle of the log."""
    days = sorted((lake / "transactions").iterdir())
    return days[len(days) // 2] / "part-0.parquet"


def labels(lake: Path) -> Path:
    return lake / "labels.parquet"


def rewritten(place: Callable[[Path], Path], change: Callable[[Any], Any]) -> Damage:
    def damage(lake: Path) -> None:
        pq.write_table(change(pq.read_table(place(lake), partitioning=None)), place(lake))

    return damage


def with_column(name: str, made: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, made(table[name]))


def null_first(column: Any) -> Any:
    """The column with a null in its first row."""
    return pc.if_else(pa.array([True] + [False] * (len(column) - 1)), pa.scalar(None, column.type), column)


def day_later(column: Any) -> Any:
    """The times with the first of them a day later."""
    later = pc.add(column.cast(pa.int64()), pa.array([86_400_000_000] + [0] * (len(column) - 1)))
    return later.cast(MOMENT)


def torn_file(lake: Path) -> None:
    day(lake).write_bytes(day(lake).read_bytes()[:200])


def torn_page(lake: Path) -> None:
    column = pq.ParquetFile(day(lake)).metadata.row_group(0).column(1)  # its footer stays whole
    content = bytearray(day(lake).read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    day(lake).write_bytes(bytes(content))


def otherwise_written(lake: Path) -> None:
    folder = day(lake).parent
    folder.rename(folder.with_name(folder.name.replace("-", "")))


def emptied(lake: Path) -> None:
    for folder in (lake / "transactions").iterdir():
        for file in folder.iterdir():
            file.unlink()


def dropped(name: str) -> Callable[[Any], Any]:
    return lambda table: table.drop_columns([name])


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a row without a time": (
        rewritten(day, with_column("event_timestamp", null_first)),
        "holds 1 nulls in column 'event_timestamp'; every row needs its time",
    ),
    "a row of another day": (
        rewritten(day, with_column("event_timestamp", day_later)),
        "holds 1 rows of other days in column 'event_timestamp'",
    ),
    "a day that is missing": (lambda lake: day(lake).unlink(), "though the days around are busy"),
    "a day written otherwise": (otherwise_written, "name the day as dt=2026-01-31"),
    "a transaction without an id": (
        rewritten(day, with_column("transaction_id", null_first)),
        "holds 1 nulls in column 'transaction_id'",
    ),
    "a card that is null": (rewritten(day, with_column("card_id", null_first)), "holds 1 nulls in column 'card_id'"),
    "a merchant that is null": (
        rewritten(day, with_column("merchant_id", null_first)),
        "holds 1 nulls in column 'merchant_id'",
    ),
    "an amount that is null": (
        rewritten(day, with_column("amount_minor", null_first)),
        "holds 1 nulls in column 'amount_minor'",
    ),
    "a column that a day lacks": (rewritten(day, dropped("ip")), "has no column 'ip'; it has transaction_id"),
    "an amount with a fraction": (
        rewritten(day, with_column("amount_minor", lambda column: pc.divide(column.cast(pa.float64()), 100.0))),
        "has column 'amount_minor' as double, not int64",
    ),
    "a time that is text": (
        rewritten(day, with_column("event_timestamp", lambda column: column.cast(pa.string()))),
        "has column 'event_timestamp' as string, not timestamp[us, tz=UTC]",
    ),
    "a torn file": (torn_file, "cannot be read: "),
    "a torn page": (torn_page, "cannot be read: "),
    "a log without a file": (emptied, "holds no Parquet file"),
    "labels without a time": (
        rewritten(labels, with_column("created_timestamp", null_first)),
        "holds 1 nulls in column 'created_timestamp'; every row needs its time",
    ),
    "labels that are no truth": (
        rewritten(labels, with_column("is_fraud", lambda column: column.cast(pa.int64()))),
        "has column 'is_fraud' as int64, not bool",
    ),
    "labels without their payment": (
        rewritten(labels, with_column("transaction_id", null_first)),
        "holds 1 nulls in column 'transaction_id'",
    ),
}
"""What is done, and what must be said of it."""
