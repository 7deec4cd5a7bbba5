"""Somebody's files, CSV or Parquet, as batches of rows that know their place.

CSV columns come as text and Parquet columns as they are typed; reading never interprets a value. Files larger than
memory are read in pieces.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from training.errors import UnreadableSource
from training.mapping import FileFormat, Mapping

IntArray = npt.NDArray[np.int64]
Columns = dict[str, Any]

BATCH_ROWS: Final = 131_072
_BLOCK_BYTES: Final = 16 << 20
_PARQUET: Final = (".parquet", ".pq")
_TEXT: Final = (".csv", ".csv.gz", ".tsv", ".txt", ".csv.bz2", ".csv.zst")


@dataclass(frozen=True)
class Batch:
    """Some rows of a file.

    Parameters
    ----------
    file
        Its name as it was given.
    row
        Of each row its number in the file, 1 is the first after the header; shape ``(n,)``.
    columns
        Arrow arrays by name, each of length ``n``; optional ones may be absent.
    """

    file: str
    row: IntArray
    columns: Columns


@dataclass(frozen=True)
class Unsplit:
    """A line of a text file that does not split into the header's columns: its row number and how many it had."""

    file: str
    row: int
    found: int
    expected: int


def source_files(given: Sequence[Path]) -> list[Path]:
    """Return the files given and those in the folders given, folders in the order of names.

    Raises
    ------
    UnreadableSource
        Nothing there, a folder without data files, or a file of another kind.
    """
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(found for found in path.rglob("*") if found.is_file() and _kind(found))
            if not inside:
                raise UnreadableSource(f"{path}: holds no file that ends with {', '.join((*_PARQUET, *_TEXT))}")
            files += inside
        elif not path.is_file():
            raise UnreadableSource(f"{path}: no such file")
        elif not _kind(path):
            raise UnreadableSource(f"{path}: ends with none of {', '.join((*_PARQUET, *_TEXT))}")
        else:
            files.append(path)
    if not files:
        raise UnreadableSource("no file was given")
    return files


def read_batches(
    file: Path, mapping: Mapping, *, unsplit: list[Unsplit], moved: Callable[[int], None]
) -> Iterator[Batch]:
    """Yield a file's rows in order.

    Parameters
    ----------
    mapping
        Says which columns are wanted and how text is written.
    unsplit
        Gets the lines that could not be split; they are no rows.
    moved
        Called with the bytes of the file that are behind.

    Raises
    ------
    UnreadableSource
        A wanted column is missing, or the file is not what its name says.
    """
    reader = _parquet if _kind(file) == "parquet" else _text
    try:
        yield from reader(file, mapping, unsplit, moved)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableSource(f"{file}: cannot be read ({str(error).splitlines()[0]})") from error


def _kind(path: Path) -> str:
    name = path.name.lower()
    return "parquet" if name.endswith(_PARQUET) else "text" if name.endswith(_TEXT) else ""


def _chosen(file: Path, mapping: Mapping, present: Sequence[str]) -> list[str]:
    missing = [name for name in mapping.wanted() if name not in present]
    if missing:
        raise UnreadableSource(
            f"{file}: column {', '.join(missing)} is missing; it has {', '.join(present[:40])}: "
            f"correct the mapping {mapping.name!r} or the file"
        )
    return [*mapping.wanted(), *(name for name in mapping.optional() if name in present)]


def _parquet(file: Path, mapping: Mapping, _unsplit: list[Unsplit], moved: Callable[[int], None]) -> Iterator[Batch]:
    size = file.stat().st_size
    with pq.ParquetFile(file) as source:
        names = _chosen(file, mapping, source.schema_arrow.names)
        rows, done = source.metadata.num_rows, 0
        for batch in source.iter_batches(BATCH_ROWS, columns=names):
            numbers = np.arange(done + 1, done + len(batch) + 1)
            columns = {name: _plain(batch.column(name)) for name in names}
            yield Batch(str(file), numbers, columns)
            done += len(batch)
            moved(size * done // max(rows, 1))


def _plain(column: Any) -> Any:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _text(file: Path, mapping: Mapping, unsplit: list[Unsplit], moved: Callable[[int], None]) -> Iterator[Batch]:
    style = mapping.file
    names = _chosen(file, mapping, _header(file, style))
    bad: list[int] = []

    def skip(line: Any) -> str:
        number = int(line.number) - 1  # the header is the first
        bad.append(number)
        unsplit.append(Unsplit(str(file), number, line.actual_columns, line.expected_columns))
        return "skip"

    with pa.OSFile(str(file)) as raw, _plain_stream(raw, file) as stream:
        reader = pcsv.open_csv(
            stream,
            read_options=pcsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, encoding=style.encoding),
            parse_options=pcsv.ParseOptions(
                delimiter=style.delimiter, newlines_in_values=True, invalid_row_handler=skip
            ),
            convert_options=pcsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), include_columns=names, strings_can_be_null=False
            ),
        )
        done = 0
        for batch in reader:
            moved(raw.tell())
            for start in range(0, len(batch), BATCH_ROWS):
                piece = batch.slice(start, BATCH_ROWS)
                numbers = _numbers(done, len(piece), bad)
                yield Batch(str(file), numbers, {name: piece.column(name) for name in names})
                done += len(piece)


def _plain_stream(raw: Any, file: Path) -> Any:
    """Return a stream of the uncompressed bytes."""
    codecs = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
    codec = codecs.get(file.suffix.lower())
    return raw if codec is None else pa.CompressedInputStream(raw, codec)


def _header(file: Path, style: FileFormat) -> list[str]:
    with pa.OSFile(str(file)) as raw, _plain_stream(raw, file) as stream:
        options = pcsv.ReadOptions(use_threads=False, block_size=1 << 20, encoding=style.encoding)
        parse = pcsv.ParseOptions(
            delimiter=style.delimiter, newlines_in_values=True, invalid_row_handler=lambda _line: "skip"
        )
        return list(pcsv.open_csv(stream, read_options=options, parse_options=parse).schema.names)


def _numbers(done: int, count: int, bad: Sequence[int]) -> IntArray:
    """Return the row numbers of ``count`` rows after ``done`` others, when the rows ``bad`` were left out.

    Examples
    --------
    >>> _numbers(1, 3, [2, 5]).tolist()
    [3, 4, 6]
    """
    gaps = np.array(bad, np.int64) - np.arange(len(bad)) - 1  # rows that were taken before each left-out one
    place = np.arange(done, done + count)
    return np.asarray(place + 1 + np.searchsorted(gaps, place, side="right"), np.int64)
