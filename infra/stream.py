"""Stream: the function that turns records into states. Replaced whenever its image changes.

The mapping splits a batch that makes the function raise, tries a bounded number of times, and keeps what still fails
whole in the bucket. A store outage is no such failure: the function reports how far it came, and the same record age
bounds that wait.
"""

from typing import Any, Final

from troposphere import GetAtt, Ref, Sub, Template, awslambda

from fraud.settings import PREFIX
from infra.blueprint import DIGEST, INTERFACES_EXCUSED, Blueprint, allow, key_use, name, subnets, vpc_access
from infra.data import tables
from infra.environment import PARALLEL
from infra.metrics import STREAM_EVENTS
from infra.names import STREAM
from infra.store_users import online_store, store_password
from infra.watching import add_alarms, add_metric_filters

HANDLER: Final = "streaming.handler.lambda_handler"
BATCH: Final = 500
MEMORY_MB: Final = 1769
"""One whole virtual CPU."""

TIMEOUT_S: Final = 60
RETRIES: Final = 1_000
RECORD_AGE_S: Final = 6 * 3600
"""A record that could not be applied for so long goes to the bucket instead, whole."""

STORE_ACTIONS: Final = ["dynamodb:BatchGetItem", "dynamodb:DescribeTable", "dynamodb:PutItem"]
"""What a writer of the online store asks DynamoDB for."""

WRITES: Final = ("landing/", "changes/", "dead-letters/")
FAILED: Final = "aws/lambda/"
"""Where the event source mapping puts invocations that failed to the end."""


def build() -> Template:
    """Return the template."""
    blueprint = Blueprint("stream", "Tollgate: the consumer of the stream. Replaced with its image.")
    key = blueprint.take("network", "key-arn")
    image = blueprint.parameter("LambdaImage", "Image by digest.", AllowedPattern=DIGEST)
    concurrency = blueprint.parameter("Concurrency", "Most batches at a time.", "Number", MinValue=4, MaxValue=1000)
    group = blueprint.log_group("ConsumerLog", Sub("/aws/lambda/tollgate-${Environment}-stream"), key)
    role = blueprint.role("ConsumerRole", "stream", "lambda", _permissions(blueprint, key, group))
    blueprint.excuse(role, **INTERFACES_EXCUSED)
    function = blueprint.add(
        awslambda.Function(
            "Consumer",
            FunctionName=name("stream"),
            PackageType="Image",
            Code=awslambda.Code(ImageUri=image),
            ImageConfig=awslambda.ImageConfig(Command=[HANDLER]),
            Environment=awslambda.Environment(Variables=_settings(blueprint)),
            KmsKeyArn=key,
            LoggingConfig=awslambda.LoggingConfig(LogGroup=Ref(group)),
            MemorySize=MEMORY_MB,
            ReservedConcurrentExecutions=concurrency,
            Role=GetAtt(role, "Arn"),
            Timeout=TIMEOUT_S,
            TracingConfig=awslambda.TracingConfig(Mode="Active"),
            VpcConfig=awslambda.VPCConfig(
                SecurityGroupIds=[blueprint.take("network", "stream-group", "AWS::EC2::SecurityGroup::Id")],
                SubnetIds=subnets(blueprint),
            ),
        )
    )
    blueprint.excuse(function, CKV_AWS_116="the event source mapping keeps what fails, whole, in the bucket")
    blueprint.add(_mapping(blueprint, function))
    add_metric_filters(blueprint, STREAM_EVENTS, group)
    add_alarms(blueprint)
    return blueprint.finish()


def _settings(blueprint: Blueprint) -> dict[str, Any]:
    currency = blueprint.parameter("Currency", "The one currency, ISO 4217.", AllowedPattern="^[A-Z]{3}$")
    return {
        PREFIX + "ENVIRONMENT": "aws",
        PREFIX + "CURRENCY": currency,
        PREFIX + "REGION": Ref("AWS::Region"),
        PREFIX + "STREAM": blueprint.take("data", "stream"),
        PREFIX + "BUCKET": blueprint.take("data", "bucket"),
        **online_store(blueprint, STREAM),
    }


def _permissions(blueprint: Blueprint, key: Any, group: Any) -> list[dict[str, Any]]:
    bucket = blueprint.take("data", "bucket-arn")
    reading = [
        "kinesis:DescribeStream",
        "kinesis:DescribeStreamSummary",
        "kinesis:GetRecords",
        "kinesis:GetShardIterator",
        "kinesis:ListShards",
    ]
    written = [Sub(f"${{Bucket}}/{prefix}*", Bucket=bucket) for prefix in (*WRITES, FAILED)]
    return [
        allow("Read", reading, [blueprint.take("data", "stream-arn")]),
        allow("Write", ["s3:PutObject"], written),
        # Lambda looks whether it may write to the destination by listing the bucket, without a prefix.
        allow("FailuresBucket", ["s3:ListBucket"], [bucket]),
        key_use(key, write=True),
        allow("OnlineStore", STORE_ACTIONS, tables()),
        store_password(blueprint, STREAM),
        allow("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [GetAtt(group, "Arn")]),
        allow("Trace", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"]),
        vpc_access(),
    ]


def _mapping(blueprint: Blueprint, function: Any) -> Any:
    failures = awslambda.OnFailure(Destination=blueprint.take("data", "bucket-arn"))
    return awslambda.EventSourceMapping(
        "Mapping",
        FunctionName=Ref(function),
        EventSourceArn=blueprint.take("data", "stream-arn"),
        StartingPosition="TRIM_HORIZON",
        BatchSize=BATCH,
        MaximumBatchingWindowInSeconds=0,
        ParallelizationFactor=PARALLEL,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=RETRIES,
        MaximumRecordAgeInSeconds=RECORD_AGE_S,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        MetricsConfig=awslambda.MetricsConfig(Metrics=["EventCount"]),
        DestinationConfig=awslambda.DestinationConfig(OnFailure=failures),
    )
