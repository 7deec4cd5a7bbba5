"""The log of what was applied, across kills."""

import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fraud.errors import StoreUnavailable
from streaming.applied import Change, ChangeLog
from streaming.folders import DiskFolder


def change(number: int, revision: int | None = None) -> Change:
    return Change(
        "card", "c1", number if revision is None else revision, "transaction", f"t{number}", 1_000 + number, 2_000
    )


def rows(directory: Path) -> list[tuple[str, int, int]]:
    """Transaction id, revision and visible time of every row, in order of the parts."""
    out: list[tuple[str, int, int]] = []
    for path in sorted(directory.glob("changes/part-*.parquet")):
        table = pq.read_table(path).to_pylist()
        out += [(row["transaction_id"], row["revision_after"], row["visible_ms"]) for row in table]
    return out


def test_settled_changes_are_written_once(tmp_path: Path) -> None:
    log = ChangeLog(DiskFolder(tmp_path), tmp_path / "journal")
    for number in (1, 2):
        log.intend([change(number)])
        log.settle([change(number)], 5_000 + number)
        assert log.flush() == 1
    assert log.flush() == 0
    assert rows(tmp_path) == [("t1", 1, 5_001), ("t2", 2, 5_002)]


def test_row_lost_in_a_kill_comes_back_when_the_record_is_repeated(tmp_path: Path) -> None:
    first = ChangeLog(DiskFolder(tmp_path), tmp_path / "journal")
    first.intend([change(1), change(2)])
    first.settle([change(1)], 5_000)  # the buffer dies with the process, before any flush
    second = ChangeLog(DiskFolder(tmp_path), tmp_path / "journal")
    second.recover([change(1, revision=9), change(2, revision=9), change(3, revision=9)], 6_000)
    second.flush()
    assert rows(tmp_path) == [("t1", 1, 6_000), ("t2", 2, 6_000)]


def test_flushed_row_does_not_come_back(tmp_path: Path) -> None:
    first = ChangeLog(DiskFolder(tmp_path), tmp_path / "journal")
    first.intend([change(1)])
    first.settle([change(1)], 5_000)
    journal = {path.name: path.read_bytes() for path in (tmp_path / "journal").iterdir()}
    first.flush()
    for name, data in journal.items():  # killed after the part was written, before the journal was dropped
        (tmp_path / "journal" / name).write_bytes(data)
    second = ChangeLog(DiskFolder(tmp_path), tmp_path / "journal")
    second.recover([change(1, revision=9)], 6_000)
    assert second.flush() == 0
    assert rows(tmp_path) == [("t1", 1, 5_000)]


def test_row_intended_while_a_part_was_written_survives_a_kill_right_after(tmp_path: Path) -> None:
    first = ChangeLog(DiskFolder(tmp_path), tmp_path / "journal")
    first.intend([change(1)])
    first.settle([change(1)], 5_000)
    first.intend([change(2)])
    journal = {path.name: path.read_bytes() for path in (tmp_path / "journal").iterdir()}
    first.flush()
    for path in (tmp_path / "journal").iterdir():
        path.unlink()
    for name, data in journal.items():  # killed after the part was written, before the next journal was begun
        (tmp_path / "journal" / name).write_bytes(data)
    second = ChangeLog(DiskFolder(tmp_path), tmp_path / "journal")
    second.recover([change(1, revision=9), change(2, revision=9)], 6_000)
    second.flush()
    assert rows(tmp_path) == [("t1", 1, 5_000), ("t2", 2, 6_000)]


def test_open_intention_survives_flushes_and_two_kills(tmp_path: Path) -> None:
    log = ChangeLog(DiskFolder(tmp_path), tmp_path / "journal")
    log.intend([change(1), change(2)])
    log.settle([change(2)], 5_000)
    log.flush()
    for _ in range(2):
        log = ChangeLog(DiskFolder(tmp_path), tmp_path / "journal")
    log.recover([change(1, revision=9)], 6_000)
    log.flush()
    assert rows(tmp_path) == [("t2", 2, 5_000), ("t1", 1, 6_000)]


def test_torn_end_of_the_journal_is_ignored(tmp_path: Path) -> None:
    log = ChangeLog(DiskFolder(tmp_path), tmp_path / "journal")
    log.intend([change(1)])
    log.intend([change(2)])
    (path,) = (tmp_path / "journal").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    log = ChangeLog(DiskFolder(tmp_path), tmp_path / "journal")
    log.recover([change(1), change(2)], 6_000)
    log.flush()
    assert rows(tmp_path) == [("t1", 1, 6_000)]


def test_what_one_thread_left_open_another_recovers(tmp_path: Path) -> None:
    log = ChangeLog(DiskFolder(tmp_path))
    first = threading.Thread(target=log.intend, args=([change(1), change(2)],))  # its store took both and fell silent
    first.start()
    first.join()
    log.recover([change(1, revision=9), change(2, revision=9), change(3)], 6_000)
    log.flush()
    assert rows(tmp_path) == [("t1", 1, 6_000), ("t2", 2, 6_000)]


def test_what_the_store_took_in_part_is_settled_in_part(tmp_path: Path) -> None:
    log = ChangeLog(DiskFolder(tmp_path))
    some = [change(1), change(2)]
    log.intend(some)
    log.withdraw(some[:1])
    log.settle(some[1:], 5_000)
    log.recover(some, 6_000)
    log.flush()
    assert rows(tmp_path) == [("t2", 2, 5_000)]


def test_withdrawn_change_is_not_recovered(tmp_path: Path) -> None:
    log = ChangeLog(DiskFolder(tmp_path))
    log.intend([change(1)])
    log.withdraw([change(1)])
    log.recover([change(1)], 6_000)
    assert log.flush() == 0


def test_rows_stay_buffered_while_the_folder_refuses(tmp_path: Path) -> None:
    blocked = tmp_path / "changes"
    blocked.write_text("a file where a directory should be")
    log = ChangeLog(DiskFolder(tmp_path))
    log.settle([change(1)], 5_000)
    with pytest.raises(StoreUnavailable):
        log.flush()
    blocked.unlink()
    assert log.flush() == 1
    assert rows(tmp_path) == [("t1", 1, 5_000)]
