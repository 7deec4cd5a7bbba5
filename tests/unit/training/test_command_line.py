"""What commands train on is proven when it is gathered, and says that it was."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud.features import FEATURE_NAMES
from stores.as_known import AsKnown
from tests.support.feast_lakes import MIDDLE_MS, PAYMENTS, REPO, FeastLake
from tests.support.lakes import DAY_MS
from training import dataset_files
from training.command_line import gather
from training.errors import LeakingTrainingSet
from training.offline_vectors import FloatArray, history_vectors
from training.transaction_log import day_text

pytestmark = pytest.mark.filterwarnings("ignore")
SPAN: dict[str, Any] = {"start_ms": MIDDLE_MS - 9 * DAY_MS, "end_ms": MIDDLE_MS, "as_of_ms": MIDDLE_MS}


def test_gathered_rows_are_proven_and_hold_the_proof(filled: FeastLake, capsys: pytest.CaptureFixture[str]) -> None:
    rows, _ = gather(filled.folder, REPO, **SPAN)
    assert rows.leak_audit is not None
    assert (rows.leak_audit["passed"], rows.leak_audit["leaks"]) == (True, [])
    assert rows.leak_audit["rows_compared"] == len(rows.is_fraud) > 100
    said = capsys.readouterr().err
    assert f"leak audit passed: {rows.leak_audit['probes']} rows audited, {len(rows.is_fraud)} equal the path" in said
    assert "note:" not in said


def test_a_leak_stops_what_would_train_on_it_unless_somebody_else_looks(
    filled: FeastLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaking(lake: Path, rows: pa.Table, as_known: AsKnown | None = None) -> FloatArray:
        found = history_vectors(lake, rows, as_known)
        last = pq.read_table(lake / "transactions", partitioning=None).to_pandas().groupby("card_id")["amount_minor"]
        found[:, FEATURE_NAMES.index("card_amount_max_30d")] = last.max().reindex(rows["card_id"].to_pylist())
        return found

    monkeypatch.setattr(dataset_files, "history_vectors", leaking)
    monkeypatch.setattr(dataset_files, "_COMPARED", 0)
    with pytest.raises(LeakingTrainingSet, match="card_amount_max_30d of transaction"):
        gather(filled.folder, REPO, **SPAN)
    rows, _ = gather(filled.folder, REPO, **SPAN, prove=False)
    assert rows.leak_audit is None


def test_days_before_the_log_are_said(filled: FeastLake, capsys: pytest.CaptureFixture[str]) -> None:
    first = min(day_text(p.event_time_ms) for p in PAYMENTS)
    gather(filled.folder, REPO, **SPAN | {"start_ms": MIDDLE_MS - 40 * DAY_MS}, prove=False)
    assert f"note: the log begins {first}; of the days from " in capsys.readouterr().err
