"""The command that makes decisions again, as a person runs it."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from fraud.bundle import open_bundle
from fraud.policy import Policy, Reason, Segment, TierPolicy
from serving.__main__ import main
from serving.decisions import DecisionLog, Made
from serving.metrics import Metrics
from stores.bundle_files import write_bundle
from tests.support.bundles import bundle_files
from tests.support.decisions import made

SEEDS = (1, 2)
BUNDLES = {seed: open_bundle(bundle_files(seed)) for seed in SEEDS}
REASONS = (Reason("DEVICE_MANY_CARDS", "7 cards on this device in 24 h", 1.5),)


def scored(number: int, seed: int) -> Made:
    one, bundle = made(number), BUNDLES[seed]
    score = bundle.score(one.vector)
    outcome = bundle.policy.outcome(score)
    decision = replace(one.decision, score=score, outcome=outcome, reasons=REASONS, model_version=bundle.version)
    return msgspec.structs.replace(one, decision=decision)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a log of two models' decisions, and the models."""
    folder = tmp_path_factory.mktemp("rescore")
    for seed in SEEDS:
        write_bundle(bundle_files(seed), folder / f"m{seed}")
    log = DecisionLog(folder / "log", metrics=Metrics())
    log.start()
    for number in range(40):
        log.append(scored(number, SEEDS[number % 2]))
    log.close()
    return folder


def run(place: Path, capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, str]:
    models = [option for seed in SEEDS for option in ("--model", str(place / f"m{seed}"))]
    with pytest.raises(SystemExit) as ended:
        main(["rescore", "--log", str(place / "log"), *models, *map(str, options)])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


def outcomes(text: str) -> dict[str, int]:
    changes: dict[str, int] = msgspec.json.decode(text)["outcomes"]
    counts: dict[str, int] = {}
    for change, count in changes.items():
        now = change.partition(" > ")[2]
        counts[now] = counts.get(now, 0) + count
    return counts


def write_policy(path: Path, policy: Policy) -> Path:
    path.write_bytes(msgspec.json.encode(policy))
    return path


def test_one_decision_is_told_with_score_tier_outcome_reasons_and_whether_the_bits_agree(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = scored(5, 2).decision
    status, text = run(place, capsys, "--decision", "d5")
    assert status == 0
    assert f"model     {BUNDLES[2].version}, tier full" in text
    assert f"outcome   {decision.outcome}\n" in text
    assert "+1.5000  DEVICE_MANY_CARDS  7 cards on this device in 24 h" in text
    assert text.count(decision.score.hex()) == 2
    assert "the same, bit for bit" in text


def test_a_decision_whose_score_was_altered_is_told_different(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = (place / "log").glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[5] = lines[5].replace(b'"score":0.', b'"score":0.0')
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / path.name).write_bytes(b"".join(lines))
    for seed in SEEDS:
        (tmp_path / f"m{seed}").symlink_to(place / f"m{seed}")
    status, text = run(tmp_path, capsys, "--decision", "d5")
    assert status == 1
    assert "DIFFERENT" in text


def test_another_policy_counts_with_its_segments_and_tiers(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lenient = Policy("lenient", 1.0, 1.0, tiers={"partial": TierPolicy(0.5, 0.6)})
    path = write_policy(tmp_path / "p.json", lenient)
    status, text = run(place, capsys, "--json", "-", "--policy", path)
    assert (status, outcomes(text)) == (0, {"approve": 40})
    online = Segment("online", 1e-9, 1e-9, channels=("online",))
    path = write_policy(tmp_path / "s.json", replace(lenient, segments=(online,)))
    status, text = run(place, capsys, "--json", "-", "--policy", path)
    assert (status, outcomes(text)) == (0, {"decline": 40})


def test_each_model_may_be_given_a_policy_of_its_own(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = write_policy(tmp_path / "strict.json", Policy("strict", 1e-9, 1e-9))
    lenient = write_policy(tmp_path / "lenient.json", Policy("lenient", 1.0, 1.0))
    _, text = run(place, capsys, "--json", "-", "--policy", strict, "--policy", lenient)
    assert outcomes(text) == {"decline": 20, "approve": 20}


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (b'{"version": "p"}', (), "is no policy"),
        (b'{"version": "p", "review_at": 2, "decline_at": 3}', (), "thresholds"),
        (msgspec.json.encode(Policy("p", 0.5, 0.6)), ("--review-at", "0.1"), "no thresholds beside"),
        (None, (), "cannot be read"),
    ],
)
def test_a_policy_that_cannot_be_used_is_one_sentence(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    options: tuple[str, ...],
    said: str,
) -> None:
    path = tmp_path / "p.json"
    if content is not None:
        path.write_bytes(content)
    status, text = run(place, capsys, "--policy", path, *options)
    assert status == 1
    assert said in text
    assert text.count("\n") == 1


def test_figures_go_to_a_file_beside_the_summary_and_the_status_stays(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "figures.json"
    status, text = run(place, capsys, "--json", file, "--decision", "d5")
    assert (status, text.count("the same, bit for bit")) == (0, 1)
    assert "1 decisions made again, 0 different" in text
    assert msgspec.json.decode(file.read_bytes())["decision"]["decision_id"] == "d5"
    status, text = run(place, capsys, "--json", file / "below")
    assert (status, text.splitlines()[-1]) == (1, f"serving: {file}: File exists")


def test_thresholds_alone_change_each_bundles_own_policy(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(place, capsys, "--json", "-", "--review-at", "1e-9", "--decline-at", "1")
    assert (status, outcomes(text)) == (0, {"review": 40})
