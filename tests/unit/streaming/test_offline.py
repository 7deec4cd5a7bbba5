"""The offline log: every transaction once, in its day, in the schema of the transaction log."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fraud.velocity import transaction_change, update
from fraud.windows import ENTITIES
from streaming.folders import DiskFolder, FolderBusy
from streaming.offline import TRANSACTION_LOG, TransactionLog, compact
from tests.support.payments import START, payment, payments

DAY = 86_400_000
ROOT = Path(__file__).parents[3]


def rows(directory: Path, day_ms: int) -> list[dict[str, object]]:
    day = f"{datetime.fromtimestamp(day_ms / 1000, UTC):%Y-%m-%d}"
    table = pq.ParquetFile(directory / "transactions" / f"dt={day}" / "part-0.parquet").read()
    assert table.schema.equals(TRANSACTION_LOG)
    return list(table.to_pylist())


def test_repeated_landings_leave_each_transaction_once(tmp_path: Path) -> None:
    some = payments(200)
    folder = DiskFolder(tmp_path)
    for name in ("first", "second"):
        log = TransactionLog(folder)
        log.accept((item, item.event_time_ms + 30) for item in reversed(some))
        log.flush(name)
        assert compact(folder) == 200
    found = rows(tmp_path, START)
    assert [row["transaction_id"] for row in found] == [
        item.transaction_id for item in sorted(some, key=lambda t: (t.event_time_ms, t.transaction_id))
    ]
    assert folder.names("landing/part-") == []


def test_days_are_those_of_the_event_in_utc(tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path)
    log = TransactionLog(folder)
    log.accept([(payment(1, time_ms=START), START), (payment(2, time_ms=START + DAY), START + DAY)])
    log.flush("x")
    compact(folder)
    assert [row["transaction_id"] for row in rows(tmp_path, START)] == ["t000001"]
    assert [row["transaction_id"] for row in rows(tmp_path, START + DAY)] == ["t000002"]


def test_earliest_arrival_and_last_known_answer_win(tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path)
    log = TransactionLog(folder)
    told = [(None, 30), (False, 90), (None, 120)]
    log.accept((payment(1, time_ms=START, authorised=answer), START + after) for answer, after in told)
    log.flush("x")
    assert compact(folder) == 1
    (row,) = rows(tmp_path, START)
    assert row["authorised"] is False
    assert row["created_timestamp"] == datetime.fromtimestamp((START + 30) / 1000, UTC)


def test_id_that_comes_with_another_time_is_another_transaction_in_the_log_as_in_the_states(tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path)
    both = [payment(1, time_ms=START), payment(1, time_ms=START + 5_000)]
    log = TransactionLog(folder)
    log.accept((item, START + 9_000) for item in [*both, *both])
    log.flush("x")
    assert compact(folder) == 2
    assert len({row["event_timestamp"] for row in rows(tmp_path, START)}) == 2
    for entity in ENTITIES:
        changes = np.concatenate([transaction_change(entity, item) for item in [*both, *both]])
        assert update(entity, b"", changes)[1] == 2


def test_one_compaction_at_a_time(tmp_path: Path) -> None:
    folder, other = DiskFolder(tmp_path), DiskFolder(tmp_path)
    log = TransactionLog(folder)
    log.accept((item, item.event_time_ms) for item in payments(20))
    log.flush("x")
    with other.locked("landing/lock"), pytest.raises(FolderBusy, match="run the command again"):
        compact(folder)
    assert compact(folder) == 20
    assert compact(folder) == 0


def test_compaction_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    script = "from pathlib import Path; from streaming.folders import DiskFolder; import os, sys\n"
    script += "with DiskFolder(Path(sys.argv[1])).locked('landing/lock'): os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, cwd=ROOT)
    assert done.returncode == -9
    assert compact(DiskFolder(tmp_path)) == 0


def test_arrival_is_never_before_the_event(tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path)
    log = TransactionLog(folder)
    log.accept([(payment(1, time_ms=START + 5), START)])
    log.flush("x")
    compact(folder)
    (row,) = rows(tmp_path, START)
    assert row["created_timestamp"] == row["event_timestamp"] == datetime.fromtimestamp((START + 5) / 1000, UTC)


def test_compacting_again_after_a_kill_before_the_removal_changes_nothing(tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path)
    log = TransactionLog(folder)
    log.accept((item, item.event_time_ms) for item in payments(50))
    log.flush("x")
    (name,) = folder.names("landing/")
    landed = folder.get(name)
    compact(folder)
    before = rows(tmp_path, START)
    folder.put(name, landed)
    compact(folder)
    assert rows(tmp_path, START) == before
