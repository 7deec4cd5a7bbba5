"""Learning: the weekly pipeline, the nightly job, and the deployer that an approval starts.

The pipeline's definition is a file in the bucket, named by its digest; without one there is no pipeline yet.
"""

import json
from typing import Any, Final

from troposphere import Equals, GetAtt, Not, Ref, Sub, Template, events, sagemaker, scheduler, sqs

from fraud.settings import PREFIX
from infra.blueprint import (
    DIGEST,
    INTERFACES_EXCUSED,
    Blueprint,
    allow,
    arn,
    key_grant,
    key_use,
    name,
    subnets,
    vpc_access,
)
from infra.data import tables
from infra.names import GROUP, JOBS
from infra.rollouts import add_deployer, pass_role, tls_only
from infra.serving import image_pull
from infra.store_users import online_store, store_password
from infra.stream import STORE_ACTIONS
from infra.watching import add_alarms

TIMEZONE: Final = "UTC"
"""Days of the log, and with them profiles, are days of UTC: no other clock knows when one has ended."""

NIGHTLY: Final = "cron(5 2 * * ? *)"
"""Five minutes after the moment for which the day's profiles are written, before which they are not put online."""

WEEKLY: Final = "cron(30 6 ? * SUN *)"
"""After the longest night, so that Saturday is in the log."""

NIGHTLY_INSTANCE: Final = "ml.m5.2xlarge"
NIGHTLY_COMMAND: Final = "/app/nightly"
NIGHTLY_LIMIT_S: Final = 4 * 3600

_JOB: Final = "tollgate-${Environment}"
_REGISTERING: Final = [
    f"sagemaker:{action}"
    for action in ("CreateModelPackage", "DescribeModelPackage", "ListModelPackages", "UpdateModelPackage")
]


def build() -> Template:
    """Return the template."""
    blueprint = Blueprint("learning", "Tollgate: weekly pipeline, nightly job, rollout on approval.")
    key = blueprint.take("network", "key-arn")
    job = blueprint.role("JobRole", "jobs", "sagemaker", _job_permissions(blueprint, key))
    blueprint.excuse(job, **INTERFACES_EXCUSED)
    pipeline = blueprint.role("PipelineRole", "pipeline", "sagemaker", _pipeline_permissions(job))
    _pipeline(blueprint, pipeline)
    _schedules(blueprint, key, job)
    add_deployer(blueprint, key)
    _failures(blueprint)
    add_alarms(blueprint)
    blueprint.give("job-role-arn", GetAtt(job, "Arn"))
    blueprint.give("pipeline-role-arn", GetAtt(pipeline, "Arn"))
    return blueprint.finish()


def _job_permissions(blueprint: Blueprint, key: Any) -> list[dict[str, Any]]:
    bucket = blueprint.take("data", "bucket-arn")
    read = ("transactions/", "profiles/", "labels", "decisions/", "landing/", "registry/", "runs/", "models/")
    written = ("transactions/", "profiles/", "landing/", "runs/", "models/")
    logged = ["/aws/sagemaker/ProcessingJobs", "/aws/sagemaker/TrainingJobs"]
    group = arn("sagemaker", "model-package-group/tollgate-${Environment}-scorer")
    packages = arn("sagemaker", "model-package/tollgate-${Environment}-scorer/*")
    return [
        allow("Read", ["s3:GetObject"], [Sub(f"${{Bucket}}/{prefix}*", Bucket=bucket) for prefix in read]),
        allow("Write", ["s3:PutObject"], [Sub(f"${{Bucket}}/{prefix}*", Bucket=bucket) for prefix in written]),
        allow("Landed", ["s3:DeleteObject"], [Sub("${Bucket}/landing/*", Bucket=bucket)]),
        allow("Bucket", ["s3:ListBucket"], [bucket]),
        key_use(key, write=True),
        key_grant(key),
        allow("Outputs", ["kms:Encrypt"], [key]),
        allow("OnlineStore", STORE_ACTIONS, tables()),
        store_password(blueprint, JOBS),
        allow("Registry", _REGISTERING, [group, packages]),
        allow("Lock", ["s3:DeleteObject"], [Sub("${Bucket}/models/*/lock", Bucket=bucket)]),
        *image_pull(blueprint.take("data", "job-images-arn")),
        allow(
            "Log",
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            [arn("logs", f"log-group:{prefix}*") for prefix in logged],
        ),
        allow(
            "Metrics",
            ["cloudwatch:PutMetricData"],
            ["*"],
            {"StringLike": {"cloudwatch:namespace": ["Tollgate*", "/aws/sagemaker/*"]}},
        ),
        vpc_access(),
    ]


def _pipeline_permissions(job_role: Any) -> list[dict[str, Any]]:
    jobs = [arn("sagemaker", f"{kind}/pipelines-*") for kind in ("processing-job", "training-job")]
    start = ["sagemaker:AddTags", "sagemaker:CreateProcessingJob", "sagemaker:CreateTrainingJob"]
    watch = [
        "sagemaker:DescribeProcessingJob",
        "sagemaker:DescribeTrainingJob",
        "sagemaker:StopProcessingJob",
        "sagemaker:StopTrainingJob",
    ]
    return [
        allow("Jobs", [*start, *watch], jobs),
        pass_role(GetAtt(job_role, "Arn"), "sagemaker"),
    ]


def _pipeline(blueprint: Blueprint, role: Any) -> None:
    key = blueprint.parameter("PipelineKey", "Where the definition lies in the bucket; empty for none.", Default="")
    wanted = blueprint.condition("HasPipeline", Not(Equals(key, "")))
    place = sagemaker.S3Location(Bucket=blueprint.take("data", "bucket"), Key=key)
    pipeline = sagemaker.Pipeline(
        "Weekly",
        PipelineName=name("weekly"),
        PipelineDescription="Training set, fit, evaluation, gate, registration.",
        PipelineDefinition=sagemaker.PipelineDefinition(PipelineDefinitionS3Location=place),
        RoleArn=GetAtt(role, "Arn"),
        Condition=wanted,
    )
    blueprint.add(pipeline)


def _schedules(blueprint: Blueprint, key: Any, job_role: Any) -> None:
    pipeline = arn("sagemaker", "pipeline/tollgate-${Environment}-weekly")
    nightly = arn("sagemaker", f"processing-job/{_JOB}-nightly-*")
    waiting = blueprint.add(
        sqs.Queue("Starts", QueueName=name("starts"), KmsMasterKeyId=key, MessageRetentionPeriod=14 * 86400)
    )
    tls_only(blueprint, waiting)
    role = blueprint.role(
        "ScheduleRole",
        "schedule",
        "scheduler",
        [
            allow("Weekly", ["sagemaker:StartPipelineExecution"], [pipeline]),
            allow("Nightly", ["sagemaker:CreateProcessingJob", "sagemaker:AddTags"], [nightly]),
            allow("Letters", ["sqs:SendMessage"], [GetAtt(waiting, "Arn")]),
            key_use(key, write=True),
            pass_role(GetAtt(job_role, "Arn"), "sagemaker"),
        ],
    )
    blueprint.add(scheduler.ScheduleGroup("Schedules", Name=name("schedules")))
    retry = scheduler.RetryPolicy(MaximumEventAgeInSeconds=3600, MaximumRetryAttempts=5)
    letters = scheduler.DeadLetterConfig(Arn=GetAtt(waiting, "Arn"))
    common = {"RoleArn": GetAtt(role, "Arn"), "RetryPolicy": retry, "DeadLetterConfig": letters}
    values = _job_values(blueprint, key, job_role)
    start = Sub("arn:${AWS::Partition}:scheduler:::aws-sdk:sagemaker:startPipelineExecution")
    text = json.dumps(weekly_start(), sort_keys=True)
    asked = Sub(text, **{key: value for key, value in values.items() if f"${{{key}}}" in text})
    weekly = scheduler.Target(Arn=start, Input=asked, **common)
    _schedule(blueprint, "WeeklySchedule", "weekly", WEEKLY, weekly, key, Condition="HasPipeline")
    text = json.dumps(_nightly_job(), sort_keys=True)
    request = Sub(text, **{key: value for key, value in values.items() if f"${{{key}}}" in text})
    create = Sub("arn:${AWS::Partition}:scheduler:::aws-sdk:sagemaker:createProcessingJob")
    _schedule(
        blueprint,
        "NightlySchedule",
        "nightly",
        NIGHTLY,
        scheduler.Target(Arn=create, Input=request, **common),
        key,
    )


def _schedule(
    blueprint: Blueprint, title: str, suffix: str, when: str, target: Any, key: Any, **attributes: Any
) -> None:
    blueprint.add(
        scheduler.Schedule(
            title,
            Name=name(suffix),
            GroupName=Ref("Schedules"),
            KmsKeyArn=key,
            FlexibleTimeWindow=scheduler.FlexibleTimeWindow(Mode="OFF"),
            ScheduleExpression=when,
            ScheduleExpressionTimezone=TIMEZONE,
            Target=target,
            **attributes,
        )
    )


def weekly_start() -> dict[str, Any]:
    """Return StartPipelineExecution's request.

    The token is made of the time for which the start was scheduled: a retried or doubled delivery carries the same one
    and AWS answers with the execution that it has started already. That time, not a clock, is the iteration's day.
    """
    given = {
        "AsOf": "<aws.scheduler.scheduled-time>",
        "Bucket": "${Bucket}",
        "DataKey": "${Key}",
        "InferenceImage": "${Inference}",
        "JobImage": "${Image}",
        "JobRole": "${Role}",
        "Region": "${AWS::Region}",
        "Registry": f"sagemaker:{_JOB}-{GROUP}",
        "SecurityGroup": "${Group}",
        "SubnetA": "${A}",
        "SubnetB": "${B}",
        "SubnetC": "${C}",
    }
    return {
        "PipelineName": f"{_JOB}-weekly",
        "ClientRequestToken": f"{_JOB}-weekly-<aws.scheduler.scheduled-time>",
        "PipelineParameters": [{"Name": name_, "Value": value} for name_, value in given.items()],
    }


def _nightly_job() -> dict[str, Any]:
    """Return CreateProcessingJob's request; the schedule's execution id makes a doubled start fail by name."""
    cluster = {"InstanceCount": 1, "InstanceType": NIGHTLY_INSTANCE, "VolumeSizeInGB": 50, "VolumeKmsKeyId": "${Key}"}
    environment = {
        PREFIX + "ENVIRONMENT": "aws",
        PREFIX + "REGION": "${AWS::Region}",
        PREFIX + "BUCKET": "${Bucket}",
        PREFIX + "ONLINE_STORE": "${StoreKind}",
        PREFIX + "REDIS_HOST": "${StoreHost}",
        PREFIX + "REDIS_TLS": "${StoreTls}",
        PREFIX + "REDIS_USERNAME": "${StoreUser}",
        PREFIX + "REDIS_PASSWORD_SECRET": "${StoreSecret}",
        "AWS_DEFAULT_REGION": "${AWS::Region}",  # Arrow's S3 asks for it by this name
        "FRAUD_LAKE": "s3://${Bucket}",
        "FRAUD_REGISTRY": "${Registry}",
    }
    network = {
        "EnableInterContainerTrafficEncryption": True,
        "EnableNetworkIsolation": False,
        "VpcConfig": {"SecurityGroupIds": ["${Group}"], "Subnets": ["${A}", "${B}", "${C}"]},
    }
    return {
        "ProcessingJobName": f"{_JOB}-nightly-<aws.scheduler.execution-id>",
        "AppSpecification": {"ImageUri": "${Image}", "ContainerEntrypoint": [NIGHTLY_COMMAND]},
        "Environment": environment,
        "NetworkConfig": network,
        "ProcessingResources": {"ClusterConfig": cluster},
        "RoleArn": "${Role}",
        "StoppingCondition": {"MaxRuntimeInSeconds": NIGHTLY_LIMIT_S},
    }


def _job_values(blueprint: Blueprint, key: Any, job_role: Any) -> dict[str, Any]:
    image = blueprint.parameter("JobImage", "Image by digest.", AllowedPattern=DIGEST)
    registry = blueprint.parameter(
        "FeastRegistry",
        "Feast's registry in the bucket, named by its digest.",
        AllowedPattern=r"^s3://[a-z0-9.-]+/registry/[0-9a-f]{64}\.db$",
    )
    store = online_store(blueprint, JOBS)
    a, b, c = subnets(blueprint)
    return {
        "Key": key,
        "Bucket": blueprint.take("data", "bucket"),
        "StoreKind": store[PREFIX + "ONLINE_STORE"],
        "StoreHost": store[PREFIX + "REDIS_HOST"],
        "StoreTls": store[PREFIX + "REDIS_TLS"],
        "StoreUser": store[PREFIX + "REDIS_USERNAME"],
        "StoreSecret": store[PREFIX + "REDIS_PASSWORD_SECRET"],
        "Registry": registry,
        "Group": blueprint.take("network", "jobs-group", "AWS::EC2::SecurityGroup::Id"),
        "A": a,
        "B": b,
        "C": c,
        "Image": image,
        "Inference": blueprint.parameter("InferenceImage", "Image by digest.", AllowedPattern=DIGEST),
        "Role": GetAtt(job_role, "Arn"),
    }


def _failures(blueprint: Blueprint) -> None:
    """Tell whoever is told of alarms that the weekly pipeline or the nightly job failed."""
    topic = blueprint.take("network", "alarm-topic")
    failed = {
        "PipelineFailed": (
            "SageMaker Model Building Pipeline Execution Status Change",
            {"currentPipelineExecutionStatus": ["Failed"], "pipelineArn": [{"suffix": Sub(f"{_JOB}-weekly")}]},
        ),
        "NightlyFailed": (
            "SageMaker Processing Job State Change",
            {"ProcessingJobStatus": ["Failed"], "ProcessingJobName": [{"prefix": Sub(f"{_JOB}-nightly")}]},
        ),
    }
    for title, (kind, detail) in failed.items():
        pattern = {"source": ["aws.sagemaker"], "detail-type": [kind], "detail": detail}
        target = events.Target(Id="alarms", Arn=topic)
        blueprint.add(events.Rule(title, EventPattern=pattern, State="ENABLED", Targets=[target]))
