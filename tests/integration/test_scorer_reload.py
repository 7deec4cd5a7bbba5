"""A new bundle for a running scorer, and a log that makes every decision again."""

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

import pytest

from fraud.transaction import encode_transaction
from stores.bundle_files import point_to
from tests.support.bundles import write_test_bundle
from tests.support.emulators import start_valkey, valkey_client
from tests.support.scorers import ROOT, Scorer, await_true, fill_states, history, payment, start_scorer


@pytest.fixture(scope="module")
def store() -> Iterator[int]:
    with start_valkey() as port, valkey_client(port) as client:
        fill_states(client, history())
        yield port


def served(scorer: Scorer) -> str:
    version: str = scorer.decide(payment(1))["model_version"]
    return version


class Load:
    """Requests on one connection until told to stop."""

    def __init__(self, port: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.versions: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        number = 0
        while not self._stop.is_set():
            body = encode_transaction(payment(number := number + 1))
            connection.request("POST", "/invocations", body, {"content-type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            self.statuses[response.status] += 1
            self.versions.append(answer["model_version"])
        connection.close()


def test_a_swapped_link_changes_the_model_and_drops_no_request(store: int, tmp_path: Path) -> None:
    link = tmp_path / "model"
    bundles = [write_test_bundle(tmp_path / f"bundle-{seed}", seed) for seed in (1, 2, 3)]
    point_to(link, bundles[0])
    with start_scorer(link, store, decision_log=tmp_path / "log") as scorer:
        versions = [served(scorer)]
        with Load(scorer.port) as load:
            for bundle in bundles[1:]:
                seen = len(load.versions)
                await_true(lambda seen=seen: len(load.versions) > seen + 20)
                point_to(link, bundle)
                await_true(lambda: load.versions[-1] != versions[-1])
                versions.append(load.versions[-1])
        assert set(load.statuses) == {200}
        assert len(set(versions)) == 3
        changes = [version for index, version in enumerate(load.versions) if version != load.versions[index - 1]]
        assert len(changes) <= 3
        assert scorer.metric("tollgate_bundles_loaded_total") == 3
        assert [event["version"] for event in scorer.events("bundle_loaded")] == versions
        assert scorer.stop() == 0
        decided = int(scorer.events("scorer_stopped")[0]["decisions"])
    models = [option for bundle in bundles for option in ("--model", str(bundle))]
    status, found = rescore(tmp_path / "log", *models)
    assert status == 0
    assert (found["compared"], found["different"], found["unreadable"], found["other_model"]) == (decided, 0, 0, 0)
    status, found = rescore(tmp_path / "log", *models, "--review-at", "1e-9", "--decline-at", "1e-9")
    assert status == 0
    assert sum(count for change, count in found["outcomes"].items() if change.endswith("> decline")) == decided


def rescore(log: Path, *options: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "serving", "rescore", "--log", str(log), "--json", "-", *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    return ran.returncode, json.loads(ran.stdout)


def test_a_corrupt_bundle_is_refused_once_and_the_old_one_goes_on(store: int, tmp_path: Path) -> None:
    link = tmp_path / "model"
    good, bad, better = (
        write_test_bundle(tmp_path / name, seed) for seed, name in enumerate(("good", "bad", "better"), 1)
    )
    content = bytearray((bad / "model.json").read_bytes())
    content[len(content) // 3] ^= 4
    (bad / "model.json").write_bytes(content)
    point_to(link, good)
    with start_scorer(link, store) as scorer:
        before = served(scorer)
        point_to(link, bad)
        await_true(lambda: scorer.metric("tollgate_bundles_refused_total") == 1)
        assert served(scorer) == before
        (event,) = scorer.events("bundle_refused")
        assert "model.json has digest" in event["reason"]
        assert event["still_serving"] == before
        scorer.process.send_signal(signal.SIGHUP)
        await_true(lambda: scorer.metric("tollgate_bundles_refused_total") == 2)
        assert served(scorer) == before
        point_to(link, better)
        await_true(lambda: served(scorer) != before)


def test_a_model_directory_that_vanishes_changes_nothing(store: int, tmp_path: Path) -> None:
    link = tmp_path / "model"
    point_to(link, write_test_bundle(tmp_path / "bundle"))
    with start_scorer(link, store) as scorer:
        before = served(scorer)
        link.unlink()
        scorer.process.send_signal(signal.SIGHUP)
        assert served(scorer) == before
        assert scorer.metric("tollgate_bundles_refused_total") == 0
