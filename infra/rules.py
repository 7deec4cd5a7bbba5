"""Our own rules for a template: least privilege, encryption, nothing public, tags, data kept, logs that end.

cfn-lint knows whether a template is valid; these rules know what this house promises. Every exception is listed here
with its reason, and an exception that nothing needs any more breaks a rule too.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

TAGS: Final = frozenset({"Product", "Environment", "Owner", "CostCentre"})


@dataclass(frozen=True)
class Finding:
    """A rule that a resource breaks."""

    rule: str
    resource: str
    detail: str


# (stack, resource, statement): why a statement names every action or resource, or a resource by a part of its name.
WILDCARDS: Final[Mapping[tuple[str, str, str], str]] = {
    (
        "network",
        "DataKey",
        "AccountDecidesByIam",
    ): "a key that nobody administers is lost; IAM decides",
    ("network", "DataKey", "Logs"): "a key policy speaks of its own key only; the log group's ARN bounds it",
    ("network", "DataKey", "AlarmsAndEvents"): "a key policy speaks of its own key only; the account bounds it",
    ("network", "S3Endpoint", "OwnAccount"): "an endpoint grants nothing; it lets only this account's traffic through",
    ("network", "DynamoDbEndpoint", "OwnAccount"): "as S3Endpoint",
    ("data", "AccessLogsPolicy", "TlsOnly"): "denies everything without TLS",
    ("data", "LakePolicy", "TlsOnly"): "denies everything without TLS",
    ("stream", "ConsumerRole", "NetworkInterfaces"): "EC2 has no resource for interfaces that do not exist yet",
    ("stream", "ConsumerRole", "Trace"): "X-Ray has no resources",
    ("serving", "ScorerRole", "ImagesLogin"): "the login to ECR has no resource",
    ("serving", "ScorerRole", "Metrics"): "CloudWatch bounds metrics by namespace, not by resource",
    ("serving", "ScorerRole", "NetworkInterfaces"): "EC2 has no resource for interfaces that do not exist yet",
    ("learning", "JobRole", "ImagesLogin"): "the login to ECR has no resource",
    ("learning", "JobRole", "Metrics"): "CloudWatch bounds metrics by namespace, not by resource",
    ("learning", "JobRole", "NetworkInterfaces"): "EC2 has no resource for interfaces that do not exist yet",
    ("learning", "DeployerRole", "ScalingReads"): "Application Auto Scaling's reads have no resources",
    ("learning", "DeployerRole", "Quotas"): "Service Quotas' lists have no resources",
    ("learning", "DeployerRole", "Trace"): "X-Ray has no resources",
    ("learning", "RolloutsPolicy", "TlsOnly"): "denies everything without TLS",
    ("learning", "StartsPolicy", "TlsOnly"): "denies everything without TLS",
    ("data", "AnalystsPolicy", "Catalogue"): "the tables of one database, which is ours",
    ("learning", "DeployerRole", "AlarmReads"): "reads only: the guards of a rollout are this environment's alarms",
    ("learning", "DeployerRole", "TrackingAlarms"): "Application Auto Scaling draws the rest of their names",
    ("learning", "DeployerRole", "Hosting"): "models and configurations carry a digest of their release in their names",
    ("learning", "DeployerRole", "Names"): "what this environment's stacks say to one another",
    ("learning", "DeployerRole", "Packages"): "the packages of one group are numbered",
    ("learning", "DeployerRole", "Scaling"): "AWS draws the ids of scalable targets; the condition bounds the service",
    ("learning", "JobRole", "Log"): "SageMaker writes every job's log into groups of its own",
    ("learning", "JobRole", "Registry"): "the packages of one group are numbered",
    ("learning", "PipelineRole", "Jobs"): "SageMaker names the jobs of a pipeline",
    ("learning", "ScheduleRole", "Nightly"): "each night's job has a name of its own",
}
# What needs no reason: objects below a prefix of one of our buckets.
_OBJECTS: Final = re.compile(r"[^*]*\$\{(?:Bucket|Lake|AccessLogs)(?:\.Arn)?\}/[a-z][a-z/-]*\*(?:/lock)?")

# Type of resource: the property (a path) that must be there, and what it must be (null for anything).
ENCRYPTED: Final[Mapping[str, tuple[tuple[str, Any], ...]]] = {
    "AWS::S3::Bucket": (("BucketEncryption", None),),
    "AWS::Kinesis::Stream": (("StreamEncryption.EncryptionType", "KMS"), ("StreamEncryption.KeyId", None)),
    "AWS::DynamoDB::Table": (("SSESpecification.SSEEnabled", True), ("SSESpecification.KMSMasterKeyId", None)),
    "AWS::ElastiCache::ReplicationGroup": (
        ("AtRestEncryptionEnabled", True),
        ("TransitEncryptionEnabled", True),
        ("TransitEncryptionMode", "required"),
        ("KmsKeyId", None),
        ("UserGroupIds", None),
    ),
    "AWS::KinesisFirehose::DeliveryStream": (
        ("DeliveryStreamEncryptionConfigurationInput.KeyType", "CUSTOMER_MANAGED_CMK"),
        ("DeliveryStreamEncryptionConfigurationInput.KeyARN", None),
        ("ExtendedS3DestinationConfiguration.EncryptionConfiguration.KMSEncryptionConfig.AWSKMSKeyARN", None),
    ),
    "AWS::SecretsManager::Secret": (("KmsKeyId", None),),
    "AWS::ECR::Repository": (("EncryptionConfiguration.EncryptionType", "KMS"),),
    "AWS::Logs::LogGroup": (("KmsKeyId", None),),
    "AWS::SQS::Queue": (("KmsMasterKeyId", None),),
    "AWS::SNS::Topic": (("KmsMasterKeyId", None),),
    "AWS::Lambda::Function": (("KmsKeyArn", None),),
    "AWS::Scheduler::Schedule": (("KmsKeyArn", None),),
    "AWS::KMS::Key": (("EnableKeyRotation", True),),
    "AWS::Athena::WorkGroup": (
        ("WorkGroupConfiguration.EnforceWorkGroupConfiguration", True),
        ("WorkGroupConfiguration.ResultConfiguration.EncryptionConfiguration.EncryptionOption", "SSE_KMS"),
    ),
}
# A creation that failed takes back what it made, so that the same command can be run again.
_RETAINED: Final = frozenset({"Retain", "RetainExceptOnCreate"})
KEPT: Final[Mapping[str, frozenset[str]]] = {
    "AWS::S3::Bucket": _RETAINED,
    "AWS::Kinesis::Stream": _RETAINED,
    "AWS::DynamoDB::Table": _RETAINED,
    "AWS::ElastiCache::ReplicationGroup": frozenset({"Snapshot"}),
    "AWS::SecretsManager::Secret": _RETAINED,
    "AWS::ECR::Repository": _RETAINED,
    "AWS::KMS::Key": _RETAINED,
    "AWS::Logs::LogGroup": _RETAINED,
    "AWS::SageMaker::ModelPackageGroup": _RETAINED,
}
# Types that take no tags, or whose tags CloudFormation does not know.
UNTAGGED: Final = frozenset(
    {
        "AWS::CloudWatch::Dashboard",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::EC2::SubnetRouteTableAssociation",
        "AWS::Glue::Database",
        "AWS::Glue::Table",
        "AWS::IAM::ManagedPolicy",
        "AWS::KMS::Alias",
        "AWS::Lambda::Permission",
        "AWS::Logs::MetricFilter",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Subscription",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::QueuePolicy",
        "AWS::Scheduler::Schedule",
    }
)
_OPEN: Final = frozenset({"0.0.0.0/0", "::/0"})
_PUBLIC_BLOCKS: Final = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")


def findings(stack: str, template: Mapping[str, Any]) -> list[Finding]:
    """Return every broken rule of one stack's template, given as plain data with long-form functions."""
    found: list[Finding] = []
    for title, resource in template["Resources"].items():
        found += _privileges(stack, title, resource)
        found += _encryption(title, resource)
        found += _exposure(title, resource)
        found += _tags(title, resource)
        found += _keeping(title, resource)
    found += _needless(stack, template)
    return found


def _statements(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every policy statement below a value."""
    if isinstance(value, dict):
        if "Effect" in value and ("Action" in value or "NotAction" in value):
            yield value
        for item in value.values():
            yield from _statements(item)
    elif isinstance(value, list):
        for item in value:
            yield from _statements(item)


def _wide(statement: Mapping[str, Any]) -> list[str]:
    """Return how a statement is wide: actions that end in a bare star, any resource, or a part of a resource's name."""
    actions = _listed(statement.get("Action", "*"))
    resources = _listed(statement.get("Resource", []))
    wide = [f"action {action}" for action in actions if action == "*" or action.endswith(":*")]
    texts = [_text(resource) for resource in resources]
    return wide + [f"resource {text}" for text in texts if "*" in text and not _OBJECTS.fullmatch(text)]


def _text(resource: Any) -> str:
    """Return a resource as it is written, whatever is put into it."""
    inner = resource.get("Fn::Sub", "") if isinstance(resource, dict) else resource
    return str(inner[0] if isinstance(inner, list) else inner)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _privileges(stack: str, title: str, resource: Mapping[str, Any]) -> Iterator[Finding]:
    for statement in _statements(resource.get("Properties", {})):
        sid = statement.get("Sid", "")
        if "NotAction" in statement or "NotResource" in statement or "NotPrincipal" in statement:
            yield Finding("least-privilege", title, f"{sid} says what it does not mean (Not...)")
        wide = _wide(statement)
        if wide and (stack, title, sid) not in WILDCARDS:
            yield Finding("least-privilege", title, f"{sid or 'a statement'}: {', '.join(wide)} without a reason")
        if statement["Effect"] == "Allow" and _anyone(statement) and "Condition" not in statement:
            yield Finding("no-public-access", title, f"{sid} lets anyone in")
        for action in _listed(statement.get("Action", [])):
            if action == "iam:PassRole" and "iam:PassedToService" not in str(statement.get("Condition", "")):
                yield Finding("least-privilege", title, f"{sid} passes a role to any service")


def _anyone(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal")
    return principal == "*" or (isinstance(principal, dict) and "*" in _listed(principal.get("AWS", [])))


def _needless(stack: str, template: Mapping[str, Any]) -> Iterator[Finding]:
    used = {
        (stack, title, statement.get("Sid", ""))
        for title, resource in template["Resources"].items()
        for statement in _statements(resource.get("Properties", {}))
        if _wide(statement)
    }
    for key in WILDCARDS:
        if key[0] == stack and key not in used:
            yield Finding("least-privilege", key[1], f"the exception for {key[2]} is needed no more")


def _encryption(title: str, resource: Mapping[str, Any]) -> Iterator[Finding]:
    for path, wanted in ENCRYPTED.get(resource["Type"], ()):
        value: Any = resource.get("Properties", {})
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None or (wanted is not None and value != wanted):
            yield Finding("encryption", title, f"{path} is {value!r}")


def _exposure(title: str, resource: Mapping[str, Any]) -> Iterator[Finding]:
    properties = resource.get("Properties", {})
    kind = resource["Type"]
    if kind == "AWS::S3::Bucket":
        block = properties.get("PublicAccessBlockConfiguration", {})
        for key in _PUBLIC_BLOCKS:
            if block.get(key) is not True:
                yield Finding("no-public-access", title, f"{key} is not set")
    if kind in ("AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::EIP", "AWS::Lambda::Url"):
        yield Finding("no-public-access", title, f"{kind} opens a way to the internet")
    if kind == "AWS::EC2::Subnet" and properties.get("MapPublicIpOnLaunch") is not False:
        yield Finding("no-public-access", title, "MapPublicIpOnLaunch is not false")
    rules = [properties, *properties.get("SecurityGroupIngress", []), *properties.get("SecurityGroupEgress", [])]
    for rule in rules:
        if isinstance(rule, dict) and (_OPEN & {rule.get("CidrIp", ""), rule.get("CidrIpv6", "")}):
            yield Finding("no-public-access", title, "a rule names the whole internet")
    if kind == "AWS::EC2::SecurityGroup" and not properties.get("SecurityGroupEgress"):
        yield Finding("no-public-access", title, "without an egress rule it may reach the whole internet")


def _tags(title: str, resource: Mapping[str, Any]) -> Iterator[Finding]:
    if resource["Type"] in UNTAGGED:
        return
    tags = resource.get("Properties", {}).get("Tags", [])
    keys = set(tags) if isinstance(tags, dict) else {tag["Key"] for tag in tags}
    if TAGS - keys:
        yield Finding("tags", title, f"misses {', '.join(sorted(TAGS - keys))}")


def _keeping(title: str, resource: Mapping[str, Any]) -> Iterator[Finding]:
    kind, properties = resource["Type"], resource.get("Properties", {})
    for attribute in ("DeletionPolicy", "UpdateReplacePolicy"):
        if kind in KEPT and resource.get(attribute) not in KEPT[kind]:
            yield Finding("data-kept", title, f"{attribute} is {resource.get(attribute)!r}")
    if kind == "AWS::DynamoDB::Table":
        if properties.get("DeletionProtectionEnabled") is not True:
            yield Finding("data-kept", title, "DeletionProtectionEnabled is not set")
        if not properties.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled"):
            yield Finding("data-kept", title, "point-in-time recovery is off")
    if kind == "AWS::S3::Bucket" and properties.get("VersioningConfiguration", {}).get("Status") != "Enabled":
        yield Finding("data-kept", title, "versioning is off")
    if kind == "AWS::ElastiCache::ReplicationGroup" and not properties.get("SnapshotRetentionLimit"):
        yield Finding("data-kept", title, "no snapshots are kept")
    if kind == "AWS::Logs::LogGroup" and not properties.get("RetentionInDays"):
        yield Finding("log-retention", title, "logs are kept for ever")
