"""The scorer while its online store is slow, gone and back: it always answers, and says what was missing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fraud.bundle import open_bundle
from fraud.tiers import FALLBACKS
from serving.breaker import FAILURES_TO_OPEN
from serving.log_reading import read_log
from serving.rescore import rescore
from stores.guards import state_view
from stores.layout import entity_key
from tests.support.bundles import VIEWS, bundle_files, write_test_bundle
from tests.support.emulators import free_port, start_valkey, valkey_client
from tests.support.scorers import ROOT, Scorer, await_true, fill_states, history, payment, start_scorer

EVERY_VIEW = [view for views in VIEWS.values() for view in views]
BUNDLE = open_bundle(bundle_files())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_test_bundle(tmp_path / "model")


def valkey_process(port: int) -> psutil.Process:
    listening = [c.pid for c in psutil.net_connections("tcp4") if c.laddr.port == port and c.status == "LISTEN"]
    return psutil.Process(listening[0])


@pytest.fixture
def store() -> Iterator[int]:
    with start_valkey() as port, valkey_client(port) as client:
        fill_states(client, history())
        yield port


def is_whole(scorer: Scorer) -> bool:
    return not scorer.decide(payment(1))["degraded"]


def test_a_scorer_starts_and_answers_without_a_store_and_uses_it_when_it_comes(model: Path) -> None:
    port = free_port()
    with start_scorer(model, port) as scorer:
        answer = scorer.decide(payment(1))
        assert (answer["degraded"], answer["missing"]) == (True, EVERY_VIEW)
        assert scorer.request("GET", "/ping")[0] == 200
        with start_valkey(port) as _:
            await_true(lambda: is_whole(scorer))


def test_a_killed_store_costs_no_answer_and_its_return_is_noticed(model: Path, store: int) -> None:
    with start_scorer(model, store, store_timeout_ms=5_000) as scorer:
        before = scorer.decide(payment(1))
        assert before["degraded"] is False
        valkey_process(store).kill()
        await_true(lambda: scorer.metric("tollgate_store_breaker") > 0)
        timeouts = scorer.metric("tollgate_store_timeouts_total")
        for number in range(100):
            answer = scorer.decide(payment(number))
            assert (answer["degraded"], answer["missing"]) == (True, EVERY_VIEW)
            assert answer["stale"] == []
        assert scorer.metric("tollgate_store_timeouts_total") == timeouts
        assert scorer.metric("tollgate_missing_views_total") >= 100 * len(EVERY_VIEW)
        assert scorer.request("GET", "/ping")[0] == 200
        with start_valkey(store), valkey_client(store) as client:
            fill_states(client, history())
            await_true(lambda: scorer.metric("tollgate_store_breaker") == 0)
            assert scorer.decide(payment(1))["score"] == before["score"]
            assert [event["reason"] for event in scorer.events("store_lost")] == ["connection_lost"]


def test_a_stopped_store_is_waited_for_a_few_times_and_then_not_at_all(model: Path, store: int) -> None:
    with start_scorer(model, store, store_timeout_ms=100) as scorer:
        await_true(lambda: is_whole(scorer))
        process = valkey_process(store)
        before = scorer.metric("tollgate_store_timeouts_total")
        process.suspend()
        try:
            for number in range(200):
                assert scorer.decide(payment(number))["missing"] == EVERY_VIEW
            assert scorer.metric("tollgate_store_timeouts_total") - before == FAILURES_TO_OPEN
            assert scorer.metric("tollgate_store_refusals_total") >= 200 - FAILURES_TO_OPEN
        finally:
            process.resume()
        await_true(lambda: is_whole(scorer))


def test_outcomes_of_degraded_decisions_follow_the_policy(model: Path) -> None:
    with start_scorer(model, free_port()) as scorer:
        answer = scorer.decide(payment(1))
    assert answer["outcome"] == BUNDLE.policy.outcome(answer["score"], degraded=True)


def test_each_tier_answers_in_turn_as_the_store_goes_and_comes_and_every_score_is_made_again(
    tmp_path: Path, store: int
) -> None:
    model = write_test_bundle(tmp_path / "model", tiers=FALLBACKS)
    bundle = open_bundle(bundle_files(tiers=FALLBACKS))
    with start_scorer(model, store, store_timeout_ms=5_000, decision_log=tmp_path / "log") as scorer:
        before = scorer.decide(payment(1))
        assert (before["tier"], before["override"], before["segment"]) == ("full", "", "")
        with valkey_client(store) as client:
            client.hset(entity_key("device_id", "broken", "fraud"), state_view("device").state, b"\xf9")
        assert scorer.decide(payment(1, device_id="broken"))["tier"] == "partial"
        valkey_process(store).kill()
        await_true(lambda: scorer.metric("tollgate_store_breaker") > 0)
        answers = [scorer.decide(payment(number)) for number in range(20)]
        assert {answer["tier"] for answer in answers} == {"request_only"}
        with start_valkey(store), valkey_client(store) as client:
            fill_states(client, history())
            await_true(lambda: scorer.metric("tollgate_store_breaker") == 0)
            assert scorer.decide(payment(1)) | {"decision_id": ""} == before | {"decision_id": ""}
        assert scorer.metric("tollgate_tiers_total") >= 23
        assert scorer.stop() == 0
    found = rescore(read_log(tmp_path / "log"), {bundle.version: bundle})
    assert (found.different, found.other_model, found.unreadable) == (0, 0, 0)
    assert found.compared >= 23


def test_lists_change_while_payments_are_scored_and_a_broken_file_changes_nothing(
    model: Path, store: int, tmp_path: Path
) -> None:
    lists = tmp_path / "lists.json"
    command = [sys.executable, "-m", "serving", "lists", "add", "--file", str(lists), "--reason", "r", "--by", "ann"]
    subprocess.run([*command, "--entity", "card", "--key", "c9", "--list", "allow"], cwd=ROOT, check=True)
    with start_scorer(model, store, lists=lists) as scorer:
        assert scorer.decide(payment(9))["override"] == "allow_list"
        plain = scorer.decide(payment(3))
        subprocess.run([*command, "--entity", "merchant", "--key", "m3", "--list", "block"], cwd=ROOT, check=True)
        await_true(lambda: scorer.decide(payment(3))["override"] == "block_list")
        blocked = scorer.decide(payment(3))
        assert (blocked["outcome"], blocked["score"]) == ("decline", plain["score"])
        lists.write_text("{")
        await_true(lambda: scorer.metric("tollgate_lists_refused_total") == 1)
        assert scorer.decide(payment(3))["override"] == "block_list"
        (event,) = scorer.events("lists_refused")
        assert "is no file of lists" in event["reason"]
        assert scorer.metric("tollgate_overrides_total") >= 3


def test_sigterm_drains_with_status_zero_and_the_log_is_whole(model: Path, store: int, tmp_path: Path) -> None:
    with start_scorer(model, store, decision_log=tmp_path / "log") as scorer:
        for number in range(30):
            scorer.decide(payment(number))
        os.kill(scorer.process.pid, signal.SIGTERM)
        assert scorer.process.wait(30) == 0
        time.sleep(0.1)
    lines = [line for file in (tmp_path / "log").iterdir() for line in file.read_bytes().splitlines()]
    assert len(lines) == 30
    assert [event["event"] for event in scorer.events("scorer_stopped")] == ["scorer_stopped"]
