"""A challenger scores along: its scores are its own, nobody waits for it, and what it misses is counted."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from fraud.bundle import open_bundle
from fraud.features import FEATURE_NAMES, NO_PROFILES
from fraud.policy import Decision
from fraud.windows import ENTITIES
from serving import shadow as shadows
from serving.decisions import Made
from serving.metrics import Metrics
from serving.online import Online
from serving.shadow import FOLDER, Shadow, ShadowDecision
from stores.bundle_files import point_to, write_bundle
from tests.support.bundles import bundle_files
from tests.support.scorers import await_true, payment

CHAMPION, CHALLENGER = open_bundle(bundle_files(1)), open_bundle(bundle_files(2))
NOTHING = Online(dict.fromkeys(ENTITIES, b""), NO_PROFILES, (), (), (), {}, {})


def made(number: int) -> Made:
    vector = np.random.default_rng(number).gamma(1.0, 20.0, len(FEATURE_NAMES))
    score = CHAMPION.score(vector)
    outcome = CHAMPION.policy.outcome(score)
    decision = Decision(f"d{number}", f"t{number}", outcome, score, (), CHAMPION.version, "test", ())
    return Made(payment(number), vector, NOTHING, decision, 1_770_000_000_000, 0.001)


def lines(log: Path) -> list[ShadowDecision]:
    decoder = msgspec.json.Decoder(ShadowDecision)
    return [
        decoder.decode(line) for path in sorted((log / FOLDER).iterdir()) for line in path.read_bytes().splitlines()
    ]


def test_every_decision_is_scored_with_the_challengers_own_model_and_policy(tmp_path: Path) -> None:
    metrics = Metrics()
    shadow = Shadow(write_bundle(bundle_files(2), tmp_path / "b"), log=tmp_path / "log", metrics=metrics)
    shadow.start()
    await_true(lambda: shadow.model is not None)
    given = [made(number) for number in range(300)]
    for one in given:
        shadow.offer(one)
    shadow.close()
    found = lines(tmp_path / "log")
    assert [line.decision_id for line in found] == [f"d{number}" for number in range(300)]
    assert [line.challenger_score for line in found] == [CHALLENGER.score(one.vector) for one in given]
    assert [line.champion_score for line in found] == [one.decision.score for one in given]
    assert {line.challenger_version for line in found} == {CHALLENGER.version}
    assert metrics.shadow_decisions.total() == sum(metrics.shadow_scores.counts((CHALLENGER.version,))) == 300
    assert metrics.shadow_lost.total() == 0


def test_a_full_queue_loses_and_counts_and_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "QUEUE_LENGTH", 10)
    metrics = Metrics()
    shadow = Shadow(write_bundle(bundle_files(2), tmp_path / "b"), log=None, metrics=metrics)
    shadow._reloader.look()
    for number in range(25):
        shadow.offer(made(number))
    shadow.flush()
    assert (metrics.shadow_decisions.total(), metrics.shadow_lost.total()) == (10, 15)


def test_the_shadow_comes_and_goes_with_its_bundle(tmp_path: Path) -> None:
    metrics, link = Metrics(), tmp_path / "shadow"
    shadow = Shadow(link, log=None, metrics=metrics)
    shadow.offer(made(1))
    shadow.flush()
    assert metrics.shadow_decisions.total() == 0
    point_to(link, write_bundle(bundle_files(2), tmp_path / "b"))
    shadow._reloader.look()
    shadow.offer(made(2))
    link.unlink()
    shadow.flush()
    shadow.offer(made(3))
    shadow.flush()
    assert shadow.model is None
    assert metrics.shadow_decisions.total() == 0
    point_to(link, tmp_path / "b")
    shadow._reloader.look()
    shadow.offer(made(4))
    shadow.flush()
    assert metrics.shadow_decisions.total() == 1


def test_a_bundle_that_does_not_verify_never_scores(tmp_path: Path) -> None:
    place = tmp_path / "b"
    write_bundle(bundle_files(2), place)
    (place / "policy.json").write_bytes(b"{}")
    shadow = Shadow(place, log=None, metrics=Metrics())
    shadow._reloader.look()
    assert shadow.model is None


def test_a_disk_that_refuses_costs_the_lines_and_nothing_else(tmp_path: Path) -> None:
    metrics = Metrics()
    shadow = Shadow(write_bundle(bundle_files(2), tmp_path / "b"), log=tmp_path / "log", metrics=metrics)
    shadow._reloader.look()
    shadow.offer(made(1))
    shadow.flush()  # the directory was never made
    assert (metrics.shadow_decisions.total(), metrics.shadow_lost.total()) == (1, 1)
