"""Spark's rows equal one machine's, bit for bit; without Spark, its parts are tested alone."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq
import pytest

from fraud.velocity import feature_names
from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from stores.files import Location
from stores.log import load_log
from stores.windows_join import Asked, velocity_arrays
from tests.support.lakes import entity_frame, random_payments, some_reports, write_lake
from training.spark_history import evaluate_part, velocity_frame, whole_keys

pytestmark = pytest.mark.filterwarnings("ignore:distutils Version classes:DeprecationWarning")  # pyspark's own
PAYMENTS = random_payments(81, 300)
REPORTS = some_reports(PAYMENTS, 81)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    write_lake(tmp_path / "lake", PAYMENTS, REPORTS)
    for day in sorted((tmp_path / "lake" / "transactions").iterdir())[::3]:  # some transactions lie in the log twice
        pq.write_table(pq.read_table(day / "part-0.parquet", partitioning=None).slice(0, 2), day / "part-1.parquet")
    return tmp_path / "lake"


def one_machine(lake: Path) -> dict[str, dict[str, Any]]:
    """Every window of every payment, by transaction id, from the offline store's own code."""
    times = np.array([payment.event_time_ms for payment in PAYMENTS], np.int64)
    amounts = np.array([payment.amount_minor for payment in PAYMENTS], np.int64)
    asked = Asked(pa.Table.from_pandas(entity_frame(PAYMENTS)), times, amounts)
    found = velocity_arrays(load_log(Location(str(lake))), asked, feature_names())
    columns = {name: column.to_pylist() for name, column in found.items()}
    return {p.transaction_id: {name: columns[name][row] for name in columns} for row, p in enumerate(PAYMENTS)}


def by_id(table: pa.Table, names: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
    assert table.num_rows == len(PAYMENTS)
    return {row["transaction_id"]: tuple(row[name] for name in names) for row in table.to_pylist()}


@pytest.mark.parametrize("entity", ENTITIES)
def test_parts_of_whole_keys_add_up_to_one_machines_rows(entity: Entity, lake: Path) -> None:
    log = pds.dataset(lake / "transactions", partitioning="hive").to_table().drop_columns(["dt"])
    labels = pq.read_table(lake / "labels.parquet")
    fraud = labels.filter(labels["is_fraud"])
    owners = log.select(["transaction_id", *JOIN_KEYS.values()])
    said = fraud.select(["transaction_id", "created_timestamp"]).join(owners, "transaction_id")
    said = said.rename_columns(["transaction_id", "event_timestamp", *JOIN_KEYS.values()])
    both = pa.concat_tables(
        [
            log.append_column("is_report", pa.array([False] * log.num_rows)),
            said.append_column("is_report", pa.array([True] * said.num_rows)),
        ],
        promote_options="default",
    )
    key = JOIN_KEYS[entity]
    both = both.set_column(both.column_names.index(key), key, both[key].fill_null(""))
    batches = both.sort_by([(name, "ascending") for name in (key, "event_timestamp", "transaction_id")]).to_batches(
        max_chunksize=17
    )
    found = pa.concat_tables(evaluate_part(part, entity) for part in whole_keys(iter(batches), key))
    names = tuple(feature_names((entity,)))
    expected = {name: tuple(row[n] for n in names) for name, row in one_machine(lake).items()}
    assert by_id(found, names) == expected


needs_spark = pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
    reason="pyspark or Java is not installed (make test-spark); the parts that Spark runs are tested above",
)


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)  # its workers run where we run, whatever python3 is
        patch.setenv("PYSPARK_DRIVER_PYTHON", sys.executable)
        built = _started(SparkSession)
        yield built
        built.stop()


def _started(spark: Any) -> Any:
    return (
        spark.builder.master("local[2]")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "23")
        .getOrCreate()
    )


@needs_spark
def test_sparks_rows_are_one_machines_rows(lake: Path, tmp_path: Path, session: Any) -> None:
    from training.spark_job import arguments, run

    places = {"log": lake / "transactions", "labels": lake / "labels.parquet", "out": tmp_path / "o"}
    words = [word for name, place in places.items() for word in (f"--{name}", str(place))]
    assert run(session, arguments([*words, "--parts", "3"])) == dict.fromkeys(ENTITIES, len(PAYMENTS))
    whole = one_machine(lake)
    for entity in ENTITIES:
        names = tuple(feature_names((entity,)))
        expected = {name: tuple(row[n] for n in names) for name, row in whole.items()}
        assert by_id(pq.read_table(tmp_path / "o" / entity), names) == expected


@needs_spark
def test_payments_without_a_device_are_dealt_among_all_parts(lake: Path, tmp_path: Path, session: Any) -> None:
    from pyspark.sql import functions as sql

    log = session.read.parquet(str(lake / "transactions")).drop("dt")
    frame = velocity_frame(log, None, "device", parts=4).select(
        "transaction_id", sql.spark_partition_id().alias("part")
    )
    without = {payment.transaction_id for payment in PAYMENTS if payment.device_id is None}
    frame.write.parquet(str(tmp_path / "dealt"))
    dealt = pq.read_table(tmp_path / "dealt").to_pylist()
    found = [row["part"] for row in dealt if row["transaction_id"] in without]
    assert len(found) == len(without) > 100
    assert all(found.count(part) > len(without) // 8 for part in range(4))
