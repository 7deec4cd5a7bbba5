"""A stack's template in the making: parameters, resources, tags, and what it takes from and gives to other stacks.

Stacks meet through SSM parameters named ``/tollgate/<environment>/<stack>/<key>``, which the deployer reads too. A
stack's own names are ``tollgate-<environment>-<suffix>``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from troposphere import AWSObject, Equals, Parameter, Ref, Sub, Tags, Template, iam, logs, ssm

from infra.names import PRODUCT

LOG_DAYS: Final = 365
"""How long logs are kept."""

DIGEST: Final = r"^[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/[a-z0-9._/-]+@sha256:[0-9a-f]{64}$"
"""An image is named by its digest, never by a tag."""


def name(suffix: str) -> Sub:
    """Return the name of something of this environment, as CloudFormation works it out."""
    return Sub(f"{PRODUCT}-${{Environment}}-{suffix}")


def camel(words: str) -> str:
    """Return ``words`` as a logical id.

    Examples
    --------
    >>> camel("network/private-subnet-a")
    'NetworkPrivateSubnetA'
    """
    return "".join(part[:1].upper() + part[1:] for part in words.replace("/", "-").replace("_", "-").split("-"))


def arn(service: str, resource: str, *, region: bool = True) -> Sub:
    """Return an ARN in this account."""
    where = "${AWS::Region}" if region else ""
    return Sub(f"arn:${{AWS::Partition}}:{service}:{where}:${{AWS::AccountId}}:{resource}")


def allow(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[Any],
    condition: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a statement of a policy."""
    statement: dict[str, Any] = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    if condition:
        statement["Condition"] = dict(condition)
    return statement


def document(*statements: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy document."""
    return {"Version": "2012-10-17", "Statement": [dict(statement) for statement in statements]}


class Blueprint:
    """One stack.

    Parameters
    ----------
    stack
        Its short name: ``network``, ``data``, ``stream``, ``serving`` or ``learning``.
    about
        What it holds and how long that lives.
    """

    def __init__(self, stack: str, about: str) -> None:
        self.stack = stack
        self.template = Template(Description=about)
        self.template.set_version()
        self.taken: dict[str, str] = {}
        self.parameter("Environment", "Name of the environment, part of every name.", AllowedPattern="^[a-z]{2,8}$")
        self.parameter("Owner", "Team to ask; a tag.", MinLength=1)
        self.parameter("CostCentre", "Who pays; a tag.", MinLength=1)

    def parameter(self, logical_id: str, about: str, kind: str = "String", **bounds: Any) -> Ref:
        """Declare a parameter and return a reference to it."""
        self.template.add_parameter(Parameter(logical_id, Type=kind, Description=about, **bounds))
        return Ref(logical_id)

    def take(self, stack: str, key: str, kind: str = "String") -> Ref:
        """Return what another stack gives."""
        logical_id = camel(f"{stack}/{key}")
        if logical_id not in self.taken:
            self.taken[logical_id] = f"{stack}/{key}"
            self.parameter(logical_id, f"SSM parameter of {stack}/{key}.", f"AWS::SSM::Parameter::Value<{kind}>")
        return Ref(logical_id)

    def give(self, key: str, value: Any, **attributes: Any) -> None:
        """Say ``value`` to other stacks and to the deployer."""
        path = f"/{PRODUCT}/${{Environment}}/{self.stack}/{key}"
        self.add(ssm.Parameter(camel(f"give-{key}"), Name=Sub(path), Type="String", Value=value, **attributes))

    def add(self, resource: Any) -> Any:
        """Add a resource and return it."""
        return self.template.add_resource(resource)

    def excuse(self, resource: Any, **reasons: str) -> None:
        """Say in the template why checks of checkov do not hold for a resource."""
        skipped = [{"id": check, "comment": reason} for check, reason in sorted(reasons.items())]
        resource.Metadata = {"checkov": {"skip": skipped}}

    def condition(self, logical_id: str, rule: Any) -> str:
        """Declare a condition and return its name."""
        self.template.add_condition(logical_id, rule)
        return logical_id

    def store_kind(self) -> Ref:
        """Return which online store the environment has."""
        if "StoreKind" not in self.template.parameters:
            self.parameter("StoreKind", "Which online store.", AllowedValues=["redis", "dynamodb"])
        return Ref("StoreKind")

    def on_store(self, kind: str) -> str:
        """Return the name of the condition that the online store is of a kind."""
        logical_id = {"redis": "OnRedis", "dynamodb": "OnDynamoDb"}[kind]
        if logical_id not in self.template.conditions:
            self.condition(logical_id, Equals(self.store_kind(), kind))
        return logical_id

    def log_group(self, logical_id: str, group: Any, key: Any, **attributes: Any) -> Any:
        """Add a log group: encrypted, kept for ``LOG_DAYS``."""
        group = logs.LogGroup(
            logical_id,
            LogGroupName=group,
            RetentionInDays=LOG_DAYS,
            KmsKeyId=key,
            DeletionPolicy="RetainExceptOnCreate",
            UpdateReplacePolicy="Retain",
            **attributes,
        )
        return self.add(group)

    def role(self, logical_id: str, suffix: str, service: str, statements: Sequence[Mapping[str, Any]]) -> Any:
        """Add a role that one AWS service may take, in this account only, with one policy."""
        trust = {
            "Effect": "Allow",
            "Principal": {"Service": f"{service}.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        if service == "firehose":  # names the account in its own way
            trust["Condition"] = {"StringEquals": {"sts:ExternalId": Ref("AWS::AccountId")}}
        elif service != "lambda":  # Lambda assumes a function's role without naming the account
            trust["Condition"] = {"StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")}}
        policy = iam.Policy(PolicyName=suffix, PolicyDocument=document(*statements))
        role = iam.Role(
            logical_id,
            RoleName=name(suffix),
            AssumeRolePolicyDocument=document(trust),
            Policies=[policy],
        )
        return self.add(role)

    def finish(self) -> Template:
        """Tag everything that takes tags and return the template."""
        for resource in self.template.resources.values():
            kind = resource.props.get("Tags")
            if kind is not None and "Tags" not in resource.properties:
                resource.Tags = _tags(resource, as_dict=kind[0] is dict)
        return self.template


def _tags(resource: AWSObject, *, as_dict: bool) -> Any:
    values = {
        "Product": PRODUCT,
        "Environment": Ref("Environment"),
        "Owner": Ref("Owner"),
        "CostCentre": Ref("CostCentre"),
        "Name": Sub(f"{PRODUCT}-${{Environment}}-{resource.title}"),
    }
    return values if as_dict else Tags(**values)


def subnets(blueprint: Blueprint) -> list[Ref]:
    """Return the three private subnets."""
    return [blueprint.take("network", f"private-subnet-{zone}", "AWS::EC2::Subnet::Id") for zone in ("a", "b", "c")]


def vpc_access() -> dict[str, Any]:
    """Return what a Lambda function or SageMaker container in a VPC needs for its network interfaces."""
    return allow(
        "NetworkInterfaces",
        [
            "ec2:CreateNetworkInterface",
            "ec2:CreateNetworkInterfacePermission",
            "ec2:DeleteNetworkInterface",
            "ec2:DeleteNetworkInterfacePermission",
            "ec2:DescribeDhcpOptions",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeVpcs",
        ],
        ["*"],
    )


INTERFACES_EXCUSED: Final = {
    "CKV_AWS_109": "EC2 has no resource for network interfaces that do not exist yet",
    "CKV_AWS_111": "EC2 has no resource for network interfaces that do not exist yet",
}
"""Checks that :func:`vpc_access` cannot pass."""


def key_use(key: Any, *, write: bool) -> dict[str, Any]:
    """Return the use of the data key, for reading or for both."""
    return allow("DataKey", ["kms:Decrypt", *(["kms:GenerateDataKey"] if write else [])], [key])


def key_grant(key: Any) -> dict[str, Any]:
    """Return what it takes to have SageMaker encrypt a volume with the data key: it works by grants of its own.

    No ``kms:GrantIsForAWSResource``: AWS's description of these roles names none, and grants for SageMaker's volumes
    are reported not to satisfy it.
    """
    return allow("Volumes", ["kms:CreateGrant"], [key])
