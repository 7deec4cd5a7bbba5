"""A decision log read back: lines and Parquet alike, and what holds no decision counted."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from fraud.bundle import open_bundle
from fraud.decision_table import logged_fields, table_row
from fraud.features import FEATURE_NAMES
from fraud.vector_names import layout_of
from monitoring.shipping import FolderTarget, ship
from serving.decisions import DecisionLog, LoggedDecision, Made
from serving.log_reading import UnreadableLog, read_log
from serving.metrics import Metrics
from serving.rescore import rescore
from tests.support.bundles import bundle_files, resealed
from tests.support.decisions import made
from tests.support.scorers import payment

BUNDLE = open_bundle(bundle_files())


def scored(number: int) -> Made:
    """Return a decision of the bundle: one in three has no device, and all have something missing."""
    one = made(number)
    score = BUNDLE.score(one.vector)
    outcome = BUNDLE.policy.outcome(score)
    decision = replace(one.decision, score=score, outcome=outcome, model_version=BUNDLE.version, scored_outcome=outcome)
    transaction = payment(number, **({"device_id": None, "latitude": None} if number % 3 == 0 else {}))
    return msgspec.structs.replace(one, decision=decision, transaction=transaction)


def write_log(folder: Path, decisions: list[Made]) -> Path:
    log = DecisionLog(folder, metrics=Metrics())
    log.start()
    for one in decisions:
        log.append(one)
    log.close()
    return folder


def as_table(tmp_path: Path, decisions: list[Made]) -> Path:
    """Return a folder of Parquet files by day and hour, as the delivery stream leaves them."""
    ship(write_log(tmp_path / "lines", decisions), FolderTarget(tmp_path / "table"))
    return tmp_path / "table"


def test_a_table_gives_the_very_decisions_that_the_lines_do(tmp_path: Path) -> None:
    table = as_table(tmp_path, [scored(number) for number in range(130)])
    assert len(list(table.rglob("*.parquet"))) == 3
    lines = {line.decision_id: line for line in read_log(tmp_path / "lines") if line is not None}
    rows = {line.decision_id: line for line in read_log(table) if line is not None}
    assert len(rows) == 130
    for key, line in lines.items():
        row, written = rows[key], {view: time for view, time in line.times_ms.items() if time is not None}
        assert msgspec.structs.replace(line, times_ms=written, vector=b"") == msgspec.structs.replace(row, vector=b"")
        ours, theirs = np.frombuffer(line.vector, "<f8"), np.frombuffer(row.vector, "<f8")
        assert np.isnan(ours).any()
        assert np.array_equal(ours, theirs, equal_nan=True)


def test_decisions_of_a_table_are_made_again_bit_for_bit(tmp_path: Path) -> None:
    table = as_table(tmp_path, [scored(number) for number in range(130)])
    found = rescore(read_log(table), {BUNDLE.version: BUNDLE})
    assert (found.compared, found.different, found.unreadable, found.other_model) == (130, 0, 0, 0)


def test_a_file_is_a_table_by_what_it_holds_whatever_its_name_is(tmp_path: Path) -> None:
    table = as_table(tmp_path, [scored(number) for number in range(3)])
    (path,) = table.rglob("*.parquet")
    path.rename(path.with_name("tollgate-prod-decisions-1-2026-02-02-02-40-00"))
    (table / "_SUCCESS").touch()
    assert sum(1 for _ in read_log(table)) == 3


def test_one_decision_is_found_without_decoding_the_files_that_do_not_hold_it(tmp_path: Path) -> None:
    table = as_table(tmp_path, [scored(number) for number in range(130)])
    found = [line for line in read_log(table, decision_id="d129") if line is not None]
    assert "d129" in {line.decision_id for line in found}
    assert len(found) < 130
    assert not {line.decision_id for line in found} & {"d0", "d60"}


def test_a_torn_table_and_a_row_that_is_no_decision_are_counted_and_cost_no_other(tmp_path: Path) -> None:
    table = as_table(tmp_path, [scored(number) for number in range(130)])
    first, second, third = sorted(table.rglob("*.parquet"))
    first.write_bytes(first.read_bytes()[:200])
    held = pq.read_table(second)
    nothing = held.slice(0, 1).to_pylist()[0] | {"outcome": "perhaps"}
    pq.write_table(held.from_pylist([nothing], schema=held.schema), second)
    lines = list(read_log(table))
    assert lines.count(None) == 2
    assert len(lines) == 2 + pq.read_metadata(third).num_rows


def test_without_pyarrow_a_table_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = as_table(tmp_path, [scored(1)])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnreadableLog, match=r"install tollgate\[streaming\]"):
        next(read_log(table))
    assert sum(1 for _ in read_log(tmp_path / "lines")) == 1


def test_a_row_and_its_line_say_the_same_of_every_kind_of_value() -> None:
    line = msgspec.to_builtins(
        LoggedDecision(
            decision_id="d",
            decided_at_ms=1,
            latency_ms=0.5,
            outcome="review",
            score=0.5,
            reasons=(),
            model_version="m",
            policy_version="p",
            missing=("card_velocity",),
            stale=(),
            revisions={"card": 3},
            times_ms={"card_velocity": 5, "merchant_velocity": None},
            transaction=payment(1, device_id=None),
            features="f",
            vector=np.array([1.5, math.nan]).tobytes(),
        )
    )
    fields = logged_fields(table_row(line))
    assert (fields["revisions"], fields["times_ms"]) == ({"card": 3}, {"card_velocity": 5})
    assert fields["transaction"] == {key: value for key, value in line["transaction"].items() if value is not None}
    assert "scored_outcome" not in fields
    assert np.array_equal(np.frombuffer(fields["vector"]), [1.5, math.nan], equal_nan=True)


def test_a_decision_stays_readable_after_the_features_of_the_code_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scorer's code computes other features than when the bundle was packed; the code that reads, others again."""
    names = ("a_feature_that_is_gone", *FEATURE_NAMES[:120])
    contract = msgspec.json.encode({"features": FEATURE_NAMES[:100], "vector": names})
    bundle = open_bundle(resealed(bundle_files(features=FEATURE_NAMES[:100]), contract=contract))
    assert bundle.vector == names
    decisions = []
    for number in range(20):
        one = made(number)
        score = bundle.score(one.vector[:100])
        outcome = bundle.policy.outcome(score)
        decision = replace(one.decision, score=score, outcome=outcome, model_version=bundle.version)
        decisions.append(msgspec.structs.replace(one, decision=decision, layout=layout_of(bundle.vector)))
    monkeypatch.setattr("serving.rescore.FEATURE_NAMES", ("features", "of", "a", "later", "day"))
    lines = [line for line in read_log(write_log(tmp_path, decisions)) if line is not None]
    assert {len(np.frombuffer(line.vector)) for line in lines} == {121}
    found = rescore(lines, {bundle.version: bundle})
    assert (found.compared, found.different, found.other_model) == (20, 0, 0)
