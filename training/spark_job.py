"""``spark-submit training/spark_job.py --log s3://... --labels s3://... --out s3://...``: velocity past one machine.

What EMR Serverless (entry point of a job run) and SageMaker Processing (``PySparkProcessor``) start. It writes one
Parquet folder for each kind of entity, ``OUT/card`` and so on: a row for each transaction with all the entity's
windows as of it. Joined by ``transaction_id``, they are what the offline store gives for the same rows. A log that the
offline store would refuse is refused before anything is written: one sentence, and code 1.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # a script's own folder is searched first, and its coverage.py is not what numba imports
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]

from fraud.errors import TollgateError, sentence
from fraud.windows import ENTITIES
from stores.files import Location
from training.spark_history import require_every_row, velocity_frame
from training.spark_log import checked_log

PARTS = 200
"""Among how many parts the keys are dealt: some 50,000 rows each at ten million."""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", required=True, help="Folder of the transaction log, hive partitions by dt.")
    parser.add_argument("--labels", default="", help="labels.parquet, for the windows that count fraud reports.")
    parser.add_argument("--out", required=True, help="Folder to write; must not exist.")
    parser.add_argument("--parts", type=int, default=PARTS)
    return parser.parse_args(words)


def run(session: Any, asked: argparse.Namespace) -> dict[str, int]:
    """Write the windows of every kind of entity; return the rows of each.

    Raises
    ------
    UnreadableSource
        The log or its labels are not fit to be read; nothing was written.
    IncompleteTrainingSet
        A result that was written has not one row for each transaction.
    """
    log = checked_log(session, Location(asked.log), Location(asked.labels) if asked.labels else None)
    rows: dict[str, int] = {}
    for entity in ENTITIES:
        place = f"{asked.out.rstrip('/')}/{entity}"
        velocity_frame(log, entity, parts=asked.parts).write.parquet(place)
        rows[entity] = session.read.parquet(place).count()
        require_every_row(log, entity, rows[entity])
    log.transactions.unpersist()
    return rows


def main() -> None:
    """Run the job; Spark takes memory and executors from the command that submits it."""
    from pyspark.sql import SparkSession

    session = SparkSession.builder.appName("velocity").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    try:
        run(session, arguments())
    except TollgateError as error:
        raise SystemExit(f"velocity: {sentence(error)}") from None  # to stderr, with code 1
    finally:
        session.stop()


if __name__ == "__main__":
    main()
