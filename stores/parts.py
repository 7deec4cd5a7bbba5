"""The Parquet files behind a source, checked before they are read: none is broken, none lacks a column.

Arrow takes the first file's schema for all, and fills a column that another file lacks with nulls; a training set would
go on with them. So the footers of the files in question are read first, all at once, and stay in memory for the reading
itself. Types may differ from file to file where no value can change: whole numbers of another width, times of another
unit, a column of nothing but nulls.
"""

from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pds

from stores.errors import UnreadableSource

DAY_COLUMN: Final = "dt"
"""Hive partition of the transaction log: the UTC day of event time, ISO 8601."""

FOOTERS_AT_A_TIME: Final = 16

BUSY_DAY: Final = 1_000
"""A day without rows between two days of at least so many is missing: chance does not make it empty."""


def checked(dataset: Any, columns: Sequence[str], condition: Any, declared: Any = None) -> Any:
    """Return the data set of the files that ``condition`` leaves, each whole and with all ``columns``.

    Parameters
    ----------
    declared
        Arrow schema that the columns must have whatever the files agree on; null where the files say it themselves.

    Raises
    ------
    UnreadableSource
        A file is no Parquet, lacks a column or has it in another type; the message names file and column.
    """
    parts = list(dataset.get_fragments(filter=condition))
    with ThreadPoolExecutor(FOOTERS_AT_A_TIME) as pool:
        schemas = list(pool.map(_schema, parts))
    wanted = _wanted(dataset.schema, schemas, columns, declared)
    for part, schema in zip(parts, schemas, strict=True):
        _check(part, schema, wanted, columns, declared)
    return pds.FileSystemDataset(parts, wanted, dataset.format, dataset.filesystem)


def _schema(part: Any) -> Any:
    try:
        part.ensure_complete_metadata()
    except (pa.ArrowException, OSError) as error:
        raise UnreadableSource(f"{part.path} cannot be read: {error}") from error
    return part.physical_schema


def _wanted(whole: Any, schemas: Sequence[Any], columns: Sequence[str], declared: Any) -> Any:
    """Return one schema for all files: as declared, else as in the first file that says more than null.

    A declared time keeps the unit of its files, so that a finer one is cut off and not refused.
    """
    fields = {field.name: field for field in whole}
    for name in columns:
        stored = [schema.field(name) for schema in schemas if name in schema.names]
        telling = [field for field in stored if not pa.types.is_null(field.type)]
        if declared is not None and name in declared.names:
            as_declared = pa.field(name, declared.field(name).type)
            fields[name] = telling[0] if telling and pa.types.is_timestamp(as_declared.type) else as_declared
        elif telling or stored:
            fields[name] = (telling or stored)[0]
    return pa.schema(list(fields.values()))


def _check(part: Any, schema: Any, wanted: Any, columns: Sequence[str], declared: Any) -> None:
    partitioned = pds.get_partition_keys(part.partition_expression)
    for name in columns:
        if name in partitioned:
            continue
        if name not in schema.names:
            raise UnreadableSource(f"{part.path} has no column {name!r}; it has {', '.join(schema.names)}")
        found, by_files = schema.field(name).type, wanted.field(name).type
        if declared is not None and name in declared.names:
            expected, told = declared.field(name).type, "not"
        else:
            expected, told = by_files, "other files beside it as"
        if found != expected and not _same_kind(found, expected):
            raise UnreadableSource(f"{part.path} has column {name!r} as {found}, {told} {expected}")


def refuse_null_values(part: Any, batch: Any, whole: Container[str]) -> None:
    """Raise :class:`UnreadableSource` when rows of a file hold nulls in one of the columns that must be ``whole``."""
    for name in batch.schema.names:
        if name in whole and batch.column(name).null_count:
            raise UnreadableSource(f"{part.path} holds {batch.column(name).null_count} nulls in column {name!r}")


def require_iso_days(dataset: Any) -> None:
    """Raise :class:`UnreadableSource` unless every day of a data set is written ``YYYY-MM-DD``.

    Days are chosen by comparing texts, so that one written otherwise would be left out without a word.
    """
    for part in dataset.get_fragments():
        day = pds.get_partition_keys(part.partition_expression).get(DAY_COLUMN)
        if day is not None and _start_of(day) is None:
            raise UnreadableSource(f"{part.path} lies in {DAY_COLUMN}={day}; name the day as {DAY_COLUMN}=2026-01-31")


def require_times(dataset: Any, time: str, *, by_day: bool) -> None:
    """Raise :class:`UnreadableSource` when a file holds rows that no span of time would find.

    Those are rows without a time and, in a log kept ``by_day``, rows of another UTC day than their folder's. Where the
    footer tells, and it mostly does, no row is read.
    """
    with ThreadPoolExecutor(FOOTERS_AT_A_TIME) as pool:
        for _ in pool.map(partial(_require_times, time=time, by_day=by_day), dataset.get_fragments()):
            pass


def _require_times(part: Any, time: str, *, by_day: bool) -> None:
    day = pds.get_partition_keys(part.partition_expression).get(DAY_COLUMN) if by_day else None
    start, kind, lost = _start_of(day), part.physical_schema.field(time).type, pc.field(time).is_null()
    try:
        nulls = part.count_rows(filter=lost)
        if nulls:
            raise UnreadableSource(f"{part.path} holds {nulls} nulls in column {time!r}; every row needs its time")
        if start is None or not pa.types.is_timestamp(kind):
            return
        first, end = (pa.scalar(edge, pa.timestamp("s")).cast(kind) for edge in (start, start + timedelta(days=1)))
        others = part.count_rows(filter=(pc.field(time) < first) | (pc.field(time) >= end))
    except (pa.ArrowException, OSError) as error:
        raise UnreadableSource(f"{part.path} cannot be read: {error}") from error
    if others:
        raise UnreadableSource(
            f"{part.path} holds {others} rows of other days in column {time!r}; move each to the folder of its UTC day"
        )


def _start_of(day: str | None) -> datetime | None:
    """Return the begin of a day as it must be written, without a zone; null for anything else."""
    try:
        found = date.fromisoformat(day or "")
    except ValueError:
        return None
    return datetime(found.year, found.month, found.day) if found.isoformat() == day else None  # noqa: DTZ001 - Arrow takes none as UTC


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


def require_every_day(dataset: Any, address: str) -> dict[str, int]:
    """Return :func:`rows_by_day`; raise :class:`UnreadableSource` when a whole day is missing between two busy ones."""
    rows = rows_by_day(dataset)
    gaps = missing_days(rows)
    if gaps:
        raise UnreadableSource(
            f"{address} has no rows of {', '.join(gaps[:5])}, though the days around are busy; restore the "
            f"day, or write an empty file to {DAY_COLUMN}={gaps[0]} if it was one without payments"
        )
    return rows


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
