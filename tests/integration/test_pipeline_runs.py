"""The committed pipeline run from end to end: real jobs between /opt/ml folders, an emulator's S3 and registry."""

import copy
import hashlib
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retraining.__main__ import main as one_machine
from retraining.exchange import read_rows
from retraining.jobs import ROOT
from retraining.pipeline import GOLDEN
from retraining.registry import Registry
from retraining.sagemaker_registry import SageMakerRegistry
from retraining.steps import plan_of
from retraining.verdict import Verdict
from simulation.config import WorldConfig
from simulation.lake import write
from simulation.world import generate
from tests.support.bundles import bundle_files
from tests.support.hosting import empty_account, sagemaker_hosting
from tests.support.pipelines import Execution, Runner
from training.challenger import fit_challenger
from training.dataset import read_log
from training.profiles import write_profiles

BUCKET, GROUP = "tollgate-dev-lake-123456789012", "tollgate-dev-scorer"
GIVEN: dict[str, Any] = {
    "AsOf": "2026-02-14T02:00:00Z",
    "Bucket": BUCKET,
    "DataKey": "arn:aws:kms:eu-west-1:123456789012:key/11111111-1111-1111-1111-111111111111",
    "JobImage": "job",
    "InferenceImage": "inference",
    "JobRole": "arn:aws:iam::123456789012:role/tollgate-dev-jobs",
    "Region": "eu-west-1",
    "Registry": f"sagemaker:{GROUP}",
    "SecurityGroup": "sg-12345678",
    "SubnetA": "subnet-1",
    "SubnetB": "subnet-2",
    "SubnetC": "subnet-3",
    "TrainDays": 12,
    "ValidationDays": 6,
    "TestDays": 6,
    "LabelDelayDays": 14,
    "Approval": "automatic",
}


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, empty_account(patch) as address, sagemaker_hosting(patch):
        yield address


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline") / "lake"
    config = WorldConfig(days=48, transactions_per_day=500, seed=3, start=date(2026, 1, 5), fraud_share=0.04)
    write(generate(config), folder)
    write_profiles(folder, progress=lambda *_: None)
    (folder / "truth.parquet").unlink()  # a bucket has none
    return folder


@pytest.fixture(scope="module")
def s3(aws: str, lake: Path) -> Any:
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for path in [*lake.glob("transactions/*/*"), *lake.glob("profiles/*/*"), lake / "labels.parquet"]:
        client.upload_file(str(path), BUCKET, str(path.relative_to(lake)))
    boto3.client("sagemaker").create_model_package_group(ModelPackageGroupName=GROUP)
    return client


@pytest.fixture(scope="module")
def runner(s3: Any, aws: str, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    definition = json.loads(GOLDEN.read_text())
    return Runner(definition, s3=s3, folder=tmp_path_factory.mktemp("opt-ml"), endpoint=aws)


@pytest.fixture(scope="module")
def registry(s3: Any) -> SageMakerRegistry:
    return SageMakerRegistry(boto3.client("sagemaker"), s3, group=GROUP, bucket=BUCKET)


@pytest.fixture(scope="module")
def passed(runner: Runner) -> Execution:
    return runner.start(GIVEN)


def test_a_challenger_that_passes_is_registered_with_its_verdict(
    passed: Execution, registry: SageMakerRegistry
) -> None:
    assert (passed.outcome, passed.reason) == ("Succeeded", "")
    assert passed.steps == dict.fromkeys(("Build", "Fit", "Judge", "Gate"), "Succeeded")
    verdict = passed.files["Judge", "Verdict"]
    assert (verdict["passed"], verdict["repeated"]) == (True, False)
    checks = {check["name"]: check for check in verdict["verdict"]["checks"]}
    assert "audited rows saw what its payment could not" in checks["no_feature_sees_the_future"]["evidence"]
    assert checks["seeds_agree"]["evidence"].startswith("PR-AUC of 3 seeds ")
    assert checks["keeps_monotone"]["evidence"].endswith("no margin fell")
    assert checks["labels_mature"]["asked"]
    assert [name for name, check in checks.items() if not check["asked"]] == ["catches_every_type", "served_as_trained"]
    assert registry.champion_version() == verdict["challenger"] == verdict["champion"]
    champion = registry.champion()
    assert champion is not None
    assert champion.provenance["seed"] == 0
    assert [event["event"] for event in registry.history()] == ["promoted"]


def test_the_jobs_make_the_bundle_that_one_process_makes(passed: Execution, s3: Any, tmp_path: Path) -> None:
    uri = passed.properties["Build"]["ProcessingOutputConfig"]["Outputs"]["rows"]["S3Output"]["S3Uri"]
    prefix = uri.removeprefix(f"s3://{BUCKET}/")
    for name in ("matrix.npy", "columns.parquet", "about.json"):
        s3.download_file(BUCKET, f"{prefix}/{name}", str(tmp_path / name))
    rows, about = read_rows(tmp_path)
    fitted = fit_challenger(rows, plan_of(about), as_of_ms=rows.as_of_ms, read_plan=about["read_plan"], root=ROOT)
    version = hashlib.sha256(fitted.files["manifest.json"]).hexdigest()[:16]
    assert version == passed.files["Judge", "Verdict"]["challenger"]


def test_decisions_parameters_and_policy_give_the_model_and_the_verdict_of_a_week_on_one_machine(
    lake: Path, runner: Runner, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = read_log(lake, 0, 2**42)
    place = np.arange(len(log))
    decisions = pa.table({
        "transaction_id": log["transaction_id"],
        "outcome": pa.array(np.where(place % 50 == 0, "decline", "approve").tolist()),
        "propensity": pa.array(np.where(place % 50 <= 1, 0.3, 1.0)),
    })  # fmt: skip
    files = {name: tmp_path / f"{name}.file" for name in ("decisions", "parameters", "policy")}
    pq.write_table(decisions, files["decisions"])
    files["parameters"].write_text('{"recipe": {"depth": 3, "trees": 40, "learning_rate": 0.3}}')
    files["policy"].write_text('{"missing_outcome": "review", "control_share": 0.005}')
    champion = bundle_files(seed=7)
    for name in ("laptop", "pipeline"):
        known = Registry(tmp_path / name)
        known.promote(known.add(champion).version, Verdict(()), as_of_ms=1)
    spans = {"--train-days": 12, "--validation-days": 6, "--test-days": 6, "--label-delay": 14}
    words = [str(word) for pair in spans.items() for word in pair]
    words += [word for name, path in files.items() for word in (f"--{name}", str(path))]
    week = ["week", "--lake", str(lake), "--models", str(tmp_path / "laptop"), "--as-of", GIVEN["AsOf"][:10], *words]
    monkeypatch.setattr("sys.argv", ["retraining", *week, "--json", str(tmp_path / "week.json")])
    with pytest.raises(SystemExit):
        one_machine()
    laptop = json.loads((tmp_path / "week.json").read_text())
    for name, path in files.items():
        s3.upload_file(str(path), BUCKET, f"models/{name}")
    keys = {name.capitalize(): f"models/{name}" for name in files}
    jobs = runner.start(GIVEN | keys | {"Registry": f"file:{tmp_path / 'pipeline'}"}).files["Judge", "Verdict"]
    assert jobs["challenger"] == laptop["challenger"]
    assert (jobs["promoted"], jobs["rows"], jobs["frauds"]) == (laptop["promoted"], laptop["rows"], laptop["frauds"])
    said = [{check["name"]: check for check in report["verdict"]["checks"]} for report in (jobs, laptop)]
    assert "by their weights they are worth" in said[0]["enough_mature_frauds"]["evidence"]
    for checks in said:
        checks["scores_in_time"].pop("evidence")  # a measurement
    assert said[0] == said[1]
    provenance = json.loads((tmp_path / "pipeline/versions" / jobs["challenger"] / "provenance.json").read_text())
    assert (provenance["recipe"]["depth"], provenance["recipe"]["trees"]) == (3, 40)


def test_a_doubled_start_changes_nothing(passed: Execution, runner: Runner, registry: SageMakerRegistry) -> None:
    before = (registry.packages(), registry.history())
    again = runner.start(GIVEN, after=passed, reused=("Build",))
    assert again.outcome == "Succeeded"
    verdict = again.files["Judge", "Verdict"]
    assert verdict == passed.files["Judge", "Verdict"] | {"repeated": True}
    assert (registry.packages(), registry.history()) == before


def test_a_set_that_nobody_proved_and_a_certificate_that_is_not_there_are_refused(
    passed: Execution, runner: Runner, s3: Any
) -> None:
    unproven = copy.deepcopy(passed)
    place = unproven.properties["Build"]["ProcessingOutputConfig"]["Outputs"]["rows"]["S3Output"]
    for name in ("about.json", "columns.parquet", "facts.parquet", "matrix.npy"):
        key = f"{place['S3Uri'].removeprefix(f's3://{BUCKET}/')}/{name}"
        whole = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        if name == "about.json":
            about = json.loads(whole)
            assert about["about"].pop("proof")["passed"] is True
            whole = json.dumps(about).encode()
        s3.put_object(Bucket=BUCKET, Key=f"unproven/{name}", Body=whole)
    place["S3Uri"] = f"s3://{BUCKET}/unproven"
    given = GIVEN | {"Parity": "certificates/none.json", "Again": "yes"}
    refused = runner.start(given, after=unproven, reused=("Build", "Fit"))
    checks = {check["name"]: check for check in refused.files["Judge", "Verdict"]["verdict"]["checks"]}
    failed = {name for name, check in checks.items() if not check["passed"]}
    assert failed == {"no_feature_sees_the_future", "served_as_trained"}
    assert "none.json is no parity certificate" in checks["served_as_trained"]["evidence"]


def test_a_refusal_fails_the_pipeline_with_the_gates_reason(
    passed: Execution, runner: Runner, registry: SageMakerRegistry
) -> None:
    refused = runner.start(GIVEN | {"TestDays": 2, "Again": "yes"})
    assert refused.outcome == "Failed"
    assert refused.steps == {
        "Build": "Succeeded", "Fit": "Succeeded", "Judge": "Succeeded", "Gate": "Succeeded", "Refused": "Failed",
    }  # fmt: skip
    challenger = refused.files["Judge", "Verdict"]["challenger"]
    assert f"the gate refused {challenger} and the champion stays: enough_mature_frauds: " in refused.reason
    assert registry.champion_version() == passed.files["Judge", "Verdict"]["challenger"] != challenger
    status = {package.version: package.status for package in registry.packages()}
    assert status[challenger] == "Rejected"


def test_a_training_that_cannot_be_done_leaves_the_champion_and_says_why(
    passed: Execution, runner: Runner, registry: SageMakerRegistry, s3: Any
) -> None:
    before = (registry.packages(), registry.history())
    broken = copy.deepcopy(passed)
    place = broken.properties["Build"]["ProcessingOutputConfig"]["Outputs"]["rows"]["S3Output"]
    for name in ("about.json", "columns.parquet", "matrix.npy"):
        key = f"{place['S3Uri'].removeprefix(f's3://{BUCKET}/')}/{name}"
        whole = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        s3.put_object(Bucket=BUCKET, Key=f"broken/{name}", Body=whole[: -100 if name == "matrix.npy" else None])
    place["S3Uri"] = f"s3://{BUCKET}/broken"
    crashed = runner.start(GIVEN, after=broken, reused=("Build",))
    assert (crashed.outcome, crashed.steps) == ("Failed", {"Fit": "Failed"})
    assert "Fit: AlgorithmError: exit code 1: " in crashed.reason
    assert "holds no training set of the step before" in crashed.reason
    no_seed = runner.start(GIVEN | {"Seed": -1}, after=passed, reused=("Build",))
    assert (no_seed.outcome, no_seed.steps) == ("Failed", {"Fit": "Failed"})
    assert "seed '-1' is no whole number (invalid_pipeline)" in no_seed.reason
    assert (registry.packages(), registry.history()) == before


def test_a_key_that_is_not_there_and_days_that_are_missing_fail_the_first_step_with_the_reason(runner: Runner) -> None:
    no_key = runner.start(GIVEN | {"Decisions": "models/nothing.parquet"})
    assert no_key.steps == {"Build": "Failed"}
    assert f"s3://{BUCKET}/models/nothing.parquet is not there: put it there" in no_key.reason
    no_days = runner.start(GIVEN | {"AsOf": "2026-03-14"})
    assert no_days.steps == {"Build": "Failed"}
    assert "6 of 24 days have no transaction, the first 2026-02-22" in no_days.reason


def test_a_day_that_is_none_and_a_registry_that_is_not_there_fail_their_step_with_the_reason(
    passed: Execution, runner: Runner
) -> None:
    no_day = runner.start(GIVEN | {"AsOf": "yesterday"})
    assert no_day.steps == {"Build": "Failed"}
    assert "as-of 'yesterday' is not a day such as 2026-03-01 (invalid_split)" in no_day.reason
    elsewhere = runner.start(GIVEN | {"Registry": "sagemaker:nowhere"}, after=passed, reused=("Build", "Fit"))
    assert elsewhere.steps == {"Judge": "Failed"}
    assert "in nowhere: " in elsewhere.reason
    assert "(registry_unreachable)" in elsewhere.reason
