"""``python -m monitoring`` as its user meets it: real stream process, real Valkey, Feast's own command."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud.features import FEATURE_NAMES
from fraud.settings import Settings
from fraud.windows import ENTITIES
from monitoring.certificate import certify_deployment
from monitoring.deliveries import Turbulence, deliveries_of
from monitoring.errors import NothingToCompare, ProcessFailed
from monitoring.processes import feed
from tests.support.emulators import free_port
from tests.support.lakes import random_payments, some_reports, write_lake
from tests.support.rehearsals import served_from_memory
from training.dataset import read_log

ROOT = Path(__file__).parents[2]
END = 2**42


def monitor(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "monitoring", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prove") / "lake"
    payments = random_payments(12, 600)
    write_lake(folder, payments, some_reports(payments, 12))
    return folder


def test_prove_holds_over_a_lake(lake: Path, tmp_path: Path) -> None:
    done = monitor("prove", "--lake", str(lake), "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["passed"]
    assert data["transactions"] == 600
    assert data["kernel_against_feast"] == {"rows": 600, "mismatches": 0}
    assert data["leaks"]["leaks"] == []
    assert data["leaks"]["probes"] >= 3
    found = data["parity"]
    assert (found["compared"], found["mismatched"], found["mismatches"]) == (600, 0, {})
    assert 0 < found["current"] < 600
    stream = found["stream"]
    assert stream["applied"] == stream["distinct"]
    assert stream["records"] == stream["applied"] + stream["repeated"] + stream["too_late"]
    assert stream["repeated"] > 0
    assert (stream["lost"], stream["doubled"], stream["dead_lettered"]) == (0, 0, 0)
    assert stream["profile_rows"] > 0
    assert "proven" in done.stdout
    assert not (lake / "profiles").exists()


def test_unknown_proof_is_refused() -> None:
    done = monitor("prove", "--only", "luck")
    assert done.returncode == 2
    assert "luck" in done.stderr


def write_deployment(lake: Path, folder: Path, *, drained: bool = True) -> tuple[Path, Path]:
    """Write what a scorer and a worker would have left: decisions and the log of applied changes."""
    log, labels = read_log(lake, 0, END), pq.read_table(lake / "labels.parquet")
    served, applied = served_from_memory(log, labels, seed=2, drained=drained)
    (folder / "decisions").mkdir(parents=True)
    (folder / "applied" / "changes").mkdir(parents=True)
    pq.write_table(applied, folder / "applied" / "changes" / "part-00000000.parquet")
    times = (log["event_timestamp"].cast(pa.int64()).to_numpy() // 1000).tolist()
    lines = []
    for place, name in enumerate(log["transaction_id"].to_pylist()):
        revisions = {entity: int(served.revisions[entity][place]) for entity in ENTITIES}
        lines.append(
            {
                "decision_id": f"d{place}",
                "outcome": "approve",
                "score": 0.01,
                "vector": base64.b64encode(served.vectors[place].astype("<f8").tobytes()).decode(),
                "revisions": {entity: None if held < 0 else held for entity, held in revisions.items()},
                "missing": [],
                "transaction": {"transaction_id": name, "event_time_ms": times[place]},
            }
        )
    write_lines(folder / "decisions" / "part.jsonl", lines)
    return folder / "decisions", folder / "applied"


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_running_deployment_is_certified(lake: Path, tmp_path: Path) -> None:
    decisions, applied = write_deployment(lake, tmp_path)
    where = ["--decisions", str(decisions), "--applied", str(applied), "--lake", str(lake)]
    done = monitor("parity", *where, "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads((tmp_path / "out.json").read_text())
    assert (data["compared"], data["mismatched"], data["unlogged"], data["never_applied"]) == (600, 0, 0, 0)
    assert data["behind"] > 0


def test_changes_that_no_state_took_are_counted(lake: Path, tmp_path: Path) -> None:
    decisions, applied = write_deployment(lake, tmp_path)
    path = applied / "changes" / "part-00000000.parquet"
    table = pq.read_table(path)
    merchants = [
        n for n, row in enumerate(table.to_pylist()) if (row["entity"], row["kind"]) == ("merchant", "transaction")
    ]
    pq.write_table(table.take([n for n in range(table.num_rows) if n not in merchants[5:12]]), path)
    assert certify_deployment(lake, decisions, applied).never_applied == 7


def test_stream_that_is_behind_the_lake_is_certified_when_told_since_when(lake: Path, tmp_path: Path) -> None:
    decisions, applied = write_deployment(lake, tmp_path, drained=False)
    where = ["--decisions", str(decisions), "--applied", str(applied), "--lake", str(lake)]
    assert monitor("parity", *where).returncode == 1
    done = monitor("parity", *where, "--streamed-since", "2020-01-01")
    assert done.returncode == 0, done.stdout + done.stderr


def test_decision_of_an_outage_is_counted_and_not_called_a_mismatch(lake: Path, tmp_path: Path) -> None:
    decisions, applied = write_deployment(lake, tmp_path)
    path = decisions / "part.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    nothing = np.full(len(FEATURE_NAMES), np.nan)
    lines[300] |= {"vector": base64.b64encode(nothing.tobytes()).decode(), "missing": ["card_velocity"]}
    write_lines(path, lines)
    found = certify_deployment(lake, decisions, applied)
    assert (found.compared, found.mismatched, found.degraded) == (599, 0, 1)
    write_lines(path, [line | {"missing": ["card_velocity"]} for line in lines])
    with pytest.raises(NothingToCompare, match="all 600 decisions"):
        certify_deployment(lake, decisions, applied)


def test_wrong_vector_and_unlogged_decision_are_told(lake: Path, tmp_path: Path) -> None:
    decisions, applied = write_deployment(lake, tmp_path)
    path = decisions / "part.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    vector = bytearray(base64.b64decode(lines[300]["vector"]))
    vector[8 * FEATURE_NAMES.index("card_amount_sum_24h")] ^= 1
    lines[300]["vector"] = base64.b64encode(bytes(vector)).decode()
    lines[301]["transaction"]["transaction_id"] = "unheard-of"
    write_lines(path, lines)
    where = ["--decisions", str(decisions), "--applied", str(applied), "--lake", str(lake)]
    done = monitor("parity", *where, "--json", str(tmp_path / "out.json"))
    assert done.returncode == 1, done.stderr
    data = json.loads((tmp_path / "out.json").read_text())
    assert (data["compared"], data["mismatched"], data["unlogged"]) == (599, 1, 1)
    assert list(data["mismatches"]) == ["card_amount_sum_24h"]
    assert "card_amount_sum_24h" in done.stdout


def test_store_that_is_down_ends_the_rehearsal_with_its_reason(tmp_path: Path) -> None:
    payments = random_payments(1, 1)
    write_lake(tmp_path / "lake", payments)
    stream = deliveries_of(read_log(tmp_path / "lake", 0, END), None, seed=1, turbulence=Turbulence())
    batch = stream.batch(0, len(stream.row))
    with pytest.raises(ProcessFailed, match="store_unavailable"):
        _answer_of(tmp_path / "applied", batch)


def _answer_of(applied: Path, batch: list[tuple[bytes, str, str, int]]) -> None:
    with feed(applied, Settings(redis_port=free_port())) as running:
        running.send(batch)
        running.answer()
