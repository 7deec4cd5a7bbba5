"""A challenger scores along: its scores are its own, nobody waits for it, and what it misses is counted."""

import subprocess
import sys
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
from stores.bundle_signature import sign_bundle
from tests.support.bundles import bundle_files
from tests.support.scorers import ROOT, await_true, payment

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


def test_an_unsigned_bundle_is_refused_and_counted_when_a_key_is_set(tmp_path: Path) -> None:
    key, metrics, place = b"k" * 32, Metrics(), write_bundle(bundle_files(2), tmp_path / "b")
    shadow = Shadow(place, log=None, metrics=metrics, key=key)
    shadow._reloader.look()
    assert metrics.bundles_refused.values == {("shadow",): 1}
    assert not metrics.bundles_loaded.values
    sign_bundle(place, key)
    shadow._reloader.wake()
    shadow._reloader.look()
    assert metrics.bundles_loaded.values == {("shadow", CHALLENGER.version): 1}


def test_a_disk_that_refuses_costs_the_lines_and_nothing_else(tmp_path: Path) -> None:
    metrics = Metrics()
    shadow = Shadow(write_bundle(bundle_files(2), tmp_path / "b"), log=tmp_path / "log", metrics=metrics)
    shadow._reloader.look()
    shadow.offer(made(1))
    shadow.flush()  # the directory was never made
    assert (metrics.shadow_decisions.total(), metrics.shadow_lost.total()) == (1, 1)


def test_a_full_disk_leaves_no_torn_line_in_the_shadows_log(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow beyond a limit in the middle of a line."""
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from serving.line_file import LineFile\n"
        "file = LineFile(Path(sys.argv[1]), 'shadow', most_bytes=1 << 30, lost=print)\n"
        "file.start()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1050, 1050))\n"
        "refused = 0\n"
        "for number in range(5):\n"
        "    try:\n"
        "        file.write(b''.join(b'%099d\\n' % line for line in range(4)))\n"
        "    except OSError:\n"
        "        refused += 1\n"
        "print(refused)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    (path,) = tmp_path.glob("shadow-*.jsonl")
    assert ran.stdout == "3\n"
    assert path.read_bytes() == b"".join(b"%099d\n" % line for line in range(4)) * 2
