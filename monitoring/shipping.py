"""Decision logs on disk → Parquet files by day and hour, in a folder or on S3, each logged line once.

A log that is still being written is locked by its writer and left alone. Each log gives one file per hour, named after
it: shipping it again, as after an interruption, writes the same bytes under the same names. What was shipped is marked
beside the logs, or deleted when that is asked for.
"""

import fcntl
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from fraud.decision_table import COLUMNS, Array, Column, Kind, Lookup, Record, table_row
from monitoring.errors import UnreadableDecisionLog

MARKS: Final = ".shipped"
"""Folder of empty files, one for each log that was shipped."""

_SCALARS: Final = {"string": pa.string(), "bigint": pa.int64(), "double": pa.float64(), "boolean": pa.bool_()}
_decoder = msgspec.json.Decoder(dict[str, Any])


Advance = Callable[[int, int], None]


class Target(Protocol):
    """Where Parquet files go."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file whole, over one of that name."""


@dataclass(frozen=True)
class FolderTarget:
    """A folder on disk."""

    root: Path

    def put(self, name: str, data: bytes) -> None:
        """Write a file so that no reader sees half of it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.draft")
        draft.write_bytes(data)
        draft.replace(path)


@dataclass(frozen=True)
class BucketTarget:
    """A prefix of a bucket; ``client`` is boto3's for S3."""

    client: Any
    bucket: str
    prefix: str

    def put(self, name: str, data: bytes) -> None:
        """Put an object."""
        key = f"{self.prefix.strip('/')}/{name}".lstrip("/")
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)


@dataclass
class Shipped:
    """What was done.

    Parameters
    ----------
    logs, rows, files
        Logs shipped, lines in them, Parquet files written.
    being_written
        Logs left alone because a scorer writes them.
    before
        Logs that had been shipped already.
    """

    logs: int = 0
    rows: int = 0
    files: int = 0
    being_written: int = 0
    before: int = 0

    def as_data(self) -> dict[str, int]:
        """Return the figures."""
        return asdict(self)


def arrow_type(kind: Kind) -> pa.DataType:
    """Return a kind of column as Arrow has it."""
    if isinstance(kind, Array):
        return pa.list_(arrow_type(kind.of))
    if isinstance(kind, Lookup):
        return pa.map_(pa.string(), arrow_type(kind.of))
    if isinstance(kind, Record):
        return pa.struct([_field(part) for part in kind.parts])
    return _SCALARS[kind]


def _field(column: Column) -> pa.Field:
    return pa.field(column.name, arrow_type(column.kind))


SCHEMA: Final = pa.schema([_field(column) for column in COLUMNS])


def _say_nothing(_done: int, _every: int) -> None:
    pass


def ship(logs: Path, target: Target, *, delete: bool = False, advance: Advance = _say_nothing) -> Shipped:
    """Ship every log in a folder that nobody writes any more.

    Parameters
    ----------
    logs
        Folder of ``*.jsonl`` files.
    delete
        Delete each log once it is shipped.
    advance
        Told how many logs of how many are done.

    Raises
    ------
    UnreadableDecisionLog
        A line is no decision. Earlier logs were shipped; this one was not, and stays.
    """
    done, paths = Shipped(), sorted(logs.glob("*.jsonl"))
    for number, path in enumerate(paths, start=1):
        mark = logs / MARKS / path.name
        if mark.exists():
            done.before += 1
        elif _is_being_written(path):
            done.being_written += 1
        else:
            _ship_one(path, target, done)
            mark.parent.mkdir(exist_ok=True)
            mark.touch()
        if delete and mark.exists():
            path.unlink()
            mark.unlink()
        advance(number, len(paths))
    return done


def _ship_one(path: Path, target: Target, done: Shipped) -> None:
    hours: dict[str, list[Mapping[str, Any]]] = {}
    for row in _rows(path):
        hours.setdefault(_partition(row["decided_at_ms"]), []).append(row)
    for partition, rows in sorted(hours.items()):
        target.put(f"{partition}/{path.stem}.parquet", parquet_bytes(rows))
        done.rows += len(rows)
        done.files += 1
    done.logs += 1


def parquet_bytes(rows: list[Mapping[str, Any]]) -> bytes:
    """Return rows as a Parquet file; equal rows give equal bytes."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield table_row(_decoder.decode(line))
            except (msgspec.DecodeError, ValueError) as error:
                raise UnreadableDecisionLog(f"{path} line {number} is no decision: {error}") from None


def _partition(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return f"dt={moment:%Y-%m-%d}/hour={moment:%H}"


def _is_being_written(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
