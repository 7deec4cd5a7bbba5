import copy
from collections.abc import Callable
from typing import Any

import pytest

from infra import rendering, rules
from infra.stacks import STACKS

Template = dict[str, Any]
TEMPLATES: dict[str, Template] = {stack.name: rendering.as_data(stack) for stack in STACKS}


def properties(template: Template, title: str) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"][title]["Properties"]
    return found


def statements(template: Template, role: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = properties(template, role)["Policies"][0]["PolicyDocument"]["Statement"]
    return found


@pytest.mark.parametrize("stack", list(TEMPLATES))
def test_no_rule_is_broken(stack: str) -> None:
    assert rules.findings(stack, TEMPLATES[stack]) == []


def test_every_exception_has_a_reason() -> None:
    assert all(len(reason.split()) >= 2 for reason in rules.WILDCARDS.values())


def _any_resource(template: Template) -> None:
    statements(template, "ConsumerRole")[0]["Resource"] = ["*"]


def _any_action(template: Template) -> None:
    statements(template, "ConsumerRole")[1]["Action"] = ["s3:*"]


def _part_of_a_name(template: Template) -> None:
    statements(template, "ConsumerRole")[0]["Resource"] = [{"Fn::Sub": "arn:aws:kinesis:eu-west-1:1:stream/tollgate-*"}]


def _whole_bucket(template: Template) -> None:
    statements(template, "ConsumerRole")[1]["Resource"] = [{"Fn::Sub": ["${Bucket}/*", {"Bucket": "b"}]}]


def _needless_exception(template: Template) -> None:
    statements(template, "ConsumerRole")[:] = [
        item for item in statements(template, "ConsumerRole") if item["Sid"] != "Trace"
    ]


def _pass_any_role(template: Template) -> None:
    statements(template, "ConsumerRole").append({"Effect": "Allow", "Action": ["iam:PassRole"], "Resource": ["r"]})


def _no_key(template: Template) -> None:
    del properties(template, "ConsumerLog")["KmsKeyId"]


def _logs_for_ever(template: Template) -> None:
    del properties(template, "ConsumerLog")["RetentionInDays"]


def _no_owner(template: Template) -> None:
    properties(template, "Consumer")["Tags"] = [
        tag for tag in properties(template, "Consumer")["Tags"] if tag["Key"] != "Owner"
    ]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (_any_resource, "least-privilege"),
        (_any_action, "least-privilege"),
        (_part_of_a_name, "least-privilege"),
        (_whole_bucket, "least-privilege"),
        (_needless_exception, "least-privilege"),
        (_pass_any_role, "least-privilege"),
        (_no_key, "encryption"),
        (_logs_for_ever, "log-retention"),
        (_no_owner, "tags"),
    ],
)
def test_broken_stream_is_found(change: Callable[[Template], None], rule: str) -> None:
    template = copy.deepcopy(TEMPLATES["stream"])
    change(template)
    assert [item.rule for item in rules.findings("stream", template)] == [rule]


@pytest.mark.parametrize(
    ("title", "path", "value", "rule"),
    [
        ("Lake", "PublicAccessBlockConfiguration.BlockPublicPolicy", False, "no-public-access"),
        ("Lake", "BucketEncryption", None, "encryption"),
        ("Lake", "VersioningConfiguration.Status", "Suspended", "data-kept"),
        ("Transactions", "StreamEncryption.EncryptionType", "NONE", "encryption"),
        ("TableCardVelocity", "DeletionProtectionEnabled", False, "data-kept"),
        ("TableCardVelocity", "PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled", False, "data-kept"),
        ("TableCardVelocity", "SSESpecification.SSEEnabled", False, "encryption"),
        ("OnlineStore", "TransitEncryptionMode", "preferred", "encryption"),
        ("OnlineStore", "SnapshotRetentionLimit", 0, "data-kept"),
        ("Questions", "WorkGroupConfiguration.EnforceWorkGroupConfiguration", False, "encryption"),
    ],
)
def test_broken_data_is_found(title: str, path: str, value: Any, rule: str) -> None:
    template = copy.deepcopy(TEMPLATES["data"])
    *parents, last = path.split(".")
    place = properties(template, title)
    for part in parents:
        place = place[part]
    place[last] = value
    assert [item.rule for item in rules.findings("data", template)] == [rule]


@pytest.mark.parametrize("title", ["Lake", "Transactions", "TableCardVelocity", "OnlineStore", "InferenceImages"])
@pytest.mark.parametrize("attribute", ["DeletionPolicy", "UpdateReplacePolicy"])
def test_data_that_would_be_deleted_is_found(title: str, attribute: str) -> None:
    template = copy.deepcopy(TEMPLATES["data"])
    template["Resources"][title][attribute] = "Delete"
    assert [item.rule for item in rules.findings("data", template)] == ["data-kept"]


def test_way_to_the_internet_is_found() -> None:
    template = copy.deepcopy(TEMPLATES["network"])
    template["Resources"]["Gateway"] = {
        "Type": "AWS::EC2::InternetGateway",
        "Properties": {"Tags": [{"Key": key, "Value": "x"} for key in rules.TAGS]},
    }
    properties(template, "CacheFromScorer")["CidrIp"] = "0.0.0.0/0"
    del properties(template, "ScorerGroup")["SecurityGroupEgress"]
    found = rules.findings("network", template)
    assert sorted(item.resource for item in found) == ["CacheFromScorer", "Gateway", "ScorerGroup"]
    assert {item.rule for item in found} == {"no-public-access"}
