"""Data: buckets, stream, online store, images, model registry. No command of ours deletes it.

The online store is Valkey (one shard with a copy in each zone; our code also speaks to a cluster of shards, which is
not declared here) or DynamoDB, with tables named as Feast names them.
"""

from typing import Any, Final

from troposphere import (
    Equals,
    GetAtt,
    If,
    Not,
    Ref,
    Sub,
    Template,
    dynamodb,
    ecr,
    elasticache,
    iam,
    kinesis,
    s3,
    sagemaker,
)

from fraud.settings import Settings
from infra.analysis import RESULTS, add_analysis
from infra.blueprint import Blueprint, allow, arn, document, name, subnets
from infra.names import GROUP, VIEWS, repository_name
from infra.store_users import KEEP, add_users

PROJECT: Final = Settings().project
IMAGES: Final = ("inference", "job", "lambda")
RETENTION_HOURS: Final = 168
"""How long the stream keeps records: the time there is to repair a consumer."""

SNAPSHOT: Final = {"DeletionPolicy": "Snapshot", "UpdateReplacePolicy": "Snapshot"}

# What ages in the bucket: prefix, days until infrequent access, days until deletion (null for never).
AGES: Final[tuple[tuple[str, int | None, int | None], ...]] = (
    ("transactions/", 90, None),
    ("decisions/", 90, None),
    ("landing/", None, 30),
    ("changes/", None, 90),
    ("runs/", None, 180),
    ("lists/", None, None),
    ("dead-letters/", 30, 400),
    (RESULTS, None, 30),
    ("aws/lambda/", 30, 400),
)


def build() -> Template:
    """Return the template."""
    blueprint = Blueprint("data", "Tollgate: data and images. Kept whatever happens to the other stacks.")
    key = blueprint.take("network", "key-arn")
    add_analysis(blueprint, key, _buckets(blueprint, key))
    _stream(blueprint, key)
    _valkey(blueprint, key, blueprint.on_store("redis"))
    _tables(blueprint, key, blueprint.on_store("dynamodb"))
    for image in IMAGES:
        _repository(blueprint, image, key)
    group = sagemaker.ModelPackageGroup(
        "Registry",
        ModelPackageGroupName=name(GROUP),
        ModelPackageGroupDescription="Every challenger, with its gate's verdict; the newest approved one is champion.",
        **KEEP,
    )
    blueprint.add(group)
    return blueprint.finish()


def _buckets(blueprint: Blueprint, key: Ref) -> Any:
    access = blueprint.add(
        s3.Bucket(
            "AccessLogs",
            BucketName=Sub("tollgate-${Environment}-access-${AWS::AccountId}"),
            # Log delivery writes with S3's own keys only.
            BucketEncryption=_encryption(s3.ServerSideEncryptionByDefault(SSEAlgorithm="AES256")),
            LifecycleConfiguration=s3.LifecycleConfiguration(
                Rules=[_expiry("AccessLogs", "", None, 400), _leftovers()],
            ),
            **_closed(),
            **KEEP,
        )
    )
    blueprint.excuse(access, CKV_AWS_18="the access logs' own access is in CloudTrail; logging it here would not end")
    by_key = s3.ServerSideEncryptionByDefault(SSEAlgorithm="aws:kms", KMSMasterKeyID=key)
    lake = blueprint.add(
        s3.Bucket(
            "Lake",
            BucketName=Sub("tollgate-${Environment}-lake-${AWS::AccountId}"),
            BucketEncryption=_encryption(by_key, BucketKeyEnabled=True),
            LifecycleConfiguration=s3.LifecycleConfiguration(
                Rules=[*(_expiry(f"Age{_title(prefix)}", prefix, *ages) for prefix, *ages in AGES), _leftovers()]
            ),
            LoggingConfiguration=s3.LoggingConfiguration(DestinationBucketName=Ref(access), LogFilePrefix="lake/"),
            **_closed(),
            **KEEP,
        )
    )
    delivery = {
        "Sid": "LogDelivery",
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": Sub("${AccessLogs.Arn}/lake/*"),
        "Condition": {"StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")}},
    }
    for bucket, more in ((access, [delivery]), (lake, [])):
        policy = document(_tls_only(bucket.title), *more)
        blueprint.add(s3.BucketPolicy(f"{bucket.title}Policy", Bucket=Ref(bucket), PolicyDocument=policy))
    blueprint.give("bucket", Ref(lake))
    blueprint.give("bucket-arn", GetAtt(lake, "Arn"))
    return lake


def _title(prefix: str) -> str:
    return "".join(part.capitalize() for part in prefix.strip("/").replace("/", "-").split("-"))


def _encryption(default: Any, **attributes: Any) -> Any:
    rule = s3.ServerSideEncryptionRule(ServerSideEncryptionByDefault=default, **attributes)
    return s3.BucketEncryption(ServerSideEncryptionConfiguration=[rule])


def _closed() -> dict[str, Any]:
    blocked = s3.PublicAccessBlockConfiguration(
        BlockPublicAcls=True, BlockPublicPolicy=True, IgnorePublicAcls=True, RestrictPublicBuckets=True
    )
    owner = s3.OwnershipControls(Rules=[s3.OwnershipControlsRule(ObjectOwnership="BucketOwnerEnforced")])
    return {
        "PublicAccessBlockConfiguration": blocked,
        "OwnershipControls": owner,
        "VersioningConfiguration": s3.VersioningConfiguration(Status="Enabled"),
    }


def _expiry(rule_id: str, prefix: str, colder: int | None, gone: int | None) -> Any:
    attributes: dict[str, Any] = {"NoncurrentVersionExpiration": s3.NoncurrentVersionExpiration(NoncurrentDays=90)}
    if colder is not None:
        attributes["Transitions"] = [s3.LifecycleRuleTransition(StorageClass="STANDARD_IA", TransitionInDays=colder)]
    if gone is not None:
        attributes["ExpirationInDays"] = gone
    if prefix:
        attributes["Prefix"] = prefix
    return s3.LifecycleRule(Id=rule_id, Status="Enabled", **attributes)


def _leftovers() -> Any:
    upload = s3.AbortIncompleteMultipartUpload(DaysAfterInitiation=7)
    return s3.LifecycleRule(Id="Leftovers", Status="Enabled", AbortIncompleteMultipartUpload=upload)


def _tls_only(bucket: str) -> dict[str, Any]:
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [Sub(f"${{{bucket}.Arn}}"), Sub(f"${{{bucket}.Arn}}/*")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def _stream(blueprint: Blueprint, key: Ref) -> None:
    shards = blueprint.parameter("Shards", "Shards of the stream; 0 scales by itself.", "Number", MinValue=0)
    provisioned = blueprint.condition("Provisioned", Not(Equals(shards, "0")))
    mode = If(provisioned, "PROVISIONED", "ON_DEMAND")
    stream = blueprint.add(
        kinesis.Stream(
            "Transactions",
            Name=name("transactions"),
            RetentionPeriodHours=RETENTION_HOURS,
            ShardCount=If(provisioned, shards, Ref("AWS::NoValue")),
            StreamEncryption=kinesis.StreamEncryption(EncryptionType="KMS", KeyId=key),
            StreamModeDetails=kinesis.StreamModeDetails(StreamMode=mode),
            **KEEP,
        )
    )
    blueprint.give("stream", Ref(stream))
    blueprint.give("stream-arn", GetAtt(stream, "Arn"))
    feeding = document(
        allow("Feed", ["kinesis:ListShards", "kinesis:PutRecord", "kinesis:PutRecords"], [GetAtt(stream, "Arn")]),
        # What is put is encrypted with the data key, on behalf of whoever puts it.
        allow("DataKey", ["kms:GenerateDataKey"], [key]),
    )
    policy = iam.ManagedPolicy(
        "ProducersPolicy",
        ManagedPolicyName=name("producers"),
        Description="Lets a service put transactions on the stream, and nothing else.",
        PolicyDocument=feeding,
    )
    blueprint.add(policy)
    blueprint.give("producers-policy-arn", Ref(policy))


def _valkey(blueprint: Blueprint, key: Ref, wanted: str) -> None:
    node = blueprint.parameter("CacheNode", "Node type of the online store.", AllowedPattern=r"^cache\.[a-z0-9.]+$")
    copies = blueprint.parameter("CacheNodes", "Nodes: one primary and its copies.", "Number", MinValue=2, MaxValue=6)
    users = add_users(blueprint, key, wanted)
    group = elasticache.ParameterGroup(
        "StoreParameters",
        CacheParameterGroupFamily="valkey8",
        Description="Refuses writes when full rather than forgetting states.",
        Properties={"maxmemory-policy": "noeviction"},
        Condition=wanted,
    )
    places = elasticache.SubnetGroup(
        "StoreSubnets",
        CacheSubnetGroupName=name("online-store"),
        Description="Private subnets.",
        SubnetIds=subnets(blueprint),
        Condition=wanted,
    )
    slow = blueprint.log_group("StoreLog", Sub("/tollgate/${Environment}/online-store"), key, Condition=wanted)
    slow_log = elasticache.CloudWatchLogsDestinationDetails(LogGroup=Ref(slow))
    cache = blueprint.add(
        elasticache.ReplicationGroup(
            "OnlineStore",
            ReplicationGroupId=name("online"),
            ReplicationGroupDescription="States and profiles of every card, device, address and merchant.",
            Engine="valkey",
            EngineVersion="8.0",
            CacheNodeType=node,
            NumCacheClusters=copies,
            AutomaticFailoverEnabled=True,
            MultiAZEnabled=True,
            AtRestEncryptionEnabled=True,
            KmsKeyId=key,
            TransitEncryptionEnabled=True,
            TransitEncryptionMode="required",
            UserGroupIds=[Ref(users)],
            AutoMinorVersionUpgrade=True,
            CacheParameterGroupName=Ref(blueprint.add(group)),
            CacheSubnetGroupName=Ref(blueprint.add(places)),
            SecurityGroupIds=[blueprint.take("network", "cache-group", "AWS::EC2::SecurityGroup::Id")],
            SnapshotRetentionLimit=7,
            SnapshotWindow="02:00-03:00",
            PreferredMaintenanceWindow="tue:03:00-tue:04:00",
            LogDeliveryConfigurations=[
                elasticache.LogDeliveryConfigurationRequest(
                    DestinationDetails=elasticache.DestinationDetails(CloudWatchLogsDetails=slow_log),
                    DestinationType="cloudwatch-logs",
                    LogFormat="json",
                    LogType="slow-log",
                )
            ],
            Condition=wanted,
            **SNAPSHOT,
        )
    )
    blueprint.give("store-host", If(wanted, GetAtt(cache, "PrimaryEndPoint.Address"), "dynamodb"))


def _tables(blueprint: Blueprint, key: Ref, wanted: str) -> None:
    for view in VIEWS:
        blueprint.add(
            dynamodb.Table(
                "Table" + "".join(part.capitalize() for part in view.split("_")),
                TableName=f"{PROJECT}.{view}",
                AttributeDefinitions=[dynamodb.AttributeDefinition(AttributeName="entity_id", AttributeType="S")],
                KeySchema=[dynamodb.KeySchema(AttributeName="entity_id", KeyType="HASH")],
                BillingMode="PAY_PER_REQUEST",
                DeletionProtectionEnabled=True,
                PointInTimeRecoverySpecification=dynamodb.PointInTimeRecoverySpecification(
                    PointInTimeRecoveryEnabled=True
                ),
                SSESpecification=dynamodb.SSESpecification(SSEEnabled=True, SSEType="KMS", KMSMasterKeyId=key),
                Condition=wanted,
                **KEEP,
            )
        )


def tables() -> list[Any]:
    """Return the ARNs of the online store's tables."""
    return [arn("dynamodb", f"table/{PROJECT}.{view}") for view in VIEWS]


def _repository(blueprint: Blueprint, image: str, key: Ref) -> None:
    policy = (
        '{"rules":[{"rulePriority":1,"description":"Untagged leftovers","selection":{"tagStatus":"untagged",'
        '"countType":"imageCountMoreThan","countNumber":50},"action":{"type":"expire"}}]}'
    )
    title = f"{image.capitalize()}Images"
    blueprint.add(
        ecr.Repository(
            title,
            RepositoryName=Sub(repository_name("${Environment}", image)),
            EncryptionConfiguration=ecr.EncryptionConfiguration(EncryptionType="KMS", KmsKey=key),
            ImageScanningConfiguration=ecr.ImageScanningConfiguration(ScanOnPush=True),
            ImageTagMutability="IMMUTABLE",
            LifecyclePolicy=ecr.LifecyclePolicy(LifecyclePolicyText=policy),
            **KEEP,
        )
    )
    blueprint.give(f"{image}-images-arn", GetAtt(title, "Arn"))
