"""Whatever the stream did, what was served is what the log says; whatever the store did wrong is found and named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud.features import FEATURE_NAMES
from fraud.record import Record
from monitoring.certificate import as_data, certify, losses, merged, read_applied
from monitoring.errors import NothingToCompare, UnreadableAppliedLog
from monitoring.parity import Parity, Served
from tests.support.lakes import random_payments, some_reports, write_lake
from tests.support.rehearsals import served_from_memory
from training.dataset import read_log

END = 2**42
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module", params=SEEDS)
def lake(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificate")
    payments = random_payments(request.param, 500)
    write_lake(folder, payments, some_reports(payments, request.param))
    return folder


def log_of(lake: Path) -> tuple[pa.Table, pa.Table]:
    return read_log(lake, 0, END), pq.read_table(lake / "labels.parquet")


def test_turbulent_stream_is_served_as_the_log_says(lake: Path) -> None:
    log, labels = log_of(lake)
    served, applied = served_from_memory(log, labels, seed=11)
    found = certify(lake, log, served, applied, streamed=None)
    assert found.compared == log.num_rows
    assert found.mismatched == 0
    assert found.by_feature == {}
    assert 0 < found.current < log.num_rows
    assert 0 < found.behind <= log.num_rows - found.current


def test_reports_were_part_of_it(lake: Path) -> None:
    log, labels = log_of(lake)
    served, applied = served_from_memory(log, labels, seed=11)
    assert "report" in set(applied["kind"].to_pylist())
    assert np.nanmax(served.vectors[:, FEATURE_NAMES.index("merchant_report_count_30d")]) > 0


def test_lost_update_is_found_and_named(lake: Path) -> None:
    log, labels = log_of(lake)

    def forgets_devices(record: Record) -> bool:
        return not (record.entity == "device" and record.kind == "transaction" and record.key == "d1")

    served, applied = served_from_memory(log, labels, seed=11, takes=forgets_devices)
    found = certify(lake, log, served, applied, streamed=None)
    assert found.mismatched > 0
    assert found.by_feature["device_transaction_count_30d"] > 0
    assert found.worst["device_transaction_count_30d"] is not None
    assert all(name.startswith("device_") for name in found.by_feature)


def test_one_flipped_bit_is_found(lake: Path) -> None:
    log, labels = log_of(lake)
    served, applied = served_from_memory(log, labels, seed=11)
    vectors = served.vectors.copy()
    column = FEATURE_NAMES.index("card_amount_sum_7d")
    vectors[137, column] = np.nextafter(vectors[137, column], np.inf)
    found = certify(lake, log, Served(vectors, served.revisions), applied, streamed=None)
    assert found.mismatched == 1
    assert found.by_feature == {"card_amount_sum_7d": 1}


def test_revision_that_claims_more_than_it_held_is_found(lake: Path) -> None:
    log, labels = log_of(lake)
    served, applied = served_from_memory(log, labels, seed=11)
    boasting = {entity: np.full_like(column, 10**6) for entity, column in served.revisions.items()}
    found = certify(lake, log, Served(served.vectors, boasting), applied, streamed=None)
    assert found.mismatched > 0


def test_comparing_in_parts_changes_nothing(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, labels = log_of(lake)
    served, applied = served_from_memory(log, labels, seed=11)
    whole = certify(lake, log, served, applied, streamed=None)
    monkeypatch.setattr("monitoring.certificate.PART", 60)
    assert certify(lake, log, served, applied, streamed=None) == whole


def test_missing_and_doubled_changes_are_counted(lake: Path) -> None:
    log, labels = log_of(lake)
    _, applied = served_from_memory(log, labels, seed=11)
    rows = applied.num_rows
    assert (losses(applied, expected=rows).lost, losses(applied, expected=rows).doubled) == (0, 0)
    doubled = pa.concat_tables([applied.slice(3), applied.slice(5, 2)])
    assert (losses(doubled, expected=rows).lost, losses(doubled, expected=rows).doubled) == (3, 2)


def test_nothing_served_is_an_error(lake: Path) -> None:
    log, labels = log_of(lake)
    served, applied = served_from_memory(log, labels, seed=11)
    with pytest.raises(NothingToCompare):
        certify(lake, log.slice(0, 0), served, applied, streamed=None)


def test_folder_without_a_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableAppliedLog, match="nowhere"):
        read_applied(tmp_path / "nowhere")


def test_parts_are_added_and_the_worst_stays() -> None:
    one = Parity(10, 2, {"a": 2}, 3, {"a": 0.5}, current=7)
    other = Parity(5, 1, {"a": 1, "b": 1}, 0, {"a": None, "b": None}, current=5, unlogged=1)
    found = merged([one, other])
    assert found == Parity(15, 3, {"a": 3, "b": 1}, 3, {"a": 0.5, "b": None}, current=12, unlogged=1)
    assert as_data(replace(found, by_feature={"a": 3}))["mismatches"] == {"a": {"count": 3, "share": 0.2, "worst": 0.5}}
