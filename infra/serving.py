"""Serving: what the endpoint stands on, and where its decisions go.

The endpoint, its configurations and models belong to the deployer. Were they in this stack, every model rollout would
be drift and the next update of the stack would bring the old model back.
"""

from typing import Any, Final

from troposphere import GetAtt, Ref, Sub, Template, iam

from infra.blueprint import INTERFACES_EXCUSED, Blueprint, allow, arn, document, key_use, name, vpc_access
from infra.dashboard import add_dashboard
from infra.data import tables
from infra.decisions import add_decisions
from infra.metrics import NAMESPACE, SCORER_EVENTS
from infra.names import CAPTURED, LISTS, MODELS, SCORER
from infra.store_users import store_password
from infra.watching import add_alarms, add_metric_filters

ENDPOINT: Final = "scorer"


def build() -> Template:
    """Return the template."""
    blueprint = Blueprint("serving", "Tollgate: role, logs, alarms and dashboard of the scorer's endpoint.")
    key = blueprint.take("network", "key-arn")
    endpoint_logs = Sub("/aws/sagemaker/Endpoints/tollgate-${Environment}-scorer")
    group = blueprint.log_group("ScorerLog", endpoint_logs, key)
    delivery = add_decisions(blueprint, key)
    role = blueprint.role("ScorerRole", "scorer", "sagemaker", [*_permissions(blueprint, key, group), delivery])
    blueprint.excuse(role, **INTERFACES_EXCUSED)
    callers = document(
        allow("Score", ["sagemaker:InvokeEndpoint"], [arn("sagemaker", "endpoint/tollgate-${Environment}-scorer")])
    )
    policy = iam.ManagedPolicy(
        "CallersPolicy",
        ManagedPolicyName=name("callers"),
        Description="Lets a checkout service ask for decisions, and nothing else.",
        PolicyDocument=callers,
    )
    blueprint.add(policy)
    editors = iam.ManagedPolicy(
        "ListEditorsPolicy",
        ManagedPolicyName=name("list-editors"),
        Description="Lets somebody show and change the allow and block lists, and nothing else.",
        PolicyDocument=document(*_lists(blueprint, write=True), key_use(key, write=True)),
    )
    blueprint.add(editors)
    add_metric_filters(blueprint, SCORER_EVENTS, group)
    add_alarms(blueprint)
    add_dashboard(blueprint)
    blueprint.give("scorer-role-arn", GetAtt(role, "Arn"))
    blueprint.give("callers-policy-arn", Ref(policy))
    blueprint.give("list-editors-policy-arn", Ref(editors))
    return blueprint.finish()


def _permissions(blueprint: Blueprint, key: Any, group: Any) -> list[dict[str, Any]]:
    bucket = blueprint.take("data", "bucket-arn")
    return [
        allow("Models", ["s3:GetObject"], [Sub(f"${{Bucket}}/{MODELS}*", Bucket=bucket)]),
        allow("Bucket", ["s3:ListBucket"], [bucket], {"StringLike": {"s3:prefix": f"{MODELS}*"}}),
        *_lists(blueprint, write=False),
        allow("Captured", ["s3:PutObject"], [Sub(f"${{Bucket}}/{CAPTURED}/*", Bucket=bucket)]),
        key_use(key, write=True),
        allow("OnlineStore", ["dynamodb:BatchGetItem"], tables()),
        store_password(blueprint, SCORER),
        *image_pull(blueprint.take("data", "inference-images-arn")),
        allow(
            "Log",
            ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
            [GetAtt(group, "Arn")],
        ),
        allow(
            "Metrics",
            ["cloudwatch:PutMetricData"],
            ["*"],
            {"StringLike": {"cloudwatch:namespace": [f"{NAMESPACE}*", "/aws/sagemaker/Endpoints*"]}},
        ),
        vpc_access(),
    ]


def _lists(blueprint: Blueprint, *, write: bool) -> list[dict[str, Any]]:
    """Return what reading the allow and block lists needs, or changing them."""
    bucket = blueprint.take("data", "bucket-arn")
    actions = ["s3:GetObject", *(["s3:PutObject"] if write else [])]
    return [
        allow("Lists", actions, [Sub(f"${{Bucket}}/{LISTS}*", Bucket=bucket)]),
        allow("ListsFolder", ["s3:ListBucket"], [bucket], {"StringEquals": {"s3:prefix": LISTS}}),
    ]


def image_pull(repository: Any) -> list[dict[str, Any]]:
    """Return what pulling images of one repository needs."""
    pull = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    return [allow("Images", pull, [repository]), allow("ImagesLogin", ["ecr:GetAuthorizationToken"], ["*"])]
