"""The transaction log as a Spark data frame, refused where one machine would refuse it.

Spark's own reader takes one file's schema for all, fills a column that another file lacks with nulls, and asks no
file for rows without a time or of another day. So it is not asked: the driver holds the footers to each other and
looks for missing days, then the executors read every file once with the functions of :mod:`stores`, and the first
refusal, in order of files, is raised here, in one machine's words, before anything is computed. What is computed
afterwards is read by the same functions, so that types and values are one machine's too; it is read once and kept by
Spark, in memory and on the executors' disks.
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as pds

from fraud.windows import JOIN_KEYS
from stores.columns import MOMENT
from stores.dealt_parts import DealtPart, deal_parts
from stores.errors import UnreadableSource
from stores.files import Location
from stores.log import CHANGE_COLUMNS, LABELS_SCHEMA, LOG_SCHEMA

_TYPES: Final = {
    pa.string(): "string",
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    MOMENT: "timestamp",
}
TASKS_A_CORE: Final = 4
"""Files are read by at most so many tasks for each core: starting one costs more than reading a small file."""

_VERDICT: Final = pa.schema([("number", pa.int32()), ("rows", pa.int64()), ("refusal", pa.string())])


@dataclass(frozen=True)
class CheckedLog:
    """A log whose every file was read to its end and found fit.

    Parameters
    ----------
    transactions
        Spark data frame of :data:`stores.log.CHANGE_COLUMNS`; other columns of the files are left out.
    rows
        How many it has; a transaction that lies in the log twice is two.
    reports
        Fraud reports with the join keys of their transactions: ``transaction_id``, ``created_timestamp`` and those
        keys; null for none. A report about a payment that the log has never had is nobody's.
    """

    transactions: Any
    rows: int
    reports: Any | None = None


def checked_log(session: Any, log: Location, labels: Location | None = None) -> CheckedLog:
    """Return a log that was checked, and the fraud reports of its labels.

    Parameters
    ----------
    session
        Spark's.
    log
        Folder of the transaction log.
    labels
        ``labels.parquet``; null where no windows count reports.

    Raises
    ------
    UnreadableSource
        What the offline store refuses of a log and its labels; the log has no row at all; or Spark got other rows than
        were checked.
    """
    transactions, rows = _checked(
        session, deal_parts(log, CHANGE_COLUMNS, "event_timestamp", declared=LOG_SCHEMA, by_day=True), LOG_SCHEMA
    )
    if not rows:
        raise UnreadableSource(f"{log.address} has no transaction: generate or import a data set first")
    got = transactions.count()
    if got != rows:
        raise UnreadableSource(f"{log.address} gave {got} rows after {rows} were checked: let nobody write to it")
    if labels is None:
        return CheckedLog(transactions, rows)
    said, _ = _checked(
        session,
        deal_parts(
            labels,
            LABELS_SCHEMA.names,
            "created_timestamp",
            declared=LABELS_SCHEMA,
            wanted=pds.field("is_fraud"),
        ),
        LABELS_SCHEMA,
    )
    owners = transactions.select("transaction_id", *JOIN_KEYS.values())
    return CheckedLog(transactions, rows, said.drop("is_fraud").join(owners, "transaction_id"))


def _checked(session: Any, parts: Sequence[DealtPart], declared: Any) -> tuple[Any, int]:
    """Return the rows of all parts as a Spark data frame, and their number.

    Raises
    ------
    UnreadableSource
        That of the first part, in order, that refuses itself.
    """
    pickled = [(number, pickle.dumps(part)) for number, part in enumerate(parts)]
    context = session.sparkContext
    tasks = min(len(pickled), TASKS_A_CORE * context.defaultParallelism)
    files = session.createDataFrame(context.parallelize(pickled, tasks), "number int, part binary")
    verdicts = files.mapInArrow(_dealt(_judge), "number int, rows bigint, refusal string").collect()
    for verdict in sorted(verdicts, key=lambda row: int(row["number"])):
        if verdict["refusal"]:
            raise UnreadableSource(verdict["refusal"])
    types = ", ".join(f"{name} {_TYPES[declared.field(name).type]}" for name in parts[0].columns)
    return files.mapInArrow(_dealt(_read), types).persist(), sum(int(verdict["rows"]) for verdict in verdicts)


def _dealt(work: Callable[[int, DealtPart], Iterator[Any]]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """Return what Spark runs on rows of number and pickled part: the ``work`` on each."""

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            for row in batch.to_pylist():
                yield from work(row["number"], pickle.loads(row["part"]))  # noqa: S301 - made above, in this job

    return run


def _judge(number: int, part: DealtPart) -> Iterator[Any]:
    rows, refusal = 0, None
    try:
        for table in part.tables():
            rows += table.num_rows
    except UnreadableSource as error:
        refusal = str(error)
    yield pa.RecordBatch.from_pylist([{"number": number, "rows": rows, "refusal": refusal}], _VERDICT)


def _read(_number: int, part: DealtPart) -> Iterator[Any]:
    for table in part.tables():
        yield from table.to_batches()
