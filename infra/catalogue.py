"""What AWS has, as the installed boto3 knows it: regions, instance types of endpoints. Nothing goes over a network."""

import difflib
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import boto3
import botocore.session

SERVICES: Final = (
    "application-autoscaling",
    "athena",
    "cloudformation",
    "cloudwatch",
    "dynamodb",
    "ec2",
    "ecr",
    "elasticache",
    "events",
    "firehose",
    "glue",
    "kinesis",
    "kms",
    "lambda",
    "logs",
    "s3",
    "sagemaker",
    "scheduler",
    "secretsmanager",
    "service-quotas",
    "sns",
    "sqs",
    "ssm",
)
"""Services of a region that the stacks and the commands use, by boto3's names."""


@cache
def regions(service: str) -> frozenset[str]:
    """Return the regions that have a service, those of China and of governments too."""
    session = boto3.Session()
    return frozenset(
        name
        for partition in session.get_available_partitions()
        for name in session.get_available_regions(service, partition_name=partition)
    )


def unfit_region(region: str) -> str:
    """Return why nothing can be deployed in a region; empty when it can.

    Examples
    --------
    >>> unfit_region("eu-west-1")
    ''
    >>> unfit_region("eu-west-9").partition(" (near: ")[2]
    'eu-west-3, eu-west-2, eu-west-1)'
    """
    missing = [service for service in SERVICES if region not in regions(service)]
    if not missing:
        return ""
    by = f"boto3 {boto3.__version__} knows"
    if len(missing) < len(SERVICES):
        return f"is a region without {', '.join(missing)} as far as {by}"
    return f"is no region that {by} (near: {near(region, regions('sagemaker'))})"


@cache
def instance_types() -> tuple[str, ...]:
    """Return the instance types that an endpoint may have."""
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape: Any = model.shape_for("ProductionVariantInstanceType")
    return tuple(shape.enum)


def near(value: str, known: Iterable[str]) -> str:
    """Return the known names that are most like a value, the likest first, for a message."""
    return ", ".join(difflib.get_close_matches(value, sorted(known))) or "none that is like it"
