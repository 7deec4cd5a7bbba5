"""The Parquet files behind a source, checked before they are read: none is broken, none lacks a column.

Arrow takes the first file's schema for all, and fills a column that another file lacks with nulls; a training set would
go on with them. So the footers of the files in question are read first, all at once, and stay in memory for the reading
itself. Types may differ from file to file where no value can change: whole numbers of another width, times of another
unit, a column of nothing but nulls.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from itertools import pairwise
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as pds

from stores.errors import UnreadableSource

DAY_COLUMN: Final = "dt"
"""Hive partition of the transaction log: the UTC day of event time, ISO 8601."""

FOOTERS_AT_A_TIME: Final = 16

BUSY_DAY: Final = 1_000
"""A day without rows between two days of at least so many is missing: chance does not make it empty."""


def checked(dataset: Any, columns: Sequence[str], condition: Any) -> Any:
    """Return the data set of the files that ``condition`` leaves, each whole and with all ``columns``.

    Raises
    ------
    UnreadableSource
        A file is no Parquet, lacks a column or has it in another type; the message names file and column.
    """
    parts = list(dataset.get_fragments(filter=condition))
    with ThreadPoolExecutor(FOOTERS_AT_A_TIME) as pool:
        for part, schema in zip(parts, pool.map(_schema, parts), strict=True):
            _check(part, schema, dataset.schema, columns)
    return pds.FileSystemDataset(parts, dataset.schema, dataset.format, dataset.filesystem)


def _schema(part: Any) -> Any:
    try:
        part.ensure_complete_metadata()
    except (pa.ArrowException, OSError) as error:
        raise UnreadableSource(f"{part.path} cannot be read: {error}") from error
    return part.physical_schema


def _check(part: Any, schema: Any, wanted: Any, columns: Sequence[str]) -> None:
    partitioned = pds.get_partition_keys(part.partition_expression)
    for name in columns:
        if name in partitioned or name not in wanted.names:
            continue
        if name not in schema.names:
            raise UnreadableSource(f"{part.path} has no column {name!r}, which other files beside it have")
        found, expected = schema.field(name).type, wanted.field(name).type
        if found != expected and not _same_kind(found, expected):
            raise UnreadableSource(f"{part.path} has column {name!r} as {found}, other files beside it as {expected}")


def _same_kind(found: Any, expected: Any) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp, _is_text)
    return bool(pa.types.is_null(found)) or any(kind(found) and kind(expected) for kind in kinds)


def _is_text(kind: Any) -> bool:
    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(held) or pa.types.is_large_string(held))


def broken_part(dataset: Any, columns: Sequence[str]) -> str:
    """Return the path of the first file whose columns cannot be read; empty when each can be, alone."""
    for part in dataset.get_fragments():
        try:
            part.to_table(schema=dataset.schema, columns=list(columns))
        except (pa.ArrowException, OSError):
            return str(part.path)
    return ""


def rows_by_day(dataset: Any) -> dict[str, int]:
    """Return the rows of each day of a data set partitioned by it, from the files' footers, days in order."""
    rows: dict[str, int] = {}
    for part in dataset.get_fragments():
        day = pds.get_partition_keys(part.partition_expression).get(DAY_COLUMN)
        if day is not None:
            rows[str(day)] = rows.get(str(day), 0) + part.count_rows()
    return dict(sorted(rows.items()))


def missing_days(rows: Mapping[str, int]) -> list[str]:
    """Return the days without a file between two busy ones; an empty file says that there was nothing.

    Examples
    --------
    >>> missing_days({"2026-01-01": 5000, "2026-01-03": 5000, "2026-01-05": 3})
    ['2026-01-02']
    """
    gaps = []
    for before, after in pairwise(rows):
        if min(rows[before], rows[after]) >= BUSY_DAY:
            first, last = date.fromisoformat(before), date.fromisoformat(after)
            gaps += [(first + timedelta(days=day)).isoformat() for day in range(1, (last - first).days)]
    return gaps
