"""The deployer's function in the learning stack: what starts it, what it may do, where its failures wait."""

from typing import Any, Final

from troposphere import GetAtt, Ref, Sub, awslambda, events, sqs

from fraud.scaling import PLAN
from infra.autoscaling import step_alarm
from infra.blueprint import DIGEST, Blueprint, allow, arn, document, key_grant, key_use, name
from infra.names import GROUP
from infra.quotas import ACTION

SETTLED: Final = ["IN_SERVICE", "FAILED", "OUT_OF_SERVICE", "UPDATE_ROLLBACK_FAILED"]
"""States of an endpoint in which it stays, as events spell them."""

HANDLER: Final = "infra.approval.lambda_handler"
REGISTRY: Final = ("model-package-group", "model-package")
"""Kinds of the registry's ARNs."""
_HOSTED: Final = ("model", "endpoint-config", "endpoint")
HOSTING_ACTIONS: Final = [
    f"sagemaker:{action}"
    for action in (
        "AddTags",
        "CreateEndpoint",
        "CreateEndpointConfig",
        "CreateModel",
        "DescribeEndpoint",
        "DescribeEndpointConfig",
        "DescribeModel",
        "ListTags",
        "UpdateEndpoint",
        "UpdateEndpointWeightsAndCapacities",  # Application Auto Scaling asks whether its caller might
    )
]
SCALING_ACTIONS: Final = [
    f"application-autoscaling:{action}"
    for action in ("DeleteScheduledAction", "PutScalingPolicy", "PutScheduledAction", "RegisterScalableTarget")
]


def pass_role(role: Any, service: str) -> dict[str, Any]:
    """Return the right to hand one role to one service."""
    return allow(
        "PassRole",
        ["iam:PassRole"],
        [role],
        {"StringEquals": {"iam:PassedToService": f"{service}.amazonaws.com"}},
    )


def add_deployer(blueprint: Blueprint, key: Any) -> None:
    """Add the function, its role, its two rules and its queue."""
    image = blueprint.parameter("LambdaImage", "Image by digest.", AllowedPattern=DIGEST)
    waiting = blueprint.add(
        sqs.Queue("Rollouts", QueueName=name("rollouts"), KmsMasterKeyId=key, MessageRetentionPeriod=14 * 86400)
    )
    group = blueprint.log_group("DeployerLog", Sub("/aws/lambda/tollgate-${Environment}-deployer"), key)
    role = blueprint.role("DeployerRole", "deployer", "lambda", _deployer_permissions(blueprint, key, group, waiting))
    function = blueprint.add(
        awslambda.Function(
            "Deployer",
            FunctionName=name("deployer"),
            PackageType="Image",
            Code=awslambda.Code(ImageUri=image),
            ImageConfig=awslambda.ImageConfig(Command=[HANDLER]),
            Environment=awslambda.Environment(Variables={"INFRA_ENVIRONMENT": Ref("Environment")}),
            KmsKeyArn=key,
            DeadLetterConfig=awslambda.DeadLetterConfig(TargetArn=GetAtt(waiting, "Arn")),
            LoggingConfig=awslambda.LoggingConfig(LogGroup=Ref(group)),
            MemorySize=512,
            ReservedConcurrentExecutions=1,
            Role=GetAtt(role, "Arn"),
            Timeout=120,
            TracingConfig=awslambda.TracingConfig(Mode="Active"),
        )
    )
    blueprint.excuse(function, CKV_AWS_117="it speaks with AWS's control plane only, and holds no way into the VPC")
    patterns = {
        "Approval": {
            "source": ["aws.sagemaker"],
            "detail-type": ["SageMaker Model Package State Change"],
            "detail": {
                "ModelPackageGroupName": [name(GROUP)],
                "ModelApprovalStatus": ["Approved"],
                # What the deployer writes into the registry is an event of an approved package too.
                "UpdatedModelPackageFields": ["ModelApprovalStatus", {"exists": False}],
            },
        },
        "Settled": {
            "source": ["aws.sagemaker"],
            "detail-type": ["SageMaker Endpoint State Change"],
            "detail": {"EndpointName": [name("scorer")], "EndpointStatus": SETTLED},
        },
    }
    for title, pattern in patterns.items():
        rule = blueprint.add(
            events.Rule(
                title,
                Name=name(title.lower()),
                EventPattern=pattern,
                State="ENABLED",
                Targets=[events.Target(Id="deployer", Arn=GetAtt(function, "Arn"), DeadLetterConfig=_letters(waiting))],
            )
        )
        blueprint.add(
            awslambda.Permission(
                f"{title}MayStart",
                Action="lambda:InvokeFunction",
                FunctionName=Ref(function),
                Principal="events.amazonaws.com",
                SourceAccount=Ref("AWS::AccountId"),
                SourceArn=GetAtt(rule, "Arn"),
            )
        )
    _queue_policy(blueprint, waiting)


def _letters(queue: Any) -> Any:
    return events.DeadLetterConfig(Arn=GetAtt(queue, "Arn"))


def _queue_policy(blueprint: Blueprint, queue: Any) -> None:
    into = {
        "Sid": "Events",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": GetAtt(queue, "Arn"),
        "Condition": {"StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")}},
    }
    tls_only(blueprint, queue, into)


def tls_only(blueprint: Blueprint, queue: Any, *more: dict[str, Any]) -> None:
    """Let nobody reach a queue without TLS; add further statements."""
    tls = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": GetAtt(queue, "Arn"),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = sqs.QueuePolicy(f"{queue.title}Policy", Queues=[Ref(queue)], PolicyDocument=document(*more, tls))
    blueprint.add(policy)


def _deployer_permissions(blueprint: Blueprint, key: Any, group: Any, queue: Any) -> list[dict[str, Any]]:
    ours = [arn("sagemaker", f"{kind}/tollgate-${{Environment}}-scorer*") for kind in _HOSTED]
    scaled = arn("application-autoscaling", "scalable-target/*")
    sagemaker_only = {"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}}
    linked = Sub(
        "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/aws-service-role/sagemaker.application-autoscaling"
        ".amazonaws.com/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    )
    return [
        allow("Hosting", HOSTING_ACTIONS, ours),
        allow(
            "Packages",
            ["sagemaker:DescribeModelPackage", "sagemaker:UpdateModelPackage"],
            [arn("sagemaker", f"{kind}/tollgate-${{Environment}}-scorer*") for kind in REGISTRY],
        ),
        pass_role(blueprint.take("serving", "scorer-role-arn"), "sagemaker"),
        allow(
            "Alarms",
            ["cloudwatch:PutMetricAlarm", "cloudwatch:TagResource"],
            [arn("cloudwatch", f"alarm:{step_alarm('tollgate-${Environment}-scorer', PLAN.burst)}")],
        ),
        allow("AlarmReads", ["cloudwatch:DescribeAlarms"], [arn("cloudwatch", "alarm:tollgate-${Environment}-*")]),
        # Application Auto Scaling makes and replaces these for whoever puts a target tracking policy.
        allow(
            "TrackingAlarms",
            ["cloudwatch:DeleteAlarms", "cloudwatch:DescribeAlarms", "cloudwatch:PutMetricAlarm"],
            [arn("cloudwatch", "alarm:TargetTracking-endpoint/tollgate-${Environment}-scorer/*")],
        ),
        allow("Scaling", SCALING_ACTIONS, [scaled], sagemaker_only),
        allow("ScalingReads", ["application-autoscaling:DescribeScheduledActions"], ["*"]),
        allow("Quotas", [ACTION], ["*"]),
        allow("ScalingRole", ["iam:CreateServiceLinkedRole"], [linked]),
        allow("Names", ["ssm:GetParameters"], [arn("ssm", "parameter/tollgate/${Environment}/*")]),
        key_use(key, write=True),
        key_grant(key),
        allow("Letters", ["sqs:SendMessage"], [GetAtt(queue, "Arn")]),
        allow("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [GetAtt(group, "Arn")]),
        allow("Trace", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"]),
    ]
