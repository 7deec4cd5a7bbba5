"""What an emulator makes of our templates: only types that it truly creates, and a list of those left out.

moto answers CREATE_COMPLETE for types it has never heard of, so a green stack proves nothing by itself. Whatever is not
on the list below is taken out before the template is sent, and said to be.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SUPPORTED: Final = frozenset(
    {
        "AWS::CloudWatch::Dashboard",
        "AWS::DynamoDB::Table",
        "AWS::EC2::RouteTable",
        "AWS::EC2::SecurityGroup",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::EC2::Subnet",
        "AWS::EC2::SubnetRouteTableAssociation",
        "AWS::EC2::VPC",
        "AWS::ECR::Repository",
        "AWS::Events::Rule",
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::Role",
        "AWS::KMS::Alias",
        "AWS::KMS::Key",
        "AWS::Kinesis::Stream",
        "AWS::Lambda::EventSourceMapping",
        "AWS::Lambda::Function",
        "AWS::Lambda::Permission",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::SNS::Topic",
        "AWS::SQS::Queue",
        "AWS::SSM::Parameter",
    }
)
"""Types whose resources were found through their own service's API after moto had deployed them."""

DROPPED: Final[Mapping[str, tuple[str, ...]]] = {
    "AWS::KMS::Key": ("Tags",),
    "AWS::Kinesis::Stream": ("StreamModeDetails",),
    "AWS::SSM::Parameter": ("Tags",),
}
"""Properties on which moto stumbles, or which it does not look at, by type."""


@dataclass(frozen=True)
class Skipped:
    """A resource left out, or a property of one: ``type`` is then ``<type>.<property>``."""

    resource: str
    type: str


def reduce(template: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[Skipped]]:
    """Return a template of supported types only, and what was left out.

    Whatever pointed to a resource left out becomes the text ``skipped-<resource>``; a password to be looked up becomes
    ``skipped-secret``. A stream that scales by itself becomes one of a single shard.

    Examples
    --------
    >>> queue = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Ref": "Cache"}}}
    >>> small, skipped = reduce({"Resources": {"Q": queue, "Cache": {"Type": "AWS::ElastiCache::ReplicationGroup"}}})
    >>> small["Resources"]["Q"]["Properties"], skipped[0].resource
    ({'QueueName': 'skipped-Cache'}, 'Cache')
    """
    resources = template["Resources"]
    skipped = [Skipped(title, item["Type"]) for title, item in resources.items() if item["Type"] not in SUPPORTED]
    gone = {item.resource for item in skipped}
    kept = {title: _without(item, gone) for title, item in resources.items() if title not in gone}
    for title, item in kept.items():
        dropped = [name for name in DROPPED.get(item["Type"], ()) if name in item["Properties"]]
        item["Properties"] = {name: value for name, value in item["Properties"].items() if name not in dropped}
        skipped += [Skipped(title, f"{item['Type']}.{name}") for name in dropped if name != "Tags"]
    numbers = {name for name, item in template.get("Parameters", {}).items() if item["Type"] == "Number"}
    conditions = _with_numbers(template.get("Conditions", {}), numbers)
    return {**template, **({"Conditions": conditions} if conditions else {}), "Resources": kept}, skipped


def body(template: Mapping[str, Any]) -> str:
    """Return a template as CloudFormation takes it."""
    return json.dumps(template, sort_keys=True)


def _with_numbers(value: Any, numbers: set[str]) -> Any:
    """Return conditions in which a number is compared with a number: moto calls 0 and "0" different."""
    if isinstance(value, list):
        return [_with_numbers(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    sides = value.get("Fn::Equals", ())
    if any(isinstance(side, dict) and side.get("Ref") in numbers for side in sides):
        return {"Fn::Equals": [int(side) if isinstance(side, str) else side for side in sides]}
    return {key: _with_numbers(item, numbers) for key, item in value.items()}


def _without(value: Any, gone: set[str]) -> Any:
    if isinstance(value, str):
        return "skipped-secret" if value.startswith("{{resolve:") else value
    if isinstance(value, list):
        return [_without(item, gone) for item in value]
    if not isinstance(value, dict):
        return value
    target = value.get("Ref") or value.get("Fn::GetAtt")
    title = target[0] if isinstance(target, list) else target
    if len(value) == 1 and title in gone:
        return f"skipped-{title}"
    if set(value) == {"Fn::Sub"}:
        return _text(value["Fn::Sub"], gone)
    return {key: _without(item, gone) for key, item in value.items() if not (key == "DependsOn" and item in gone)}


def _text(value: Any, gone: set[str]) -> Any:
    text, names = (value, {}) if isinstance(value, str) else (value[0], value[1])
    if text.startswith("{{resolve:"):
        return "skipped-secret"

    def replace(match: re.Match[str]) -> str:
        return f"skipped-{match[1]}" if match[1] in gone else match[0]

    text = re.sub(r"\$\{(\w+)(?:\.\w+)*\}", replace, text)
    return {"Fn::Sub": [text, {key: _without(item, gone) for key, item in names.items()}] if names else text}
