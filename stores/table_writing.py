"""One Parquet file written from tables that come one after the other; the file is there when it is whole, or not."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from stores.errors import UnreadableSource
from stores.files import Location

COMPRESSION: Final = "zstd"
LEVEL: Final = 1
"""Velocity compresses tenfold at any level; a higher one only takes longer."""

DICTIONARY_BYTES: Final = 65_536
"""A column with more distinct values than fit gives its dictionary up: a quarter less time, a fifth less space."""


def write_tables(tables: Iterator[Any], location: Location) -> int:
    """Write tables of one schema, the next being made while the last is written; return the number of rows.

    On a disk the file is written beside its place and moved there. In a bucket a failed upload is deleted again.

    Raises
    ------
    UnreadableSource
        The file cannot be written.
    """
    filesystem, path = location.open()
    local = not location.address.startswith("s3://")
    staging = f"{path}.partial" if local else path
    try:
        if local:
            filesystem.create_dir(path.rpartition("/")[0])
        with filesystem.open_output_stream(staging) as stream:
            rows = _write(tables, stream)
        if local:
            filesystem.move(staging, path)
    except (pa.ArrowException, OSError) as error:
        _remove(filesystem, staging)
        raise UnreadableSource(f"{location.address} cannot be written: {error}") from error
    except BaseException:
        _remove(filesystem, staging)
        raise
    return rows


def _write(tables: Iterator[Any], stream: Any) -> int:
    first = next(tables)
    rows: int = 0
    options = {"compression": COMPRESSION, "compression_level": LEVEL, "dictionary_pagesize_limit": DICTIONARY_BYTES}
    with pq.ParquetWriter(stream, first.schema, **options) as writer, ThreadPoolExecutor(1) as pool:
        writing: Future[Any] = pool.submit(writer.write_table, first)
        rows += int(first.num_rows)
        for table in tables:
            writing.result()
            writing = pool.submit(writer.write_table, table)
            rows += int(table.num_rows)
        writing.result()
    return rows


def _remove(filesystem: Any, path: str) -> None:
    try:
        filesystem.delete_file(path)
    except OSError:
        return  # it was never begun
