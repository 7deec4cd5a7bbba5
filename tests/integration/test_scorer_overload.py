"""Requests that had to wait: decided without the online store while their budget lasts, turned away long after it.

The scorer is stopped while requests arrive, so that how long they have waited is ours to say, on any machine.
"""

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fraud.tiers import FALLBACKS
from fraud.transaction import encode_transaction
from tests.support.bundles import VIEWS, write_test_bundle
from tests.support.emulators import start_valkey, valkey_client
from tests.support.scorers import Scorer, fill_states, history, payment, start_scorer

EVERY_VIEW = [view for views in VIEWS.values() for view in views]
COUNT = 40


@pytest.fixture(scope="module")
def store() -> Iterator[int]:
    with start_valkey() as port, valkey_client(port) as client:
        fill_states(client, history())
        yield port


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_test_bundle(tmp_path / "model", tiers=FALLBACKS)


def queued(scorer: Scorer, bodies: list[bytes], *, seconds: float, headers: str = "") -> list[tuple[int, bytes, Any]]:
    """Send each body on its own new connection to a stopped scorer, wait, let it go on; return what it answers."""
    scorer.process.send_signal(signal.SIGSTOP)
    head = f"POST /invocations HTTP/1.1\r\nhost: s\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}"
    connections = [socket.create_connection(("127.0.0.1", scorer.port), 60) for _ in bodies]
    for connection, body in zip(connections, bodies, strict=True):
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    time.sleep(seconds)
    scorer.process.send_signal(signal.SIGCONT)
    answers = []
    for connection in connections:
        with connection, connection.makefile("rb") as answer:
            found, _, text = answer.read().partition(b"\r\n\r\n")
        answers.append((int(found[9:12]), found.lower(), json.loads(text)))
    return answers


def bodies_of(count: int) -> list[bytes]:
    return [encode_transaction(payment(number)) for number in range(count)]


def test_requests_that_waited_too_long_for_the_store_are_decided_without_it(model: Path, store: int) -> None:
    with start_scorer(model, store, request_budget_ms=1_000, store_timeout_ms=500) as scorer:
        answers = queued(scorer, bodies_of(COUNT), seconds=1.2)
        assert {status for status, _, _ in answers} == {200}
        for _, _, answer in answers:
            assert (answer["tier"], answer["degraded"], answer["missing"]) == ("request_only", True, EVERY_VIEW)
        assert scorer.metric("tollgate_reads_skipped_total") == COUNT
        assert scorer.metric("tollgate_over_budget_total") == COUNT
        assert scorer.metric("tollgate_requests_shed_total") == 0
        assert scorer.metric("tollgate_store_timeouts_total") == 0
        assert len(scorer.events("budget_spent_before_reading")) == 1


def test_requests_that_waited_for_several_budgets_are_turned_away_with_a_typed_503(model: Path, store: int) -> None:
    with start_scorer(model, store, request_budget_ms=100) as scorer:
        answers = queued(scorer, bodies_of(COUNT), seconds=1.0)
        assert {status for status, _, _ in answers} == {503}
        assert all(b"\r\nretry-after: 1\r\n" in head for _, head, _ in answers)
        assert {answer["error"]["code"] for _, _, answer in answers} == {"overloaded"}
        assert scorer.metric("tollgate_requests_shed_total") == COUNT
        assert scorer.metric("tollgate_decisions_total") == 0
        assert scorer.request("GET", "/ping")[0] == 200
        assert len(scorer.events("requests_shed")) == 1


def test_a_caller_may_give_a_request_more_time_than_the_deployment_does(model: Path, store: int) -> None:
    with start_scorer(model, store, request_budget_ms=100, store_timeout_ms=5_000) as scorer:
        patient = "x-amzn-sagemaker-custom-attributes: explain, budget_ms=60000\r\n"
        answers = queued(scorer, bodies_of(COUNT), seconds=1.0, headers=patient)
        assert [(status, answer["tier"]) for status, _, answer in answers] == [(200, "full")] * COUNT
        assert all(answer["reasons"] for _, _, answer in answers)
        for attribute in ("budget_ms=0", "budget_ms=60001", "budget_ms=1e3", "budget_ms="):
            headers = {"x-amzn-sagemaker-custom-attributes": attribute}
            status, answer = scorer.invoke(payment(1), headers)
            assert (status, answer["error"]["field"]) == (422, "budget")


def test_a_batch_shares_one_budget(model: Path, store: int) -> None:
    batch = b"[" + b",".join(bodies_of(COUNT)) + b"]"
    with start_scorer(model, store, request_budget_ms=1_000, store_timeout_ms=500) as scorer:
        ((status, _, answer),) = queued(scorer, [batch], seconds=1.2)
        assert status == 200
        assert [result["tier"] for result in answer["results"]] == ["request_only"] * COUNT
        assert scorer.metric("tollgate_reads_skipped_total") == COUNT
        assert scorer.metric("tollgate_over_budget_total") == 1
