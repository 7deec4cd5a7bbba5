"""``spark-submit training/spark_job.py --log s3://... --labels s3://... --out s3://...``: velocity past one machine.

What EMR Serverless (entry point of a job run) and SageMaker Processing (``PySparkProcessor``) start. It writes one
Parquet folder for each kind of entity, ``OUT/card`` and so on: a row for each transaction with all the entity's
windows as of it. Joined by ``transaction_id``, they are what the offline store gives for the same rows.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from fraud.windows import ENTITIES, JOIN_KEYS
from training.spark_history import velocity_frame

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
    """Write the windows of every kind of entity; return the rows of each."""
    log = session.read.parquet(asked.log).drop("dt")
    reports = None
    if asked.labels:
        labels = session.read.parquet(asked.labels).where("is_fraud").select("transaction_id", "created_timestamp")
        reports = labels.join(log.select("transaction_id", *JOIN_KEYS.values()), "transaction_id")
    rows: dict[str, int] = {}
    for entity in ENTITIES:
        place = f"{asked.out.rstrip('/')}/{entity}"
        velocity_frame(log, reports, entity, parts=asked.parts).write.parquet(place)
        rows[entity] = session.read.parquet(place).count()
    return rows


def main() -> None:
    """Run the job; Spark takes memory and executors from the command that submits it."""
    from pyspark.sql import SparkSession

    session = SparkSession.builder.appName("velocity").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    run(session, arguments())
    session.stop()


if __name__ == "__main__":
    main()
