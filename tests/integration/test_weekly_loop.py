"""Training and retraining as a person types them: a small world, Feast itself, bundle, report, verdicts, exit codes."""

import json
from datetime import date
from pathlib import Path

import pytest

from fraud.bundle import open_bundle
from fraud.features import FEATURE_NAMES
from retraining.__main__ import main as retraining
from retraining.registry import Registry
from simulation.config import WorldConfig
from simulation.lake import write
from simulation.world import generate
from stores.bundle_files import read_bundle
from stores.plan import plan_from
from training.__main__ import main as training

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
SPANS = ("--train-days", "12", "--validation-days", "6", "--test-days", "6", "--label-delay", "14")
EARLIER = "2026-02-14"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weekly") / "lake"
    config = WorldConfig(days=48, transactions_per_day=500, seed=3, start=date(2026, 1, 5), fraud_share=0.04)
    write(generate(config), folder)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, command: str, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", [command, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        training() if command == "training" else retraining()
    return int(ended.value.code or 0)


def test_train_writes_a_bundle_and_its_report_and_the_same_again_when_repeated(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    train = ("train", "--lake", lake, "--out", out, *SPANS, "--judge-by", "truth", "--json", figures)
    assert run(monkeypatch, "training", *train) == 0
    bundle = open_bundle(read_bundle(out / "bundle"))
    assert bundle.features == FEATURE_NAMES
    assert plan_from(bundle.plan).service == "fraud_score_v1"
    report = json.loads((out / "evaluation.json").read_text())
    assert report["version"] == bundle.version
    assert report["policy"]["review_at"] == bundle.policy.review_at
    assert report["judged_by"] == "truth"
    assert (report["leak_audit"]["passed"], report["leak_audit"]["leaks"]) == (True, [])
    assert report["leak_audit"]["probes"] > 0
    assert report["ours"]["rows"] == report["baseline"]["rows"] > 2000
    assert report["ours"]["pr_auc"]["low"] <= report["ours"]["pr_auc"]["point"] <= report["ours"]["pr_auc"]["high"]
    assert [cut["recall"] for cut in report["cuts"]] == [0.3, 0.5, 0.7]
    assert report["ours"]["pr_auc"]["point"] > report["baseline"]["pr_auc"]["point"]
    assert (out / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(figures.read_text()) == report
    assert run(monkeypatch, "training", *train) == 0
    assert [place.name for place in (out / "versions").iterdir()] == [bundle.version]


def test_weeks_promote_or_refuse_and_a_doubled_start_changes_nothing(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"

    def week(*more: str) -> tuple[int, dict[str, object]]:
        capsys.readouterr()
        code = run(monkeypatch, "retraining", "week", "--lake", lake, "--models", models, *SPANS, "--json", "-", *more)
        return code, json.loads(capsys.readouterr().out)

    code, first = week("--as-of", EARLIER)
    assert (code, first["promoted"], first["champion"]) == (0, True, first["challenger"])
    code, second = week()
    assert code == second["exit_code"] == (0 if second["promoted"] else 3)
    assert second["challenger"] != first["challenger"]
    again_code, again = week()
    assert again_code == code
    assert again == second | {"repeated": True}
    events = Registry(models).history()
    assert [event["version"] for event in events] == [first["challenger"], second["challenger"]]


def test_the_registry_is_read_and_rolled_back_from_the_command_line(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"
    assert run(monkeypatch, "retraining", "week", "--lake", lake, "--models", models, *SPANS, "--as-of", EARLIER) == 0
    assert "exit code 0" in capsys.readouterr().out
    assert run(monkeypatch, "retraining", "rollback", "--models", models) == 1
    assert "has no champion before" in capsys.readouterr().err
    assert run(monkeypatch, "retraining", "rollback", "--models", models, "--to", "nothing") == 1
    assert "'nothing' is not in" in capsys.readouterr().err
    assert run(monkeypatch, "retraining", "status", "--models", models, "--json", "-") == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["opens"], status["fault"], status["versions"]) == (True, None, 1)
    (models / "versions" / status["champion"] / "model.json").write_bytes(b"{}")
    assert run(monkeypatch, "retraining", "status", "--models", models, "--json", "-") == 1
    assert "model.json has digest" in json.loads(capsys.readouterr().out)["fault"]
    assert run(monkeypatch, "retraining", "history", "--models", models, "--json", "-") == 0
    assert [event["event"] for event in json.loads(capsys.readouterr().out)["events"]] == ["promoted"]


def test_a_mistyped_registry_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("rollback", "history", "status"):
        assert run(monkeypatch, "retraining", command, "--models", tmp_path / "mistyped") == 1
        assert "no such registry" in capsys.readouterr().err
    assert not (tmp_path / "mistyped").exists()


def test_too_short_a_history_names_the_days_there_are(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    week = ("week", "--lake", lake, "--models", tmp_path / "models", *SPANS, "--as-of", "2020-01-01")
    assert run(monkeypatch, "retraining", *week) == 1
    assert "it has 2026-01-05 to 2026-02-21" in capsys.readouterr().err
