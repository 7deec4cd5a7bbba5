"""Spark's rows equal one machine's, bit for bit; without Spark, its parts are tested alone."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq
import pytest

from fraud.velocity import feature_names
from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from stores.dealt_parts import DealtPart
from stores.errors import UnreadableSource
from stores.files import Location
from stores.log import load_log, log_days
from stores.windows_join import Asked, velocity_arrays
from tests.support.damages import DAMAGES
from tests.support.lakes import entity_frame, random_payments, some_reports, write_lake
from training.errors import IncompleteTrainingSet
from training.spark_history import evaluate_part, require_every_row, velocity_frame, whole_keys
from training.spark_log import checked_log

pytestmark = [  # pyspark's own
    pytest.mark.filterwarnings("ignore:distutils Version classes:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PAYMENTS = random_payments(81, 300)
REPORTS = some_reports(PAYMENTS, 81)
FEW = random_payments(91, 200, days=12)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    write_lake(tmp_path / "lake", PAYMENTS, REPORTS)
    for day in sorted((tmp_path / "lake" / "transactions").iterdir())[::3]:  # some transactions lie in the log twice
        pq.write_table(pq.read_table(day / "part-0.parquet", partitioning=None).slice(0, 2), day / "part-1.parquet")
    return tmp_path / "lake"


def vary(lake: Path) -> None:
    """Write days in other types that keep every value: a time without a zone, narrow amounts, a column of nulls."""
    changes: dict[str, Callable[[Any], Any]] = {
        "event_timestamp": lambda column: column.cast(pa.timestamp("us")),
        "amount_minor": lambda column: column.cast(pa.int32()),
        "authorised": lambda column: pa.nulls(len(column)),
        "card_id": lambda column: column.cast(pa.large_string()),
    }
    for day, (name, change) in zip(sorted((lake / "transactions").iterdir())[1:], changes.items(), strict=False):
        table = pq.read_table(day / "part-0.parquet", partitioning=None)
        table = table.set_column(table.column_names.index(name), name, change(table[name]))
        pq.write_table(table.append_column("unknown", table["amount_minor"]), day / "part-0.parquet")


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
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "23")
        .getOrCreate()
    )


def read_whole(lake: Path) -> None:
    """Read the log and its labels as the offline store does."""
    log_days(Location(str(lake)))
    load_log(Location(str(lake)))


def words(lake: Path, out: Path) -> list[str]:
    places = {"log": lake / "transactions", "labels": lake / "labels.parquet", "out": out}
    return [*(word for name, place in places.items() for word in (f"--{name}", str(place))), "--parts", "3"]


@needs_spark
def test_sparks_rows_are_one_machines_rows(lake: Path, tmp_path: Path, session: Any) -> None:
    from training.spark_job import arguments, run

    vary(lake)
    assert run(session, arguments(words(lake, tmp_path / "o"))) == dict.fromkeys(ENTITIES, len(PAYMENTS))
    whole = one_machine(lake)
    for entity in ENTITIES:
        names = tuple(feature_names((entity,)))
        expected = {name: tuple(row[n] for n in names) for name, row in whole.items()}
        assert by_id(pq.read_table(tmp_path / "o" / entity), names) == expected


@needs_spark
@pytest.mark.parametrize("name", DAMAGES)
def test_what_one_machine_refuses_is_refused_in_its_words_and_nothing_is_written(
    name: str, tmp_path: Path, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.spark_job import arguments, run

    monkeypatch.setattr("stores.parts.BUSY_DAY", 1)
    write_lake(tmp_path / "lake", FEW, some_reports(FEW, 91))
    damage, said = DAMAGES[name]
    damage(tmp_path / "lake")
    with pytest.raises(UnreadableSource) as one_machines:
        read_whole(tmp_path / "lake")
    with pytest.raises(UnreadableSource) as sparks:
        run(session, arguments(words(tmp_path / "lake", tmp_path / "o")))
    assert str(sparks.value) == str(one_machines.value)
    assert said in str(sparks.value)
    assert not (tmp_path / "o").exists()


@needs_spark
def test_log_without_a_transaction_is_refused(tmp_path: Path, session: Any) -> None:
    write_lake(tmp_path, FEW)
    for file in (tmp_path / "transactions").rglob("*.parquet"):
        pq.write_table(pq.read_table(file, partitioning=None).slice(0, 0), file)
    with pytest.raises(UnreadableSource, match="transactions has no transaction: generate or import"):
        checked_log(session, Location(str(tmp_path / "transactions")))


@needs_spark
def test_rows_that_were_lost_between_check_and_reading_are_missed(
    tmp_path: Path, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reads_one(number: int, part: DealtPart) -> Iterator[Any]:
        if number == 1:
            yield from (batch for table in part.tables() for batch in table.to_batches())

    write_lake(tmp_path, FEW)
    monkeypatch.setattr("training.spark_log._read", reads_one)
    with pytest.raises(UnreadableSource, match=f"transactions gave [1-9][0-9]* rows after {len(FEW)} were checked"):
        checked_log(session, Location(str(tmp_path / "transactions")))


@needs_spark
def test_result_with_a_row_less_or_more_is_refused(lake: Path, session: Any) -> None:
    log = checked_log(session, Location(str(lake / "transactions")))
    assert log.rows > len(PAYMENTS)
    require_every_row(log, "device", len(PAYMENTS))
    for found in (len(PAYMENTS) - 1, len(PAYMENTS) + 1, log.rows):
        with pytest.raises(IncompleteTrainingSet, match=f"{len(PAYMENTS)} transactions have {found} rows of device"):
            require_every_row(log, "device", found)


@needs_spark
def test_command_says_a_refusal_in_one_sentence_and_ends_with_one(tmp_path: Path) -> None:
    write_lake(tmp_path / "lake", FEW)
    damage, said = DAMAGES["a torn file"]
    damage(tmp_path / "lake")
    root = Path(__file__).parents[2]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path]), "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, str(root / "training" / "spark_job.py"), *words(tmp_path / "lake", tmp_path / "o")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    last = [line for line in done.stderr.splitlines() if line.startswith("velocity: ")]
    assert done.returncode == 1, done.stderr
    assert len(last) == 1
    assert said in last[0]
    assert last[0].endswith("(unreadable_source)")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


@needs_spark
def test_payments_without_a_device_are_dealt_among_all_parts(lake: Path, tmp_path: Path, session: Any) -> None:
    from pyspark.sql import functions as sql

    log = checked_log(session, Location(str(lake / "transactions")))
    frame = velocity_frame(log, "device", parts=4).select("transaction_id", sql.spark_partition_id().alias("part"))
    without = {payment.transaction_id for payment in PAYMENTS if payment.device_id is None}
    frame.write.parquet(str(tmp_path / "dealt"))
    dealt = pq.read_table(tmp_path / "dealt").to_pylist()
    found = [row["part"] for row in dealt if row["transaction_id"] in without]
    assert len(found) == len(without) > 100
    assert all(found.count(part) > len(without) // 8 for part in range(4))
