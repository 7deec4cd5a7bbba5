"""What declining did, from a decision log as the scorer writes it and as the delivery stream leaves it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fraud.policy import Decision
from fraud.transaction import Transaction
from monitoring.shipping import FolderTarget, ship
from serving.decisions import DecisionLog, Made
from serving.metrics import Metrics
from tests.support.decisions import made
from tests.support.lakes import DAY_MS, START_MS, FraudReport, random_payments, write_lake
from training.__main__ import main
from training.control_group import estimate_declines
from training.decision_rows import read_decision_rows
from training.errors import UnreadableSource
from training.transaction_log import day_text

PAYMENTS = random_payments(7, 400)
FRAUDS = frozenset(payment.transaction_id for payment in PAYMENTS[::9])
AS_OF = day_text(START_MS + 20 * DAY_MS)


def decided(transaction: Transaction, number: int, policy: str = "p1", **changes: Any) -> Made:
    """Return a decision on a payment: two of five would be declined, of which a quarter is let through."""
    outcome, propensity = (("approve", 1.0), ("review", 1.0), ("approve", 1.0), ("decline", 0.75), ("approve", 0.25))[
        number % 5
    ]
    one = made(number)
    decision: Decision = replace(
        one.decision,
        **{
            "decision_id": f"d{policy}{number}",
            "transaction_id": transaction.transaction_id,
            "outcome": outcome,
            "propensity": propensity,
            "policy_version": policy,
            **changes,
        },
    )
    return msgspec.structs.replace(one, transaction=transaction, decision=decision)


def write_log(folder: Path, decisions: list[Made]) -> Path:
    log = DecisionLog(folder, metrics=Metrics())
    log.start()
    for one in decisions:
        log.append(one)
    log.close()
    return folder


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Return a folder with a lake and a log; a third of the payments were asked about again later, and approved."""
    reports = [FraudReport(name, START_MS) for name in FRAUDS]
    write_lake(tmp_path / "lake", PAYMENTS, reports)
    first = [decided(payment, number) for number, payment in enumerate(PAYMENTS)]
    again = [
        msgspec.structs.replace(decided(payment, 0), decided_at_ms=first[-1].decided_at_ms + number + 1)
        for number, payment in enumerate(PAYMENTS[::3])
    ]
    write_log(tmp_path / "log", [*again[:50], *first, *again[50:]])
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["training", "declines", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_first_decision_on_each_transaction_is_estimated_and_retries_are_counted(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--lake", world / "lake", "--as-of", AS_OF, "--label-delay", "1d", "--json", "-")
    assert run(monkeypatch, "--decisions", world / "log", *options) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["repeated"], figures["immature"]) == (len(PAYMENTS[::3]), 0)
    first = [decided(payment, number).decision for number, payment in enumerate(PAYMENTS)]
    expected = estimate_declines(
        [one.outcome for one in first],
        [one.propensity for one in first],
        np.array([payment.transaction_id in FRAUDS for payment in PAYMENTS], np.float64),
    )
    found = figures["policies"]["p1"]
    assert (found["covered"], found["let_through"]) == (expected.covered, expected.let_through) == (160, 80)
    assert found["recall"]["point"] == pytest.approx(expected.recall.point)
    assert found["fraud_share"]["point"] == pytest.approx(expected.fraud_share.point)
    assert expected.fraud_share.point > 0.0


def test_the_streams_parquet_says_the_same_as_the_lines(world: Path) -> None:
    ship(world / "log", FolderTarget(world / "table"))
    lines, table = read_decision_rows(world / "log"), read_decision_rows(world / "table")
    assert lines.repeated == table.repeated > 0
    for name in ("transaction_id", "event_time_ms", "outcome", "propensity", "policy_version"):
        assert np.array_equal(getattr(lines, name), getattr(table, name))


def test_policies_are_told_apart_and_young_payments_left_out(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    half = len(PAYMENTS) // 2
    decisions = [decided(payment, number, "p1" if number < half else "p2") for number, payment in enumerate(PAYMENTS)]
    log = write_log(world / "two", decisions)
    newest = day_text(PAYMENTS[-1].event_time_ms)
    young = sum(
        day_text(payment.event_time_ms) >= day_text(PAYMENTS[-1].event_time_ms - DAY_MS) for payment in PAYMENTS
    )
    options = ("--lake", world / "lake", "--as-of", newest, "--json", world / "figures.json")
    assert run(monkeypatch, "--decisions", log, "--label-delay", "1d", *options) == 0
    figures = json.loads((world / "figures.json").read_text())
    assert set(figures["policies"]) == {"p1", "p2"}
    assert figures["immature"] == young
    assert 0 < young < half
    assert "What declining did" in capsys.readouterr().out


def test_what_is_no_log_is_said_with_its_place(world: Path) -> None:
    (world / "empty").mkdir()
    with pytest.raises(UnreadableSource, match="holds no decisions"):
        read_decision_rows(world / "empty")
    (world / "empty" / "decisions-1.jsonl").write_text('{"outcome": "approve"}\n')
    with pytest.raises(UnreadableSource, match="line 1 is no decision"):
        read_decision_rows(world / "empty")
