"""Several workers on one port: all of them answer, one that dies is replaced, and they end together, logs whole."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from stores.bundle_files import point_to
from tests.support.bundles import write_test_bundle
from tests.support.emulators import start_valkey, valkey_client
from tests.support.scorers import (
    ROOT,
    Scorer,
    await_true,
    fill_states,
    history,
    payment,
    scorer_environment,
    start_scorer,
)


@pytest.fixture(scope="module")
def store() -> Iterator[int]:
    with start_valkey() as port, valkey_client(port) as client:
        fill_states(client, history())
        yield port


@pytest.fixture
def model(tmp_path: Path) -> Path:
    point_to(tmp_path / "model", write_test_bundle(tmp_path / "first"))
    return tmp_path / "model"


def started(scorer: Scorer) -> int:
    return len(scorer.events("scorer_started"))


def workers(scorer: Scorer) -> list[psutil.Process]:
    children: list[psutil.Process] = psutil.Process(scorer.process.pid).children()
    return children


def logged(log: Path) -> dict[str, list[str]]:
    """Return the ids of the decisions in each file; a torn line fails."""
    files = {file.name: file.read_bytes().splitlines() for file in sorted(log.iterdir())}
    return {name: [json.loads(line)["decision_id"] for line in lines] for name, lines in files.items()}


def test_two_workers_answer_and_sigterm_drains_both_with_whole_logs(model: Path, store: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with start_scorer(model, store, workers=2, decision_log=log, store_timeout_ms=5_000) as scorer:
        await_true(lambda: started(scorer) == 2)
        assert {event["worker"] for event in scorer.events("scorer_started")} == {0, 1}
        await_true(lambda: not scorer.decide(payment(0))["degraded"])
        answers = [scorer.decide(payment(number)) for number in range(80)]
        await_true(lambda: scorer.metric("tollgate_decisions_total") >= 81)
        both = workers(scorer)
        assert len(both) == 2
        assert scorer.stop() == 0
        assert not any(worker.is_running() for worker in both)
    files = logged(log)
    assert {name.split("-")[2] for name in files} == {str(worker.pid) for worker in both}
    assert all(len(ids) > 10 for ids in files.values())
    ids = [name for some in files.values() for name in some]
    assert len(set(ids)) == len(ids)
    assert {answer["decision_id"] for answer in answers} <= set(ids)
    assert sum(event["decisions"] for event in scorer.events("scorer_stopped")) == len(ids)


def test_a_killed_worker_is_replaced_while_the_other_answers_and_counts_do_not_fall(
    model: Path, store: int, tmp_path: Path
) -> None:
    with start_scorer(model, store, workers=2, store_timeout_ms=5_000) as scorer:
        await_true(lambda: started(scorer) == 2)
        for number in range(40):
            scorer.decide(payment(number))
        await_true(lambda: scorer.metric("tollgate_decisions_total") == 40)
        point_to(model, write_test_bundle(tmp_path / "second", 2))
        victim = workers(scorer)[0]
        os.kill(victim.pid, signal.SIGKILL)
        await_true(lambda: started(scorer) == 3)
        (lost,) = scorer.events("worker_lost")
        assert (lost["pid"], lost["status"]) == (victim.pid, -signal.SIGKILL)
        (again,) = scorer.events("scorer_started")[2:]
        assert again["worker"] == lost["worker"]
        assert len(workers(scorer)) == 2
        for number in range(40):
            scorer.decide(payment(number))
        await_true(lambda: scorer.metric("tollgate_decisions_total") == 80)
        assert {scorer.decide(payment(1))["model_version"] for _ in range(20)} == {newest(scorer)}


def newest(scorer: Scorer) -> str:
    """Wait until all workers serve one model; return its version."""
    served: set[str] = set()

    def one() -> bool:
        with urlopen(f"http://127.0.0.1:{scorer.port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        served.clear()
        served.update(line.split('"')[1] for line in lines if line.startswith("tollgate_serving{"))
        return len(served) == 1

    await_true(one)
    return served.pop()


def test_every_worker_takes_a_new_bundle_when_the_parent_is_told_to_look(
    model: Path, store: int, tmp_path: Path
) -> None:
    with start_scorer(model, store, workers=2, store_timeout_ms=5_000) as scorer:
        await_true(lambda: started(scorer) == 2)
        before = scorer.decide(payment(1))["model_version"]
        point_to(model, write_test_bundle(tmp_path / "second", 2))
        scorer.process.send_signal(signal.SIGHUP)
        await_true(lambda: scorer.metric("tollgate_bundles_loaded_total") == 4)
        assert newest(scorer) != before
        assert {scorer.decide(payment(1))["model_version"] for _ in range(20)} == {newest(scorer)}


def test_workers_end_when_their_parent_is_killed(model: Path, store: int) -> None:
    with start_scorer(model, store, workers=2) as scorer:
        await_true(lambda: started(scorer) == 2)
        both = workers(scorer)
        scorer.process.kill()
        await_true(lambda: not any(is_alive(worker) for worker in both))
        assert len(scorer.events("scorer_stopped")) == 2


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_what_keeps_workers_from_starting_is_said_once(model: Path, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("no directory")
    with (
        pytest.raises(RuntimeError, match="cannot write the decision log") as refused,
        start_scorer(model, 9, workers=3, decision_log=taken),
    ):
        pass
    assert str(refused.value).count("start_refused") == 1


def test_a_port_that_another_scorer_has_is_refused(model: Path, store: int) -> None:
    with start_scorer(model, store, workers=2) as first:
        environment = scorer_environment(model_dir=model, redis_port=store, workers=2, bind_port=first.port)
        ran = subprocess.run(
            [sys.executable, "-m", "serving"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)
        assert f"cannot listen on 127.0.0.1:{first.port}" in ran.stderr
        assert first.request("GET", "/ping")[0] == 200
