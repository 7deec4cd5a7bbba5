"""Reading a decision log back: the scorer's JSON lines, and the Parquet that Firehose or ``monitoring ship`` makes.

A folder may hold both. Parquet needs pyarrow, which the container does not carry: it is imported when there is some.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

from fraud.decision_table import logged_fields
from fraud.errors import TollgateError
from serving.decisions import LoggedDecision
from serving.line_file import SUFFIX

BUCKET: Final = "s3://"
MAGIC: Final = b"PAR1"
"""What a Parquet file begins with, whatever its name is."""

_ROWS: Final = 1024
_decoder: Final = msgspec.json.Decoder(LoggedDecision)


class UnreadableLog(TollgateError):
    """There is no decision log in that place, or not the decision asked for, or nothing here to read it with."""

    code = "unreadable_log"


def read_log(
    place: Path | str, *, decision_id: str = "", region: str = "", endpoint: str = ""
) -> Iterator[LoggedDecision | None]:
    """Yield every decision logged in a place, in the order of its files; null for a line, row or file that holds none.

    Parameters
    ----------
    place
        A folder with ``*.jsonl`` files in it and Parquet files anywhere below, or ``s3://bucket/prefix`` with Parquet.
    decision_id
        This one only: what cannot hold it is passed over where that is cheap; empty for all.
    region, endpoint
        Of the bucket; another address than Amazon's, for an emulator.

    Raises
    ------
    UnreadableLog
        There is no log, or pyarrow is needed and absent.
    """
    if str(place).startswith(BUCKET):
        yield from _read_bucket(str(place), decision_id, region, endpoint)
        return
    folder = Path(place)
    lines = sorted(folder.glob(f"*{SUFFIX}"))
    tables = [path for path in sorted(folder.rglob("*")) if path.suffix != SUFFIX and _is_table(path)]
    if not (lines or tables):
        raise UnreadableLog(f"no decision log in {place}: it holds neither *{SUFFIX} nor Parquet files")
    for path in lines:
        yield from _read_lines(path)
    for path in tables:
        yield from _read_table(lambda path=path: path.open("rb"), decision_id)  # type: ignore[misc]  # it is called at once


def _read_lines(path: Path) -> Iterator[LoggedDecision | None]:
    with path.open("rb") as lines:
        for line in lines:
            try:
                yield _decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                yield None


def _is_table(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _read_bucket(place: str, decision_id: str, region: str, endpoint: str) -> Iterator[LoggedDecision | None]:
    _, fs, _ = _arrow()
    options: dict[str, str] = {"region": region} if region else {}
    if endpoint:
        options |= {"endpoint_override": endpoint, "scheme": endpoint.partition("://")[0]}
    files = fs.S3FileSystem(**options)
    root = place.removeprefix(BUCKET).rstrip("/")
    try:
        found = files.get_file_info(fs.FileSelector(root, recursive=True))
    except OSError as error:
        raise UnreadableLog(f"{place} cannot be listed: {error}") from None
    paths = sorted(one.path for one in found if one.type == fs.FileType.File)
    tables = [path for path in paths if _begins_a_table(files, path)]
    if not tables:
        raise UnreadableLog(f"no decision log in {place}: it holds no Parquet files")
    for path in tables:
        yield from _read_table(lambda path=path: files.open_input_file(path), decision_id)  # type: ignore[misc]  # the same


def _begins_a_table(files: Any, path: str) -> bool:
    with files.open_input_file(path) as file:
        return bool(file.read(len(MAGIC)) == MAGIC)


def _read_table(open_file: Callable[[], BinaryIO], decision_id: str) -> Iterator[LoggedDecision | None]:
    arrow, _, parquet = _arrow()
    with open_file() as file:
        try:
            table = parquet.ParquetFile(file)
            groups = [
                group for group in range(table.num_row_groups) if not decision_id or _holds(table, group, decision_id)
            ]
            for batch in table.iter_batches(batch_size=_ROWS, row_groups=groups) if groups else ():
                yield from map(_from_row, batch.to_pylist())
        except (OSError, arrow.ArrowException):
            yield None


def _holds(table: Any, group: int, decision_id: str) -> bool:
    ids = table.read_row_group(group, columns=["decision_id"]).column(0)
    return any(decision_id in chunk.to_pylist() for chunk in ids.chunks)


def _from_row(row: dict[str, Any]) -> LoggedDecision | None:
    try:
        return msgspec.convert(logged_fields(row), LoggedDecision)
    except (ValueError, msgspec.ValidationError):
        return None


def _arrow() -> tuple[Any, Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from pyarrow import fs
    except ImportError:
        raise UnreadableLog("a decision log in Parquet needs pyarrow: install tollgate[streaming]") from None
    return cast("Any", pa), fs, pq
