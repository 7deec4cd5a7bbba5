"""Rows added to a source: fitted to what lies there first, then new part files; what is there is never rewritten.

A file that does not fit its neighbours would be refused by every later reading of the source, so it is refused here,
before it is written. On a disk a part is written under a hidden name and moved when it is whole: a reader never meets
half of it, and a writer that was killed leaves nothing that is read.
"""

import uuid
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pds
import pyarrow.fs as pfs

from stores.columns import joined, moments
from stores.errors import UnfitRows, UnreadableSource, UnsupportedRequest
from stores.files import Location, has_days
from stores.parts import DAY_COLUMN

HIDDEN: Final = "."
"""A name that begins with it is no part of a data set."""


def append_rows(location: Location, table: Any, *, time: str = "", partitions: Sequence[str] = ()) -> None:
    """Add rows as new part files.

    Parameters
    ----------
    location
        A folder. It need not exist.
    table
        The rows.
    time
        The column of their time. Where the folder is partitioned by ``dt``, rows go to the UTC day of it.
    partitions
        Columns to partition by, hive style.

    Raises
    ------
    UnsupportedRequest
        The location is one file, to which nothing can be appended.
    UnreadableSource
        The rows could not be written.
    """
    filesystem, path, info = _folder(location)
    table = table.combine_chunks()
    by = list(partitions)
    if time and not by and has_days(filesystem, path, info):
        days = pc.strftime(moments(joined(table[time])), format="%Y-%m-%d")
        table, by = table.append_column(DAY_COLUMN, days), [DAY_COLUMN]
    schema = pa.schema([table.schema.field(name) for name in by])
    hidden = HIDDEN if isinstance(filesystem, pfs.LocalFileSystem) else ""
    written: list[str] = []
    try:
        pds.write_dataset(
            table,
            path,
            filesystem=filesystem,
            format="parquet",
            partitioning=pds.partitioning(schema, flavor="hive") if by else None,
            basename_template=f"{hidden}part-{uuid.uuid4().hex}-{{i}}.parquet",
            existing_data_behavior="overwrite_or_ignore",
            file_visitor=lambda file: written.append(str(file.path)),
        )
        for file in written if hidden else ():
            folder, _, name = file.rpartition("/")
            filesystem.move(file, f"{folder}/{name.removeprefix(hidden)}")
    except (pa.ArrowException, OSError) as error:
        raise UnreadableSource(f"{location.address} cannot be written: {error}") from error


def fitted(location: Location, table: Any, *, whole: Sequence[str]) -> Any:
    """Return rows in the columns' types of the files that a folder has, so that both can be read together.

    Parameters
    ----------
    table
        The rows; a column of another type is cast where no value changes: 5.0 to 5 and nulls to any type, not 5.5.
    whole
        Columns that must be there and hold no null: keys and times.

    Raises
    ------
    UnsupportedRequest
        The location is one file.
    UnfitRows
        A column is missing, holds a null where none may be, or a value that the files' type does not have.
    """
    types = _types(location)
    for name in dict.fromkeys((*whole, *types)):
        if name not in table.column_names:
            raise UnfitRows(f"the rows have no column {name!r}, which {location.address} needs")
    for name in whole:
        if table[name].null_count:
            row = pc.index(table[name].is_null(), pa.scalar(value=True)).as_py()
            raise UnfitRows(
                f"column {name!r} holds {table[name].null_count} nulls, the first in row {row}; "
                f"{location.address} takes none there"
            )
    for name, kind in types.items():
        table = table.set_column(table.column_names.index(name), name, _cast(table[name], kind, name, location))
    return table


def _cast(column: Any, kind: Any, name: str, location: Location) -> Any:
    if column.type == kind or (pa.types.is_timestamp(column.type) and pa.types.is_timestamp(kind)):
        return column  # times are read in any unit and zone
    try:
        return pc.cast(column, kind)
    except pa.ArrowException as error:
        raise UnfitRows(
            f"column {name!r} is {column.type}, which does not fit the {kind} of {location.address}: {error}"
        ) from error


def _types(location: Location) -> dict[str, Any]:
    """Return the type of each column in the files that a folder has; none of a column that they hold no value of."""
    filesystem, path, info = _folder(location)
    if info.type == pfs.FileType.NotFound:
        return {}
    types: dict[str, Any] = {}
    for part in pds.dataset(path, filesystem=filesystem, format="parquet").get_fragments():
        try:
            schema = part.physical_schema
        except (pa.ArrowException, OSError) as error:
            raise UnreadableSource(f"{part.path} cannot be read: {error}") from error
        telling = {field.name: field.type for field in schema if not pa.types.is_null(field.type)}
        types = telling | types
        if len(telling) == len(schema):
            break
    return types


def _folder(location: Location) -> tuple[Any, str, Any]:
    filesystem, path = location.open()
    info = filesystem.get_file_info(path)
    if info.type == pfs.FileType.File:
        raise UnsupportedRequest(f"{location.address} is one file; point the source at a folder to append to it")
    return filesystem, path, info
