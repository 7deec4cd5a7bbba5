"""The log of what was applied: which transaction made which revision of which entity, and when it became visible.

Parity and freshness read it: a scorer that saw revision ``r`` of an entity had exactly the rows up to ``r``. One
Parquet part per flush, ``changes/part-{number}.parquet``, in the schema :data:`CHANGES`.

A kill between the store's write and a flush must not lose a row. So every change is written to a journal *before* the
store is asked. After a kill the stream delivers the record again, the state says "nothing new", and the row is taken
from the journal.
"""

import io
import operator
import threading
from collections.abc import Container, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraud.errors import StoreUnavailable
from streaming.folders import Folder, write_whole

PREFIX: Final = "changes/part-"

CHANGES: Final = pa.schema(
    [
        pa.field("entity", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("revision_after", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("event_time_ms", pa.int64(), nullable=False),
        pa.field("arrival_ms", pa.int64(), nullable=False),
        pa.field("visible_ms", pa.int64(), nullable=False),
    ]
)


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change of one entity's state.

    Parameters
    ----------
    entity, key
        Whose state.
    revision_after
        The state's revision once the change is in it.
    kind
        ``transaction`` or ``report``.
    transaction_id
        The transaction it speaks of.
    event_time_ms
        The transaction's event time, or when the report became known.
    arrival_ms
        When Kinesis took the record.
    """

    entity: str
    key: str
    revision_after: int
    kind: str
    transaction_id: str
    event_time_ms: int
    arrival_ms: int

    def identity(self) -> tuple[str, str, str, str]:
        """Return what is the same however often the record is delivered."""
        return self.entity, self.key, self.kind, self.transaction_id


class AppliedLog(Protocol):
    """Told about every change, before and after the store is asked."""

    def intend(self, changes: Sequence[Change]) -> None:
        """Note what is about to be written."""

    def settle(self, changes: Sequence[Change], visible_ms: int) -> None:
        """Note that the store has it, seen at ``visible_ms``."""

    def withdraw(self, changes: Sequence[Change]) -> None:
        """Forget what another writer prevented."""

    def recover(self, repeats: Sequence[Change], visible_ms: int) -> None:
        """Settle those of ``repeats`` that were intended and never settled: the store did take them."""


class ChangeLog:
    """The applied log in a folder, buffered until :meth:`flush`; threads may share it.

    Parameters
    ----------
    folder
        Where the parts go.
    journal
        Directory of the journal on this machine's disk; null keeps none (Lambda has no disk that outlives it).
    """

    def __init__(self, folder: Folder, journal: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._settled: list[tuple[Sequence[Change], int]] = []
        self._asked: dict[int, Sequence[Change]] = {}  # by thread: what its store was asked for last
        self._open: dict[tuple[str, str, str, str], Change] = {}
        parts = folder.names(PREFIX) if journal is not None else []
        self._number = int(parts[-1].removeprefix(PREFIX).removesuffix(".parquet")) + 1 if parts else 0
        self._journal = Journal(journal) if journal is not None else None
        if self._journal is not None:
            flushed = _rows_of(folder.get(parts[-1])) if parts else set()
            self._open = {change.identity(): change for change in self._journal.start(self._number, flushed)}

    def intend(self, changes: Sequence[Change]) -> None:
        """Note what is about to be written."""
        with self._lock:
            self._leave_open()
            self._asked[threading.get_ident()] = changes
            if self._journal is not None and changes:
                self._journal.append(changes)

    def settle(self, changes: Sequence[Change], visible_ms: int) -> None:
        """Note that the store has it."""
        with self._lock:
            asked = self._asked.get(threading.get_ident(), ())
            if len(asked) == len(changes) and all(map(operator.is_, asked, changes)):
                self._asked.pop(threading.get_ident(), None)  # all of it, as nearly always: nothing was left open
            else:
                self._leave_open()
                for change in changes:
                    self._open.pop(change.identity(), None)
            if changes:
                self._settled.append((changes, visible_ms))

    def withdraw(self, changes: Sequence[Change]) -> None:
        """Forget what another writer prevented."""
        with self._lock:
            self._leave_open()
            for change in changes:
                self._open.pop(change.identity(), None)

    def _leave_open(self, thread: int | None = None) -> None:
        """Keep by identity what a thread (null is this one) asked the store for and has not settled as a whole."""
        left = self._asked.pop(threading.get_ident() if thread is None else thread, ())
        self._open.update(zip(map(Change.identity, left), left, strict=True))

    def recover(self, repeats: Sequence[Change], visible_ms: int) -> None:
        """Settle what was intended in an earlier attempt or life."""
        if not repeats:
            return
        with self._lock:
            for thread in tuple(self._asked):  # a batch may be tried again by another thread
                self._leave_open(thread)
            found = [self._open.pop(repeat.identity(), None) for repeat in repeats]
            recovered = [change for change in found if change is not None]
            if recovered:
                self._settled.append((recovered, visible_ms))

    def flush(self, name: str | None = None) -> int:
        """Write the buffered rows as one part; return how many. One thread at a time.

        Parameters
        ----------
        name
            Of the part, instead of the running number.

        Raises
        ------
        StoreUnavailable
            The folder did not take them; they stay buffered.
        """
        with self._lock:
            settled, self._settled = self._settled, []
        if not settled:
            return 0
        part = name if name is not None else f"{self._number:08d}"
        try:
            self._folder.put(
                f"{PREFIX}{part}.parquet", parquet_bytes(_table(settled), repetitive=["entity", "key", "kind"])
            )
        except StoreUnavailable:
            with self._lock:
                self._settled = settled + self._settled
            raise
        with self._lock:
            self._number += 1
            if self._journal is not None:
                asked = chain.from_iterable(self._asked.values())
                later = chain.from_iterable(changes for changes, _ in self._settled)
                self._journal.rotate(self._number, [*self._open.values(), *asked, *later])
        return sum(len(changes) for changes, _ in settled)


class Journal:
    """Intended changes since the last flush, appended to one file; the next part's number is in its name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory

    def start(self, number: int, flushed: Container[tuple[str, ...]]) -> list[Change]:
        """Return what an earlier life intended and did not flush, and carry it into the journal ``number``.

        That life may have been killed after it wrote the last part and before it turned to the next journal: then the
        last part's journal also holds what was intended while the part was being written, and ``flushed``, identities
        and revisions in the last part, tells the two apart.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        left: list[Change] = []
        for path in sorted(self._directory.glob("journal-*.msgpack")):
            if int(path.stem.removeprefix("journal-")) >= number - 1:
                left += _read_journal(path.read_bytes())
        left = [change for change in left if (*change.identity(), str(change.revision_after)) not in flushed]
        self.rotate(number, left)
        return left

    def append(self, changes: Sequence[Change]) -> None:
        """Append; a kill later loses nothing of it, because the bytes are the kernel's by then."""
        with self._path.open("ab", buffering=0) as file:
            file.write(_framed(changes))

    def rotate(self, number: int, carried: Sequence[Change]) -> None:
        """Start the journal ``number`` with what is still open, and drop the earlier ones."""
        self._path = self._directory / f"journal-{number:08d}.msgpack"
        write_whole(self._path, _framed(carried) if carried else b"")
        for path in self._directory.glob("journal-*.msgpack"):
            if path != self._path:
                path.unlink()


def parquet_bytes(table: pa.Table, *, repetitive: Sequence[str] | None = None) -> bytes:
    """Return a table as one Parquet file; a dictionary is worth its while for ``repetitive`` columns (null: all)."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", use_dictionary=True if repetitive is None else list(repetitive))
    return sink.getvalue()


def _table(settled: Sequence[tuple[Sequence[Change], int]]) -> pa.Table:
    rows = [msgspec.structs.astuple(change) for changes, _ in settled for change in changes]
    visible = np.repeat([visible_ms for _, visible_ms in settled], [len(changes) for changes, _ in settled])
    return pa.table([*map(list, zip(*rows, strict=True)), visible], schema=CHANGES)


def _rows_of(part: bytes) -> set[tuple[str, ...]]:
    columns = pq.read_table(io.BytesIO(part), columns=["entity", "key", "kind", "transaction_id", "revision_after"])
    return set(zip(*(map(str, column.to_pylist()) for column in columns.columns), strict=True))


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Change])


def _framed(changes: Sequence[Change]) -> bytes:
    body = _encoder.encode(changes)
    return len(body).to_bytes(4, "little") + body


def _read_journal(data: bytes) -> Iterator[Change]:
    """Yield the whole batches; a kill may have torn the last one, which the store was then never asked about."""
    place = 0
    while place + 4 <= len(data):
        end = place + 4 + int.from_bytes(data[place : place + 4], "little")
        if end > len(data):
            return
        yield from _decoder.decode(data[place + 4 : end])
        place = end
