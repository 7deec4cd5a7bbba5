import math
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from fraud.bundle import open_bundle
from fraud.errors import TollgateError
from fraud.features import FEATURE_NAMES, NO_PROFILES
from fraud.policy import Decision, Policy
from fraud.windows import ENTITIES
from serving import decisions, line_file
from serving.decisions import DecisionLog, Made
from serving.log_reading import read_log
from serving.metrics import Metrics
from serving.online import Online
from serving.rescore import rescore
from stores.layout import encode_timestamp, encode_value
from tests.support.bundles import bundle_files
from tests.support.scorers import ROOT, payment

BUNDLE = open_bundle(bundle_files())


def made(number: int, *, missing: tuple[str, ...] = ()) -> Made:
    vector = np.random.default_rng(number).gamma(1.0, 20.0, len(FEATURE_NAMES))
    vector[number % 7] = math.nan
    score = BUNDLE.score(vector)
    outcome = BUNDLE.policy.outcome(score, degraded=bool(missing))
    decision = Decision(f"d{number}", f"t{number}", outcome, score, (), BUNDLE.version, "test", missing)
    online = Online(
        dict.fromkeys(ENTITIES, b""),
        NO_PROFILES,
        (),
        missing,
        (),
        {"card": encode_value(3)},
        {"card_velocity": encode_timestamp(5)},
    )
    return Made(payment(number), vector, online, decision, 1_770_000_000_000, 0.001)


def written(directory: Path, count: int) -> Metrics:
    metrics = Metrics()
    log = DecisionLog(directory, metrics=metrics)
    log.start()
    for number in range(count):
        log.append(made(number))
    log.close()
    return metrics


def test_every_decision_is_written_with_its_exact_vector(tmp_path: Path) -> None:
    metrics = written(tmp_path, 700)
    logged = [line for line in read_log(tmp_path) if line is not None]
    assert [line.decision_id for line in logged] == [f"d{number}" for number in range(700)]
    assert logged[13].vector == made(13).vector.tobytes()
    assert logged[13].transaction == payment(13)
    assert (logged[13].revisions, logged[13].times_ms) == ({"card": 3}, {"card_velocity": 5})
    assert metrics.decisions_logged.total() == 700
    assert metrics.decisions_lost.total() == 0


def test_scores_come_out_bit_for_bit_again(tmp_path: Path) -> None:
    written(tmp_path, 100)
    found = rescore(read_log(tmp_path), {BUNDLE.version: BUNDLE})
    assert (found.compared, found.different, found.unreadable, found.other_model) == (100, 0, 0, 0)


def test_a_changed_vector_is_found_by_its_decision(tmp_path: Path) -> None:
    written(tmp_path, 20)
    (file,) = tmp_path.iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"score":0.', b'"score":0.0')
    file.write_bytes(b"".join(lines))
    found = rescore(read_log(tmp_path), {BUNDLE.version: BUNDLE})
    assert found.differences == ["d4"]


def test_other_thresholds_change_outcomes_and_no_score(tmp_path: Path) -> None:
    written(tmp_path, 60)
    strict = Policy("strict", review_at=1e-9, decline_at=1e-9)
    found = rescore(read_log(tmp_path), {BUNDLE.version: BUNDLE}, policies={BUNDLE.version: strict})
    assert found.different == 0
    assert {change.partition(" > ")[2] for change in found.outcomes} == {"decline"}
    assert sum(found.outcomes.values()) == 60


def test_decisions_of_another_model_are_told_apart(tmp_path: Path) -> None:
    written(tmp_path, 5)
    other = open_bundle(bundle_files(seed=2))
    found = rescore(read_log(tmp_path), {other.version: other})
    assert (found.compared, found.other_model) == (0, 5)


def test_a_torn_last_line_is_counted_and_costs_no_other(tmp_path: Path) -> None:
    written(tmp_path, 5)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-50])
    found = rescore(read_log(tmp_path), {BUNDLE.version: BUNDLE})
    assert (found.compared, found.unreadable) == (4, 1)


def test_asking_for_an_unknown_decision_or_log_says_so(tmp_path: Path) -> None:
    with pytest.raises(TollgateError, match="no decision log"):
        rescore(read_log(tmp_path), {})
    written(tmp_path, 1)
    with pytest.raises(TollgateError, match="'d9'"):
        rescore(read_log(tmp_path), {BUNDLE.version: BUNDLE}, decision_id="d9")


def test_a_full_queue_loses_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "QUEUE_LENGTH", 10)
    metrics = Metrics()
    log = DecisionLog(tmp_path, metrics=metrics)
    for number in range(25):
        log.append(made(number))
    log.flush()
    assert metrics.decisions_lost.total() == 15
    assert metrics.decisions_logged.total() == 10


def test_files_are_closed_when_they_are_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_file, "FILE_BYTES", 400_000)
    written(tmp_path, 700)
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert len(sizes) > 1
    assert max(sizes) <= 400_000 + 256 * 3000
    assert sum(1 for _ in read_log(tmp_path)) == 700


def test_a_full_disk_is_counted_and_leaves_no_torn_line(tmp_path: Path) -> None:
    script = tmp_path / "fill.py"
    script.write_text(
        "import importlib.util, resource, sys, types\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "tests = types.ModuleType('tests')\n"
        f"tests.__path__ = [{str(ROOT / 'tests')!r}]\n"
        "sys.modules['tests'] = tests\n"
        f"spec = importlib.util.spec_from_file_location('facts', {__file__!r})\n"
        "facts = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(facts)\n"
        "from pathlib import Path\n"
        "metrics = facts.Metrics()\n"
        "log = facts.DecisionLog(Path(sys.argv[1]), metrics=metrics)\n"
        "everything = [facts.made(number) for number in range(600)]\n"
        "log._file.start()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))\n"
        "for item in everything:\n"
        "    log.append(item)\n"
        "log.flush()\n"
        "print(metrics.decisions_lost.total(), metrics.decisions_logged.total())\n"
    )
    directory = tmp_path / "log"
    directory.mkdir()
    ran = subprocess.run(
        [sys.executable, str(script), str(directory)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    lost, logged = map(int, ran.stdout.split())
    assert lost > 0
    assert lost + logged == 600
    lines = list(read_log(directory))
    assert None not in lines
    assert len(lines) == logged


def test_a_file_that_another_worker_deletes_first_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        (tmp_path / f"decisions-0000-1-{number:04d}.jsonl").write_bytes(b"{}\n" * 10)
    (tmp_path / "decisions-0000-1-0001.jsonl").unlink()
    (tmp_path / "decisions-0000-1-0001.jsonl").symlink_to(tmp_path / "gone")  # there when listed, not when looked at
    metrics = Metrics()
    monkeypatch.setattr(line_file, "FILE_BYTES", 20)
    log = DecisionLog(tmp_path, metrics=metrics, most_bytes=50)
    log.start()
    log.close()
    assert metrics.decisions_lost.total() == 20
    assert len([path for path in tmp_path.iterdir() if path.exists()]) == 2


def test_a_decision_that_makes_no_line_costs_itself_and_no_answer(tmp_path: Path) -> None:
    metrics = Metrics()
    log = DecisionLog(tmp_path, metrics=metrics)
    log.start()
    log.append(msgspec.structs.replace(made(1), online=None))
    log.append(made(2))
    log.close()
    assert [line.decision_id for line in read_log(tmp_path) if line is not None] == ["d2"]
    assert (metrics.decisions_lost.total(), metrics.decisions_logged.total()) == (1, 1)
