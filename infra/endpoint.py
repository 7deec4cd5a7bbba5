"""What a rollout is made of: the model, the endpoint configuration and the rules of the rollout, as boto3 takes them.

Names carry a digest of everything that they stand for, so that the same release has the same names, twice made is once
made, and nothing that is served is ever changed in place.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fraud.settings import PREFIX
from infra.environment import Hosting, Scorer
from infra.metrics import VARIANT
from infra.names import CAPTURED, LISTS, SCORER

STARTUP_S: Final = 300
"""Longest time from the start of a container to its first healthy answer."""

TERMINATION_WAIT_S: Final = 600
"""How long the old fleet stays after the new one has all traffic."""

SHADOW: Final = "shadow"
SHADOW_ROOT: Final = "/opt/ml/additional-model-data-sources"
"""Where SageMaker unpacks what a model has besides its own archive, by channel."""

PACKAGE_TAG: Final = "tollgate:package"
FROM_TAG: Final = "tollgate:rolled-from"
"""On the endpoint: what was served when the last rollout began."""

TO_TAG: Final = "tollgate:rolled-to"
"""On the endpoint: what that rollout wants to serve."""

SCALED_TAG: Final = "tollgate:scaled"
"""On the endpoint: the configuration for which scaling was last registered."""

TOLD_TAG: Final = "tollgate:told"
"""On the endpoint: the rollout that came back, and the event that somebody was told of it by."""

PREVIOUS_TAG: Final = "tollgate:previous-config"
"""On the endpoint: what was served before that."""


@dataclass(frozen=True)
class Place:
    """Where the endpoint runs, as the stacks gave it.

    Parameters
    ----------
    role
        ARN of the role of the container.
    subnets, groups
        Of the VPC.
    key
        ARN of the data key.
    bucket
        The environment's bucket.
    region, currency, scorer
        For the container's settings.
    store_kind, store_host, store_secret
        The online store; the ARN of its password, which the container reads with its own role at its start.
    decisions
        Delivery stream that takes every decision.
    """

    role: str
    subnets: tuple[str, ...]
    groups: tuple[str, ...]
    key: str
    bucket: str
    region: str
    currency: str
    scorer: Scorer
    store_kind: str
    store_host: str
    store_secret: str
    decisions: str

    def settings(self) -> dict[str, str]:
        """Return the container's settings."""
        return {
            **store_settings(self.store_kind, self.store_host, self.store_secret),
            **self.scorer.settings(),
            PREFIX + "ENVIRONMENT": "aws",
            PREFIX + "CURRENCY": self.currency,
            PREFIX + "REGION": self.region,
            PREFIX + "BUCKET": self.bucket,
            PREFIX + "DECISION_STREAM": self.decisions,
            PREFIX + "LISTS": f"s3://{self.bucket}/{LISTS}",
            PREFIX + "BIND_HOST": "0.0.0.0",  # noqa: S104  # the container's own network, behind its security group
            PREFIX + "METRICS": "emf",
        }


def store_settings(kind: str, host: str, secret: str) -> dict[str, str]:
    """Return the settings of whoever speaks with the online store; see :func:`infra.store_users.online_store`."""
    on_redis = kind == "redis"
    return {
        PREFIX + "ONLINE_STORE": kind,
        PREFIX + "REDIS_HOST": host,
        PREFIX + "REDIS_TLS": "true" if on_redis else "false",
        PREFIX + "REDIS_USERNAME": SCORER if on_redis and secret else "",
        PREFIX + "REDIS_PASSWORD_SECRET": secret if on_redis else "",
    }


@dataclass(frozen=True)
class Package:
    """An approved model package: its registry entry, image and model archive."""

    arn: str
    version: int
    image: str
    model: str


@dataclass(frozen=True)
class Release:
    """Requests that make a package ready to be served; ``config`` is the name that everything hangs on."""

    package: Package
    model: Mapping[str, Any]
    endpoint_config: Mapping[str, Any]

    @property
    def config(self) -> str:
        """Name of the endpoint configuration."""
        return str(self.endpoint_config["EndpointConfigName"])


def release(
    endpoint: str, package: Package, place: Place, hosting: Hosting, *, shadow: Package | None = None
) -> Release:
    """Return what has to exist before ``package`` can be served, with ``shadow`` scoring along."""
    container: dict[str, Any] = {
        "Image": package.image,
        "ModelDataUrl": package.model,
        "Environment": place.settings(),
    }
    if shadow is not None:
        container["Environment"] |= {PREFIX + "SHADOW_DIR": f"{SHADOW_ROOT}/{SHADOW}"}
        source = {"S3Uri": shadow.model, "S3DataType": "S3Object", "CompressionType": "Gzip"}
        container["AdditionalModelDataSources"] = [{"ChannelName": SHADOW, "S3DataSource": source}]
    model: dict[str, Any] = {
        "PrimaryContainer": container,
        "ExecutionRoleArn": place.role,
        "VpcConfig": {"SecurityGroupIds": list(place.groups), "Subnets": list(place.subnets)},
        "EnableNetworkIsolation": False,
    }
    model_name = f"{endpoint}-v{package.version}-{_digest(model)}"
    config: dict[str, Any] = {
        "ProductionVariants": [_variant(model_name, hosting)],
        "DataCaptureConfig": {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": f"s3://{place.bucket}/{CAPTURED}",
            "KmsKeyId": place.key,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
        },
        # Instances with local disks take no KmsKeyId; ours have none.
        "KmsKeyId": place.key,
    }
    config_name = f"{endpoint}-v{package.version}-{_digest(config)}"
    tags = [{"Key": "Product", "Value": "tollgate"}, {"Key": PACKAGE_TAG, "Value": package.arn}]
    return Release(
        package,
        {"ModelName": model_name, **model, "Tags": tags},
        {"EndpointConfigName": config_name, **config, "Tags": tags},
    )


def _variant(model: str, hosting: Hosting) -> dict[str, Any]:
    first, *others = hosting.instance_types
    pools = [
        {"InstanceType": kind, "Priority": priority} for priority, kind in enumerate(hosting.instance_types, start=1)
    ]
    return {
        "VariantName": VARIANT,
        "ModelName": model,
        "InitialInstanceCount": hosting.instances,
        "InitialVariantWeight": 1.0,
        "ContainerStartupHealthCheckTimeoutInSeconds": STARTUP_S,
        "ModelDataDownloadTimeoutInSeconds": STARTUP_S,
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        **({"InstancePools": pools} if others else {"InstanceType": first}),
    }


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def deployment(hosting: Hosting, guards: Sequence[str]) -> dict[str, Any]:
    """Return the rules of a rollout: a canary first, watched; back to the old fleet when a guard is raised."""
    longest = 2 * hosting.bake_s + TERMINATION_WAIT_S + 6 * STARTUP_S
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "CANARY",
                "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": hosting.canary_percent},
                "WaitIntervalInSeconds": hosting.bake_s,
            },
            "TerminationWaitInSeconds": TERMINATION_WAIT_S,
            "MaximumExecutionTimeoutInSeconds": longest,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name} for name in guards]},
    }
