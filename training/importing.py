"""Import of somebody else's data into the transaction log: read, convert, sort by day, write; refused rows are kept.

Nothing is half done: the data set appears when it is whole. Memory is bounded by a run of rows and by the busiest day,
not by the files.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.conversion import convert
from training.errors import UnreadableSource
from training.mapping import Mapping, find_mapping
from training.rejects import Refusal, RejectCount, RejectWriter
from training.runs import RUN_ROWS, Runs
from training.source_files import Unsplit, read_batches, source_files
from training.tokens import TokenKey
from training.transaction_log import (
    LABELS_SCHEMA,
    TRANSACTIONS_SCHEMA,
    TRUTH_SCHEMA,
    Progress,
    day_text,
    whole_folder,
    write_manifest,
    write_table,
)

_REASONS_TOLD: Final = 3
_PIECE_ROWS: Final = 2_000_000


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote.

    Parameters
    ----------
    rows, days, frauds, labels
        Transactions, UTC days with any, fraudulent transactions, label rows.
    first_day, last_day
        UTC days as text.
    raised_amounts
        Transactions whose amount was nothing and became one minor unit.
    fraud_types
        Frauds of each type, where the data say.
    rejected
        Rows that were refused; they are in ``rejected.parquet``.
    reasons
        Why, the commonest first.
    """

    rows: int
    days: int
    frauds: int
    labels: int
    first_day: str
    last_day: str
    raised_amounts: int
    fraud_types: dict[str, int]
    rejected: int
    reasons: tuple[RejectCount, ...]


@dataclass
class _Tally:
    """What was written so far."""

    rows: int = 0
    days: list[str] = field(default_factory=list)
    frauds: int = 0
    raised: int = 0
    types: Counter[str] = field(default_factory=Counter)


def nothing_shown(_done: int, _total: int) -> None:
    """Show no progress."""


def import_transactions(
    format: str,  # noqa: A002  # the word that the command line uses
    source: Path,
    out: Path,
    *,
    label_delay_ms: int,
    progress: Progress,
) -> ImportReport:
    """Bring one file in a ready mapping's layout into the transaction log, see :func:`import_files`.

    Raises
    ------
    UnknownFormat
        There is no ready mapping of the name ``format``.
    """
    return import_files([source], find_mapping(format), out, label_delay_ms=label_delay_ms, writing=progress)


def import_files(
    sources: Sequence[Path],
    mapping: Mapping,
    out: Path,
    *,
    key: TokenKey | None = None,
    label_delay_ms: int | None = None,
    reading: Progress = nothing_shown,
    writing: Progress = nothing_shown,
    run_rows: int = RUN_ROWS,
) -> ImportReport:
    """Bring files into the transaction log's layout and return what was written.

    Parameters
    ----------
    sources
        Files, or folders of files, all in the layout of the mapping.
    out
        Folder to write; must not exist, or be empty.
    key
        Makes cards tokens, see :mod:`training.tokens`.
    label_delay_ms
        How long after its transaction a fraud becomes known, where the data do not say; null as the mapping says.
    reading, writing
        Called with the bytes read and all, and with the rows written and all.
    run_rows
        Rows that are sorted in memory at once.

    Raises
    ------
    UnreadableSource
        A file is missing, broken or lacks a column, no row could be taken, or the delay is negative.
    UnwritableOutput
        The folder holds something already, or the disk refused.
    """
    delay_ms = mapping.label.delay_ms if mapping.label and label_delay_ms is None else label_delay_ms or 0
    if delay_ms < 0:
        raise UnreadableSource(f"label delay {delay_ms} ms is negative: a label cannot precede its transaction")
    files = source_files(sources)
    with whole_folder(out) as folder:
        rejects = RejectWriter(folder)
        runs = Runs(folder / "runs", run_rows=run_rows)
        for converted in _converted(files, mapping, key, delay_ms, rejects, reading):
            runs.add(converted)
        tally = _write_days(runs, mapping, folder, rejects, writing)
        rejects.close()
        for left in (folder / "runs").iterdir():
            left.unlink()
        (folder / "runs").rmdir()
        if not tally.rows:
            raise UnreadableSource(f"none of {rejects.total} rows could be taken: {_why(rejects)}")
        report = _report(tally, rejects)
        write_manifest(_manifest(report, mapping, delay_ms, files), folder)
    return report


def _converted(
    files: Sequence[Path],
    mapping: Mapping,
    key: TokenKey | None,
    delay_ms: int,
    rejects: RejectWriter,
    reading: Progress,
) -> Iterator[pa.Table]:
    """Yield the rows of all files that could be taken, and write down the others."""
    sizes = [file.stat().st_size for file in files]
    first = 0
    for number, file in enumerate(files):
        behind, unsplit, told = sum(sizes[:number]), list[Unsplit](), 0

        def moved(place: int, behind: int = behind) -> None:
            reading(behind + place, sum(sizes))

        for batch in read_batches(file, mapping, unsplit=unsplit, moved=moved):
            converted = convert(batch, mapping, key, first=first, label_delay_ms=delay_ms)
            told = _tell_unsplit(rejects, unsplit, told)
            rejects.add(str(file), converted.refused)
            first += len(batch.row)
            yield converted.rows
        _tell_unsplit(rejects, unsplit, told)
        reading(behind + sizes[number], sum(sizes))


def _tell_unsplit(rejects: RejectWriter, unsplit: Sequence[Unsplit], told: int) -> int:
    for line in unsplit[told:]:
        reason = f"{line.found} columns instead of {line.expected}"
        rejects.add(line.file, [Refusal(line.row, "(line)", "line", reason, None)])
    return len(unsplit)


class _Gathered:
    """A Parquet file of a few columns of every day, written in large pieces."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._waiting = [schema.empty_table()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._writer.write_table(pa.concat_tables(self._waiting))
        self._writer.close()

    def add(self, rows: pa.Table) -> None:
        """Take rows."""
        self._waiting.append(rows)
        if sum(len(part) for part in self._waiting) >= _PIECE_ROWS:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = self._waiting[:1]


def _write_days(runs: Runs, mapping: Mapping, folder: Path, rejects: RejectWriter, writing: Progress) -> _Tally:
    """Write the log, the labels and the truth, day by day."""
    tally = _Tally()
    label, done = mapping.label, 0
    with contextlib.ExitStack() as open_files:
        labels = open_files.enter_context(_Gathered(folder / "labels.parquet", LABELS_SCHEMA))
        truth = None
        if label is not None and label.truth:
            truth = open_files.enter_context(_Gathered(folder / "truth.parquet", TRUTH_SCHEMA))
        for day in runs.days():
            _tell_repeated(rejects, day.repeated, mapping)
            _write_day(day.rows, folder, tally)
            if label is not None:
                labels.add(_labels(day.rows, label.source))
            if truth is not None:
                truth.add(day.rows.select(TRUTH_SCHEMA.names).cast(TRUTH_SCHEMA))
            done += day.rows.num_rows + day.repeated.num_rows
            writing(done, runs.rows)
    return tally


def _write_day(rows: pa.Table, folder: Path, tally: _Tally) -> None:
    if not rows.num_rows:
        return
    name = day_text(rows["event_timestamp"][0].value // 1000)
    partition = folder / "transactions" / f"dt={name}"
    partition.mkdir(parents=True)
    write_table(rows.select(TRANSACTIONS_SCHEMA.names).cast(TRANSACTIONS_SCHEMA), partition / "part-0.parquet")
    tally.rows += rows.num_rows
    tally.days.append(name)
    tally.frauds += int(pc.sum(rows["is_fraud"]).as_py())
    tally.raised += int(pc.sum(rows["raised"]).as_py())
    tally.types.update(kind for kind in rows["fraud_type"].drop_null().to_pylist())


def _labels(rows: pa.Table, source: str) -> pa.Table:
    said = rows.filter(rows["is_fraud"])
    columns = [
        said["transaction_id"], said["is_fraud"], pa.repeat(source, len(said)), said["label_timestamp"],
        said["label_timestamp"],
    ]  # fmt: skip
    return pa.table(columns, schema=LABELS_SCHEMA)


def _tell_repeated(rejects: RejectWriter, rows: pa.Table, mapping: Mapping) -> None:
    column = ", ".join(mapping.transaction_id.columns)
    for row in rows.select(["file", "row", "transaction_id"]).to_pylist():
        rejects.add(row["file"], [Refusal(row["row"], column, "transaction_id", "repeated id", row["transaction_id"])])


def _why(rejects: RejectWriter) -> str:
    told = [
        f"{count.reason} in {count.column} ({count.rows} rows, such as {count.example!r})"
        for count in rejects.counts()[:_REASONS_TOLD]
    ]
    return "; ".join(told) if told else "the files hold no row"


def _report(tally: _Tally, rejects: RejectWriter) -> ImportReport:
    return ImportReport(
        rows=tally.rows,
        days=len(tally.days),
        frauds=tally.frauds,
        labels=tally.frauds,
        first_day=tally.days[0],
        last_day=tally.days[-1],
        raised_amounts=tally.raised,
        fraud_types=dict(sorted(tally.types.items())),
        rejected=rejects.total,
        reasons=rejects.counts(),
    )


def _manifest(report: ImportReport, mapping: Mapping, delay_ms: int, files: Sequence[Path]) -> dict[str, Any]:
    return {
        "rows": report.rows,
        "days": report.days,
        "first_day": report.first_day,
        "last_day": report.last_day,
        "currency": mapping.currency,
        "seed": None,
        "source": mapping.name,
        "frauds": report.frauds,
        "fraud_types": report.fraud_types,
        "label_delay_ms": delay_ms,
        "raised_amounts": report.raised_amounts,
        "rejected": report.rejected,
        "mapping_sha256": mapping.digest(),
        "files": [file.name for file in files],
    }
