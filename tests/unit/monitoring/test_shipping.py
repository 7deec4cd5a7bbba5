import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from fraud.decision_table import COLUMNS
from monitoring.__main__ import app, main
from monitoring.errors import UnreadableDecisionLog
from monitoring.shipping import SCHEMA, BucketTarget, FolderTarget, ship
from serving.decisions import DecisionLog
from serving.metrics import Metrics
from tests.support.decisions import made
from tests.support.emulators import REGION, aws_client, start_moto


def write_log(folder: Path, count: int = 130) -> DecisionLog:
    log = DecisionLog(folder, metrics=Metrics())
    log.start()
    for number in range(count):
        log.append(made(number))
    log.flush()
    return log


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_line_becomes_one_row_in_the_hour_it_was_decided(tmp_path: Path) -> None:
    write_log(tmp_path / "log").close()
    done = ship(tmp_path / "log", FolderTarget(tmp_path / "lake"))
    assert (done.logs, done.rows) == (1, 130)
    table = pq.read_table(tmp_path / "lake")
    rows = {row["decision_id"]: row for row in table.to_pylist()}
    assert len(rows) == table.num_rows == 130
    for number in (0, 7, 129):
        row, logged = rows[f"d{number}"], made(number)
        vector = np.array([np.nan if value is None else value for value in row["vector"]])
        assert np.array_equal(vector, logged.vector, equal_nan=True)
        assert (row["score"], row["decided_at_ms"]) == (logged.decision.score, logged.decided_at_ms)
        assert row["transaction"]["amount_minor"] == logged.transaction.amount_minor
        assert dict(row["revisions"]) == {"card": 3}
        assert list(dict(row["times_ms"])) == ["card_velocity"]  # what was never written is absent
        assert [reason["code"] for reason in row["reasons"]] == (["velocity"] if number % 3 == 0 else [])
    assert done.files == len(list((tmp_path / "lake").rglob("*.parquet"))) == 3
    assert SCHEMA.names == [column.name for column in COLUMNS]
    files = sorted(str(path.parent.relative_to(tmp_path / "lake")) for path in (tmp_path / "lake").rglob("*.parquet"))
    assert files == [f"dt=2026-02-02/hour={hour:02}" for hour in (2, 3, 4)]


def test_shipping_again_changes_nothing_and_a_lost_mark_gives_the_same_bytes(tmp_path: Path) -> None:
    write_log(tmp_path / "log").close()
    target = FolderTarget(tmp_path / "lake")
    ship(tmp_path / "log", target)
    before = contents(tmp_path / "lake")
    assert ship(tmp_path / "log", target).before == 1
    for mark in (tmp_path / "log" / ".shipped").iterdir():
        mark.unlink()
    again = ship(tmp_path / "log", target)
    assert (again.logs, again.rows) == (1, 130)
    assert contents(tmp_path / "lake") == before


def test_a_log_that_is_being_written_is_left_alone_until_it_is_closed(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log")
    target = FolderTarget(tmp_path / "lake")
    first = ship(tmp_path / "log", target, delete=True)
    assert (first.being_written, first.logs) == (1, 0)
    assert len(list((tmp_path / "log").glob("*.jsonl"))) == 1
    log.close()
    assert ship(tmp_path / "log", target, delete=True).rows == 130
    assert list((tmp_path / "log").rglob("*.jsonl")) == []


def test_a_line_that_is_no_decision_is_named_and_the_log_stays(tmp_path: Path) -> None:
    write_log(tmp_path / "log", 3).close()
    (path,) = (tmp_path / "log").glob("*.jsonl")
    for bad in (b"{torn\n", b"{}\n", b'{"decision_id":"d","decided_at_ms":1,"vector":"AAA="}\n'):
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]) + bad)
        with pytest.raises(UnreadableDecisionLog, match="line 4 is no decision"):
            ship(tmp_path / "log", FolderTarget(tmp_path / "lake"), delete=True)
        assert path.exists()
        assert not (tmp_path / "lake").exists()


def test_logs_are_shipped_to_a_bucket_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(tmp_path / "log").close()
    with start_moto() as endpoint, aws_client("s3", endpoint) as s3:
        s3.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": REGION})
        ship(tmp_path / "log", BucketTarget(s3, "lake", "decisions/"))
        ship(tmp_path / "log", FolderTarget(tmp_path / "lake"))
        found = {item["Key"]: item["Size"] for item in s3.list_objects_v2(Bucket="lake")["Contents"]}
        for name, value in (("ENDPOINT", endpoint), ("REGION", REGION)):
            monkeypatch.setenv(f"TOLLGATE_{'AWS_' if name == 'ENDPOINT' else ''}{name}", value)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        arguments = [
            "ship",
            "--decisions",
            str(tmp_path / "log"),
            "--to",
            "s3://lake/decisions",
            "--delete",
            "--json",
            "-",
        ]
        said = CliRunner().invoke(app, arguments)
        assert said.exit_code == 0, said.output
        assert json.loads(said.stdout.strip().splitlines()[-1])["before"] == 1
    assert len(found) == 3
    assert all(key.startswith("decisions/dt=2026-02-02/hour=0") for key in found)
    assert list((tmp_path / "log").glob("*.jsonl")) == []


@pytest.mark.parametrize("options", [("--to", "/proc/x"), ("--to", "{lake}", "--json", "/proc/x/y.json")])
def test_place_that_cannot_be_written_is_said_in_one_sentence(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "log").close()
    words = [word.format(lake=tmp_path / "lake") for word in options]
    monkeypatch.setattr("sys.argv", ["monitoring", "ship", "--decisions", str(tmp_path / "log"), *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == "monitoring: /proc/x: No such file or directory"


def test_figures_of_shipping_go_to_a_file_beside_the_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "log").close()
    words = ["--decisions", str(tmp_path / "log"), "--to", str(tmp_path / "lake"), "--json", str(tmp_path / "f.json")]
    monkeypatch.setattr("sys.argv", ["monitoring", "ship", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["files"] > 0
    assert f"{figures['rows']:,} decisions" in capsys.readouterr().out
