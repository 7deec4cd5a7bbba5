"""Training and retraining as a person types them: a small world, Feast itself, bundle, report, verdicts, exit codes."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fraud.bundle import open_bundle
from fraud.features import FEATURE_NAMES
from retraining import __main__ as entry
from retraining.__main__ import main as retraining
from retraining.registry import Registry
from retraining.weekly import Builder, training_set_builder
from simulation.config import WorldConfig
from simulation.lake import write
from simulation.world import generate
from stores.bundle_files import read_bundle
from stores.plan import plan_from
from training.__main__ import main as training
from training.dataset import TrainingSet, read_log
from training.transaction_log import Progress

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
SPANS = ("--train-days", "12", "--validation-days", "6", "--test-days", "6", "--label-delay", "14")
QUICK = ("--no-audit", "--seeds", "0")
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


@contextmanager
def labels_changed(lake: Path, change: Callable[[pa.Table], pa.Table | None]) -> Iterator[None]:
    """Give the lake other labels, or none, while the block runs."""
    path = lake / "labels.parquet"
    before = path.read_bytes()
    changed = change(pq.read_table(path))
    path.unlink()
    if changed is not None:
        pq.write_table(changed, path)
    try:
        yield
    finally:
        path.write_bytes(before)


@pytest.fixture(scope="module")
def championed(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a champion of the week before."""
    models = tmp_path_factory.mktemp("championed") / "models"
    with pytest.MonkeyPatch.context() as patch:
        week = ("week", "--lake", lake, "--models", models, *SPANS, *QUICK, "--as-of", EARLIER)
        assert run(patch, "retraining", *week) == 0
    return models


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _labels: None, "labels.parquet is missing: generate or import a data set first (unreadable_source)"),
        (
            lambda labels: labels.filter(pc.invert(labels["is_fraud"])),
            "training has 0 frauds in ",
        ),
        (
            lambda labels: labels.rename_columns(
                [{"is_fraud": "fraud"}.get(name, name) for name in labels.schema.names]
            ),
            "is_fraud",
        ),
    ],
    ids=["no labels", "one class", "another schema"],
)
def test_labels_that_are_no_use_fail_the_iteration_and_leave_the_champion(
    championed: Path,
    lake: Path,
    change: Callable[[pa.Table], pa.Table | None],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = Registry(championed).history(), Registry(championed).champion_version()
    with labels_changed(lake, change):
        assert run(monkeypatch, "retraining", "week", "--lake", lake, "--models", championed, *SPANS, *QUICK) == 1
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert (Registry(championed).history(), Registry(championed).champion_version()) == before


def test_labels_that_were_delivered_twice_make_the_same_challenger(
    championed: Path, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for number, change in enumerate((lambda labels: labels, lambda labels: pa.concat_tables([labels, labels]))):
        models, figures = tmp_path / f"models-{number}", tmp_path / f"{number}.json"
        shutil.copytree(championed, models, symlinks=True)
        week = ("week", "--lake", lake, "--models", models, *SPANS, *QUICK, "--json", figures)
        with labels_changed(lake, change):
            code = run(monkeypatch, "retraining", *week)
        report = json.loads(figures.read_text())
        assert code == report["exit_code"] in {0, 3}
        found.append(
            (report["challenger"], [check["name"] for check in report["verdict"]["checks"] if check["passed"]])
        )
    assert found[0] == found[1]


def test_a_registry_that_does_not_answer_fails_the_iteration(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "eu-west-1", "AWS_MAX_ATTEMPTS": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    week = ("week", "--lake", lake, "--models", "sagemaker:nowhere", "--bucket", "nowhere", *SPANS)
    assert run(monkeypatch, "retraining", *week) == 1
    told = capsys.readouterr().err
    assert "(registry_unreachable)" in told
    assert "Traceback" not in told


def test_a_feature_that_counts_reports_before_they_arrive_is_found_by_the_prover_and_refused(
    championed: Path, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, figures = tmp_path / "models", tmp_path / "figures.json"
    shutil.copytree(championed, models, symlinks=True)
    column = FEATURE_NAMES.index("merchant_report_count_7d")

    def leaking(store: Any, folder: Path, progress: Progress) -> Builder:
        honest = training_set_builder(store, folder, progress)

        def build(start_ms: int, end_ms: int, as_of_ms: int) -> TrainingSet:
            rows = honest(start_ms, end_ms, as_of_ms)
            rows.matrix[rows.is_fraud, column] += 1.0  # its own report, which comes weeks later
            return rows

        return build

    monkeypatch.setattr(entry, "training_set_builder", leaking)
    week = ("week", "--lake", lake, "--models", models, *SPANS, "--seeds", "0", "--json", figures)
    assert run(monkeypatch, "retraining", *week) == 3
    report = json.loads(figures.read_text())
    checks = {check["name"]: check for check in report["verdict"]["checks"]}
    assert not checks["no_feature_sees_the_future"]["passed"]
    assert "rows are not what the audited path says of them" in checks["no_feature_sees_the_future"]["evidence"]
    assert report["champion"] == Registry(championed).champion_version()


def test_decisions_weigh_the_rows_and_required_parity_refuses_without_a_certificate(
    championed: Path, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, figures = tmp_path / "models", tmp_path / "figures.json"
    shutil.copytree(championed, models, symlinks=True)
    log = read_log(lake, 0, 2**42)
    declined = np.arange(len(log)) % 50 == 0
    drawn = np.arange(len(log)) % 50 == 1
    decisions = pa.table({
        "transaction_id": log["transaction_id"],
        "outcome": pa.array(np.where(declined, "decline", "approve").tolist()),
        "propensity": pa.array(np.where(declined | drawn, 0.5, 1.0)),
    })  # fmt: skip
    pq.write_table(decisions, tmp_path / "decisions.parquet")
    (tmp_path / "parameters.json").write_text('{"recipe": {"depth": 3, "trees": 40}}')
    week = (
        "week", "--lake", lake, "--models", models, *SPANS, *QUICK, "--json", figures, "--require-parity",
        "--decisions", tmp_path / "decisions.parquet", "--parameters", tmp_path / "parameters.json",
    )  # fmt: skip
    assert run(monkeypatch, "retraining", *week) == 3
    report = json.loads(figures.read_text())
    checks = {check["name"]: check for check in report["verdict"]["checks"]}
    assert checks["served_as_trained"]["evidence"] == "a parity certificate is required and none was given"
    told = json.loads((models / "reports" / report["challenger"] / "report.json").read_text())
    assert told["held_out"]["effective_rows"] < told["held_out"]["rows"]
    assert "by their weights they are worth" in checks["enough_mature_frauds"]["evidence"]
    recipe = told["provenance"]["recipe"]
    assert (recipe["depth"], recipe["trees"]) == (3, 40)
    assert "merchant_report_count_7d" in recipe["increasing"]
