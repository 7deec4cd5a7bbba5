"""Parquet files behind a source: a file, a folder or a bucket's prefix, read by columns and by time."""

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pds
import pyarrow.fs as pfs

from stores.columns import MOMENT, moments
from stores.errors import UnreadableSource
from stores.parts import (
    DAY_COLUMN,
    broken_part,
    checked,
    refuse_null_values,
    require_every_day,
    require_iso_days,
    require_times,
)

READ_AHEAD: Final = 4
"""Batches decoded ahead of the one in hand: bounds the memory of reading."""

_DAYS: Final = pds.partitioning(pa.schema([(DAY_COLUMN, pa.string())]), flavor="hive")


@dataclass(frozen=True)
class Location:
    """Where files lie.

    Parameters
    ----------
    address
        As a person wrote it: a path, or ``s3://bucket/prefix``.
    endpoint
        Another S3 endpoint than Amazon's; empty for Amazon's own.
    """

    address: str
    endpoint: str = ""

    def beside(self, name: str) -> "Location":
        """Return the location of ``name`` in the same folder."""
        folder = self.address.rstrip("/").rpartition("/")[0]
        return Location(f"{folder}/{name}" if folder else name, self.endpoint)

    def within(self, name: str) -> "Location":
        """Return the location of ``name`` in this folder."""
        return Location(f"{self.address.rstrip('/')}/{name}", self.endpoint)

    def open(self) -> tuple[Any, str]:
        """Return the file system and the path in it."""
        if not self.address.startswith("s3://"):
            return pfs.LocalFileSystem(), str(Path(self.address).absolute())
        path = self.address.removeprefix("s3://").rstrip("/")
        if not self.endpoint:
            return pfs.S3FileSystem(), path
        scheme = "http" if self.endpoint.startswith("http://") else "https"
        return pfs.S3FileSystem(endpoint_override=self.endpoint, scheme=scheme), path

    def exists(self) -> bool:
        """Return whether there is a file or a folder."""
        filesystem, path = self.open()
        return bool(filesystem.get_file_info(path).type != pfs.FileType.NotFound)


@dataclass(frozen=True)
class Span:
    """The rows wanted of a source: ``first_us <= time <= last_us`` in epoch microseconds; null is no bound.

    ``by_day`` says that the files are partitioned by the UTC day of that very time, so that whole days are skipped.
    """

    first_us: int | None = None
    last_us: int | None = None
    by_day: bool = False


def read_files(
    location: Location,
    columns: Sequence[str],
    time: str,
    span: Span,
    wanted: Any = None,
    *,
    declared: Any = None,
    whole: Sequence[str] = (),
) -> Any:
    """Return the rows of a span as an Arrow table of ``columns``; times are ``timestamp[us, UTC]``.

    Parameters
    ----------
    location
        A Parquet file, or a folder of them, with or without hive partitions.
    columns
        Names to read, in order.
    time
        The column that the span speaks of.
    span
        Which rows.
    wanted
        A further Arrow filter, or null.
    declared
        Arrow schema of the source, or null: its columns must be of these types, and hold no null where it has none.
    whole
        Further columns that must hold no null.

    Raises
    ------
    UnreadableSource
        Nothing there, a broken file, a missing column, a type that differs from file to file or from the declared
        one, a null; the message names file and column.
    """
    batches = list(read_batches(location, columns, time, span, wanted, declared=declared, whole=whole))
    return pa.concat_tables(batches[1:]) if len(batches) > 1 else batches[0]


def read_batches(
    location: Location,
    columns: Sequence[str],
    time: str,
    span: Span,
    wanted: Any = None,
    *,
    declared: Any = None,
    whole: Sequence[str] = (),
) -> Iterator[Any]:
    """Yield what :func:`read_files` returns in parts, in order; the first has no rows, so that there always is one.

    Raises
    ------
    UnreadableSource
        As :func:`read_files`.
    """
    dataset, condition = _prepared(location, (*columns, time), time, span, wanted, declared)
    yield from scan_tables(dataset, columns, condition, location.address, declared=declared, whole=whole)


def scan_tables(
    dataset: Any, columns: Sequence[str], condition: Any, address: str, *, declared: Any, whole: Sequence[str] = ()
) -> Iterator[Any]:
    """Yield the rows of an open data set that fulfil a condition, as :func:`read_batches` does.

    Raises
    ------
    UnreadableSource
        A file is broken, or holds a null where it must not.
    """
    names = list(columns)
    filled = {*whole, *(field.name for field in declared or () if not field.nullable)}
    yield _in_moments(pa.Table.from_batches([], pa.schema([dataset.schema.field(name) for name in names])))
    try:
        for found in dataset.scanner(columns=names, filter=condition, batch_readahead=READ_AHEAD).scan_batches():
            if found.record_batch.num_rows:
                refuse_null_values(found.fragment, found.record_batch, filled)
                yield _in_moments(pa.Table.from_batches([found.record_batch]))
    except (pa.ArrowException, OSError) as error:
        place = broken_part(dataset, names) or address
        raise UnreadableSource(f"{place} cannot be read: {error}") from error


def count_rows(location: Location, columns: Sequence[str], time: str, span: Span) -> int:
    """Return how many rows :func:`read_files` would give, without reading other columns than their time.

    Raises
    ------
    UnreadableSource
        As :func:`read_files`.
    """
    dataset, condition = _prepared(location, (*columns, time), time, span, None, None)
    try:
        return int(dataset.count_rows(filter=condition))
    except (pa.ArrowException, OSError) as error:
        raise UnreadableSource(f"{location.address} cannot be read: {error}") from error


def count_days(
    location: Location, columns: Sequence[str], time: str, span: Span, *, declared: Any = None
) -> dict[str, int]:
    """Return how many rows each day of a log has, by ISO day in order; nothing where files are not kept by day.

    Raises
    ------
    UnreadableSource
        As :func:`read_files`; or a whole day is missing between two busy ones.
    """
    dataset, _ = _prepared(location, (*columns, time), time, span, None, declared)
    return require_every_day(dataset, location.address)


def _prepared(
    location: Location, columns: Sequence[str], time: str, span: Span, wanted: Any, declared: Any
) -> tuple[Any, Any]:
    """Return the files of a span, checked, and the condition its rows fulfil."""
    dataset, condition, by_day = open_checked(location, columns, time, span, declared)
    try:
        require_times(dataset, time, by_day=by_day)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableSource(f"{location.address} cannot be read: {error}") from error
    if wanted is not None:
        condition = wanted if condition is None else condition & wanted
    return dataset, condition


def open_checked(
    location: Location, columns: Sequence[str], time: str, span: Span, declared: Any
) -> tuple[Any, Any, bool]:
    """Return the files of a span, the condition of its time, and whether they are kept by day; no row is read.

    Raises
    ------
    UnreadableSource
        Nothing there, a footer that is broken, a day written otherwise, a column that is missing or of another type.
    """
    try:
        dataset = _open(location)
        by_day = span.by_day and DAY_COLUMN in dataset.schema.names
        if by_day:
            require_iso_days(dataset)
        dataset = checked(dataset, columns, _days(dataset.schema, span), declared)
        missing = [name for name in columns if name not in dataset.schema.names]
        if missing:
            raise UnreadableSource(
                f"{location.address} has no column {', '.join(map(repr, missing))}; it has {dataset.schema.names}"
            )
        return dataset, _condition(dataset.schema, time, span), by_day
    except (pa.ArrowException, OSError) as error:
        raise UnreadableSource(f"{location.address} cannot be read: {error}") from error


def _in_moments(table: Any) -> Any:
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type != MOMENT:
            table = table.set_column(index, field.name, moments(table.column(index)))
    return table


def _open(location: Location) -> Any:
    filesystem, path = location.open()
    info = filesystem.get_file_info(path)
    if info.type == pfs.FileType.NotFound:
        raise UnreadableSource(f"{location.address} does not exist; write the data first, or correct the path")
    if info.type == pfs.FileType.File:
        return pds.dataset(path, filesystem=filesystem, format="parquet")
    days = _DAYS if has_days(filesystem, path, info) else "hive"
    dataset = pds.dataset(path, filesystem=filesystem, format="parquet", partitioning=days)
    if not dataset.files:
        raise UnreadableSource(f"{location.address} holds no Parquet file")
    return dataset


def _condition(schema: Any, time: str, span: Span) -> Any:
    kind = schema.field(time).type
    if not pa.types.is_timestamp(kind):
        raise UnreadableSource(f"column {time!r} is {kind}, not a timestamp")
    parts = []
    if span.first_us is not None:
        parts.append(pds.field(time) >= _bound(span.first_us, kind, first=True))
    if span.last_us is not None:
        parts.append(pds.field(time) <= _bound(span.last_us, kind, first=False))
    return _all_of(parts)


def _days(schema: Any, span: Span) -> Any:
    """Return the condition that whole days of a span fulfil; null where files are not kept by day."""
    if not span.by_day or DAY_COLUMN not in schema.names:
        return None
    parts = []
    if span.first_us is not None:
        parts.append(pds.field(DAY_COLUMN) >= _day(span.first_us))
    if span.last_us is not None:
        parts.append(pds.field(DAY_COLUMN) <= _day(span.last_us))
    return _all_of(parts)


def _all_of(parts: Sequence[Any]) -> Any:
    return functools.reduce(operator.and_, parts) if parts else None


def _bound(time_us: int, kind: Any, *, first: bool) -> Any:
    """Return a bound in a column's own unit: a first time rounded up, a last one down."""
    units = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 1}
    whole = -(-time_us // units[kind.unit]) if first else time_us // units[kind.unit]
    if kind.unit == "ns":
        whole = whole * 1000 + (0 if first else 999)
    return pa.scalar(whole, pa.int64()).cast(kind)


def _day(time_us: int) -> str:
    return str(pc.strftime(pa.scalar(time_us, pa.timestamp("us")), format="%Y-%m-%d"))


def has_days(filesystem: Any, path: str, info: Any) -> bool:
    """Return whether a folder is partitioned by day."""
    if info.type == pfs.FileType.NotFound:
        return False
    inside = filesystem.get_file_info(pfs.FileSelector(path))
    return any(item.base_name.startswith(f"{DAY_COLUMN}=") for item in inside)
