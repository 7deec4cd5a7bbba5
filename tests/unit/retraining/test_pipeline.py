"""The pipeline's definition is made offline, the same each time, and every job in it is one that SageMaker takes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra import learning
from retraining.pipeline import GOLDEN, KEYS, NAME, PLACES, SUBNETS
from tests.support.pipelines import Execution, Runner, StartRefused, StepFailed, _Run

ROOT = Path(__file__).parents[3]
GIVEN: dict[str, Any] = {
    "AsOf": "2026-11-22T02:00:00Z",
    "Bucket": "tollgate-dev-lake-123456789012",
    "DataKey": "arn:aws:kms:eu-west-1:123456789012:key/11111111-1111-1111-1111-111111111111",
    "JobImage": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/tollgate-dev/job@sha256:" + "1" * 64,
    "InferenceImage": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/tollgate-dev/inference@sha256:" + "2" * 64,
    "JobRole": "arn:aws:iam::123456789012:role/tollgate-dev-jobs",
    "Region": "eu-west-1",
    "Registry": "sagemaker:tollgate-dev-scorer",
    "SecurityGroup": "sg-12345678",
    "SubnetA": "subnet-1",
    "SubnetB": "subnet-2",
    "SubnetC": "subnet-3",
}
NO_NETWORK = """
import socket
def refuse(*_, **__): raise RuntimeError("a call left this machine")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from retraining.pipeline import GOLDEN, render
first, second = render(), render()
assert first == second, "two renderings differ"
assert first == GOLDEN.read_text(), "the committed definition is another one"
import os
assert "AWS_ACCESS_KEY_ID" not in os.environ, "made-up credentials were left behind"
"""


@pytest.fixture(scope="module")
def definition() -> Any:
    return json.loads(GOLDEN.read_text())


@pytest.fixture
def runner(definition: Any, tmp_path: Path) -> Runner:
    s3 = boto3.client("s3", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    return Runner(definition, s3=s3, folder=tmp_path, endpoint="http://127.0.0.1:9")


def an_execution(runner: Runner, **changes: Any) -> _Run:
    run = _Run(runner._given(GIVEN | changes), Execution())
    rows = {"S3Output": {"S3Uri": "s3://b/rows"}}
    run.done.properties["Build"] = {"ProcessingOutputConfig": {"Outputs": {"rows": rows}}}
    run.done.properties["Fit"] = {"ModelArtifacts": {"S3ModelArtifacts": "s3://b/model.tar.gz"}}
    return run


def test_the_committed_definition_is_made_offline_and_the_same_each_time() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK], cwd=ROOT, env=clean | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_weekly_loop_imports_nothing_of_the_sdk() -> None:
    script = "import sys, retraining.__main__, retraining.pipeline; print('sagemaker' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_job_is_one_that_sagemaker_takes(definition: Any, runner: Runner) -> None:
    run = an_execution(runner)
    jobs = {step["Name"]: runner.arguments(step, run) for step in definition["Steps"] if step["Type"] != "Condition"}
    assert list(jobs) == ["Build", "Fit", "Judge"]
    for asked in jobs.values():
        assert asked["RoleArn"] == GIVEN["JobRole"]
    assert jobs["Build"]["AppSpecification"]["ImageUri"] == jobs["Judge"]["AppSpecification"]["ImageUri"]
    assert jobs["Fit"]["AlgorithmSpecification"]["TrainingImage"] == GIVEN["JobImage"]
    assert jobs["Fit"]["HyperParameters"] == {"seed": "0"}
    assert jobs["Build"]["NetworkConfig"]["VpcConfig"]["Subnets"] == ["subnet-1", "subnet-2", "subnet-3"]
    assert jobs["Fit"]["VpcConfig"]["SecurityGroupIds"] == ["sg-12345678"]
    assert "--as-of" in jobs["Build"]["AppSpecification"]["ContainerArguments"]


def test_a_key_is_none_unless_given_and_goes_to_the_job_that_reads_it(definition: Any, runner: Runner) -> None:
    declared = {item["Name"]: item for item in definition["Parameters"]}
    assert [declared[name]["DefaultValue"] for name in KEYS] == ["none"] * 4
    keys = {name: f"models/{name.lower()}" for name in KEYS}
    for given, run in ((dict.fromkeys(KEYS, "none"), an_execution(runner)), (keys, an_execution(runner, **keys))):
        told = {}
        for step in definition["Steps"]:
            if step["Type"] == "Processing":
                words = runner.arguments(step, run)["AppSpecification"]["ContainerArguments"]
                told[step["Name"]] = dict(zip(words[::2], words[1::2], strict=True))
        asked = {name: told["Judge" if name == "Parity" else "Build"][f"--{name.lower()}"] for name in KEYS}
        assert asked == given
        assert told["Build"]["--bucket"] == told["Judge"]["--bucket"] == GIVEN["Bucket"]


def test_the_jobs_role_reads_where_keys_are_said_to_lie() -> None:
    said = re.findall(r"`(models/[a-z]+\.[a-z]+)`", (ROOT / "docs/retraining.md").read_text())
    assert len(set(said)) == len(KEYS)
    policies = learning.build().to_dict()["Resources"]["JobRole"]["Properties"]["Policies"]
    statements = [one for policy in policies for one in policy["PolicyDocument"]["Statement"]]
    read = [one for one in statements if one["Action"] == ["s3:GetObject"]]
    allowed = [place["Fn::Sub"][0] for one in read for place in one["Resource"]]
    assert "${Bucket}/models/*" in allowed


def test_an_argument_of_the_wrong_kind_is_found_before_a_job_starts(definition: Any, runner: Runner) -> None:
    broken = json.loads(json.dumps(definition["Steps"][0]))
    broken["Arguments"]["ProcessingResources"]["ClusterConfig"]["InstanceCount"] = "one"
    with pytest.raises(
        StepFailed, match=r"Invalid type for parameter ProcessingResources\.ClusterConfig\.InstanceCount"
    ):
        runner.arguments(broken, an_execution(runner))


def test_nothing_is_uploaded_and_nothing_names_an_account(definition: Any) -> None:
    text = json.dumps(definition)
    assert "sourcedir" not in text
    assert "given-at-start" not in text
    assert "000000000000" not in text
    assert {item["Name"] for item in definition["Parameters"] if "DefaultValue" not in item} == {
        "AsOf",
        *PLACES,
        *SUBNETS,
    }
    assert NAME == "tollgate-weekly"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Sed": 1}, "unknown parameters"),
        ({"Seed": "one"}, "Seed='one' is no Integer"),
        ({"Approval": "never"}, "Approval='never'"),
        ({"JobRole": None}, "JobRole has no value"),
    ],
)
def test_parameters_that_do_not_fit_start_nothing(runner: Runner, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(StartRefused, match=said):
        runner.start(GIVEN | changes)
