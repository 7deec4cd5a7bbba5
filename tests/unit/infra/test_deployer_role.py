"""The deployer's function may do what it does, and nothing else: its calls against the statements of its role."""

import dataclasses
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final

import boto3
import pytest
from moto import mock_aws

from fraud.scaling import PLAN
from infra import learning, rendering
from infra.alarms import rollout_guards
from infra.approval import act
from infra.environment import read_environment
from infra.names import address
from infra.stacks import STACKS
from infra.wiring import clients, wire
from retraining.pipeline import GOLDEN
from tests.support.guards import quiet_guards
from tests.support.hosting import Hosting, sagemaker_hosting

# What AWS asks of a call's sender besides the action of its own name ("Amazon SageMaker API permissions reference",
# "Prerequisites" of automatic scaling there, PutMetricAlarm's `Tags`).
BESIDES: Final = {
    "sagemaker:CreateModel": {"iam:PassRole", "sagemaker:AddTags"},
    "sagemaker:CreateEndpointConfig": {"sagemaker:AddTags"},
    "sagemaker:CreateEndpoint": {"kms:CreateGrant", "sagemaker:AddTags"},
    "sagemaker:UpdateEndpoint": {"kms:CreateGrant"},
    "cloudwatch:PutMetricAlarm": {"cloudwatch:TagResource"},
    "application-autoscaling:RegisterScalableTarget": {
        "iam:CreateServiceLinkedRole",
        "sagemaker:DescribeEndpoint",
        "sagemaker:DescribeEndpointConfig",
        "sagemaker:UpdateEndpointWeightsAndCapacities",
    },
    "application-autoscaling:PutScalingPolicy": {
        "cloudwatch:DeleteAlarms",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:PutMetricAlarm",
    },
}
# The function's own running: its log, its trace, its queue, its variables.
RUNNING: Final = {
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "sqs:SendMessage",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}
PERMITTED_TO_ALL: Final = {"sts:GetCallerIdentity"}
BEFORE_A_PROMOTION: Final = int(datetime(2026, 10, 5, 12, tzinfo=UTC).timestamp() * 1000)
AFTER_IT: Final = int(datetime(2027, 10, 5, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def hosting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosting]:
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws(), sagemaker_hosting(monkeypatch) as emulated:
        yield emulated


def prepare() -> list[str]:
    """Make what the stacks give and the registry holds; return two approved packages."""
    ssm, cloudwatch, sagemaker = boto3.client("ssm"), boto3.client("cloudwatch"), boto3.client("sagemaker")
    given = {"serving": ["scorer-role-arn"], "data": ["store-host", "store-scorer-password-arn"]}
    given["network"] = ["scorer-group", "key-arn", *(f"private-subnet-{zone}" for zone in "abc")]
    for stack, keys in given.items():
        for key in keys:
            value = "arn:aws:iam::123456789012:role/tollgate-dev-scorer" if key.endswith("role-arn") else "given"
            ssm.put_parameter(Name=address("dev", stack, key), Value=value, Type="String")
    quiet_guards(cloudwatch, rollout_guards("dev"))
    sagemaker.create_model_package_group(ModelPackageGroupName="tollgate-dev-scorer")
    return [
        sagemaker.create_model_package(
            ModelPackageGroupName="tollgate-dev-scorer",
            ModelApprovalStatus="Approved",
            InferenceSpecification={
                "Containers": [{"Image": "i@sha256:" + "1" * 64, "ModelDataUrl": f"s3://models/{number}.tar.gz"}],
                "SupportedContentTypes": ["application/json"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
        )["ModelPackageArn"]
        for number in (1, 2)
    ]


def permitted(role: str) -> dict[str, list[str]]:
    """Return the actions of a role of the learning stack, each with the resources it is allowed on."""
    template = rendering.as_data(next(stack for stack in STACKS if stack.name == "learning"))
    found: dict[str, list[str]] = {}
    for policy in template["Resources"][role]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            for action in statement["Action"]:
                found.setdefault(action, []).append(json.dumps(statement["Resource"]))
    return found


class Answered:
    """What botocore looks at of an answer that did not come over the network."""

    status_code = 200


def _prefix(service: Any) -> str:
    """Return the name that IAM has for a service: boto3's own, but for one with a dash too many."""
    name = str(service.service_name)
    return {"service-quotas": "servicequotas"}.get(name, name)


def asked(hosting: Hosting, packages: list[str]) -> set[str]:
    """Return the actions of a first release and a second one, with their ends, in an environment with peaks."""
    calls: set[str] = set()
    environment = read_environment("dev")
    make = clients(environment)

    def record(model: Any, **_: Any) -> tuple[Answered, dict[str, Any]] | None:
        calls.add(f"{_prefix(model.service_model)}:{model.name}")
        # moto knows no list of quotas: that call is made, recorded and answered here.
        return (Answered(), {"Quotas": []}) if model.name == "ListServiceQuotas" else None

    def recording(service: str) -> Any:
        client = make(service)
        client.meta.events.register("before-call", record)
        return client

    wired = wire(recording, environment)
    with_peaks = dataclasses.replace(environment, scaling=PLAN)
    for package, now_ms in zip(packages, (BEFORE_A_PROMOTION, AFTER_IT), strict=True):
        approval = {"detail-type": "SageMaker Model Package State Change", "detail": {"ModelPackageArn": package}}
        act(approval, wired, with_peaks, now_ms=now_ms)
        hosting.settle()
        act({"detail-type": "SageMaker Endpoint State Change"}, wired, with_peaks, now_ms=now_ms)
    return calls


def test_deployer_may_do_what_it_does_and_nothing_else(hosting: Hosting) -> None:
    calls = asked(hosting, prepare())
    needed = calls.union(*(BESIDES.get(call, set()) for call in calls)) - PERMITTED_TO_ALL
    assert {"application-autoscaling:DeleteScheduledAction", "servicequotas:ListServiceQuotas"} <= calls
    assert set(permitted("DeployerRole")) - RUNNING == needed - RUNNING


def alarms(action: str) -> set[str]:
    """Return the names or patterns of this environment's alarms that the deployer may do something to."""
    resources = " ".join(permitted("DeployerRole")[f"cloudwatch:{action}"])
    return {found.replace("${Environment}", "dev") for found in re.findall(r":alarm:([^\"]+)", resources)}


def test_deployers_alarms_are_those_of_scaling(hosting: Hosting) -> None:
    asked(hosting, prepare())
    found = boto3.client("cloudwatch").describe_alarms()["MetricAlarms"]
    ours = {item["AlarmName"] for item in found if not item["AlarmName"].startswith("TargetTracking-")}
    made = ours - set(rollout_guards("dev"))
    assert made == {"tollgate-dev-scorer-burst"}
    # As Application Auto Scaling names them: TargetTracking-<resource id>-AlarmHigh-<uuid>.
    tracking = "TargetTracking-endpoint/tollgate-dev-scorer/*"
    assert alarms("PutMetricAlarm") == made | {tracking}
    assert alarms("TagResource") == made
    assert alarms("DeleteAlarms") == {tracking}


@pytest.mark.parametrize("action", ["PutMetricAlarm", "TagResource", "DeleteAlarms"])
def test_deployer_reads_its_guards_and_changes_none(action: str) -> None:
    for guard in rollout_guards("dev"):
        assert not any(fnmatchcase(guard, pattern) for pattern in alarms(action)), guard
        assert any(fnmatchcase(guard, pattern) for pattern in alarms("DescribeAlarms")), guard


def test_jobs_may_have_their_volumes_and_outputs_encrypted_with_the_data_key() -> None:
    # Both are asked for: by the nightly job's request and by every job of the weekly pipeline.
    assert "VolumeKmsKeyId" in json.dumps(learning._nightly_job())
    assert {"VolumeKmsKeyId", "KmsKeyId"} <= set(re.findall(r'"(\w*KmsKeyId)"', GOLDEN.read_text(encoding="utf-8")))
    for action in ("kms:CreateGrant", "kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"):
        (resource,) = permitted("JobRole")[action]
        assert "KeyArn" in resource
