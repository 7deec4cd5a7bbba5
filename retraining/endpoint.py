"""The endpoint as the weekly loop sees it: which version serves, which one comes, and the two ways back.

The deployer (``infra/``) makes models and configurations and starts rollouts when a package is approved. From here an
endpoint is only looked at, called back by raising an alarm that guards its rollouts, or moved to a configuration that
exists already. It is never deleted, so at no moment is there no model.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from retraining.bucket import reaching
from retraining.errors import NothingToRollBack, RolloutFailed

PACKAGE_TAG: Final = "tollgate:package"
"""On an endpoint configuration: the package behind it. The deployer writes it."""

TO_TAG: Final = "tollgate:rolled-to"
"""On an endpoint: the configuration that its last change wants; another one that serves has come back, says the
deployer.
"""

MOVING: Final = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack"})
POLL_S: Final = 5.0
NAMESPACE: Final = "Tollgate"
SHIFT: Final = "CanaryShift"
"""Metric behind the breaker's alarm."""

Stage = Literal["canary", "full", "rolling back", "failed"]


@dataclass(frozen=True)
class Serving:
    """What an endpoint does.

    Parameters
    ----------
    status, failure
        SageMaker's status; why the last change failed, empty when it did not.
    config, package
        What serves: configuration, and ARN of its package (empty when it is not ours).
    since_ms
        When its last change began.
    coming, coming_package
        The same of what is being rolled out; empty for nothing.
    """

    status: str
    failure: str
    config: str
    package: str
    since_ms: int
    coming: str = ""
    coming_package: str = ""

    @property
    def stage(self) -> Stage:
        """Where the endpoint is on its way."""
        if self.status == "RollingBack":
            return "rolling back"
        if self.status in MOVING:
            return "canary"
        return "full" if self.status == "InService" else "failed"


class Endpoint:
    """One endpoint.

    Parameters
    ----------
    sagemaker, cloudwatch
        boto3 clients.
    name
        Such as ``tollgate-prod-scorer``.
    pause
        Waits that many seconds.
    """

    def __init__(
        self, sagemaker: Any, cloudwatch: Any, name: str, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._sagemaker = sagemaker
        self._cloudwatch = cloudwatch
        self.name = name
        self._pause = pause

    @property
    def guard(self) -> str:
        """Name of the alarm by which the breaker calls a rollout back."""
        return f"{self.name}-shifted"

    def look(self) -> Serving:
        """Return what the endpoint does.

        Raises
        ------
        RegistryUnreachable
            SageMaker does not answer, or there is no such endpoint.
        """
        with reaching(f"endpoint {self.name}"):
            found = self._sagemaker.describe_endpoint(EndpointName=self.name)
        config = found["EndpointConfigName"]
        coming = (found.get("PendingDeploymentSummary") or {}).get("EndpointConfigName", "")
        return Serving(
            found["EndpointStatus"],
            found.get("FailureReason") or "",
            config,
            self._package(config),
            int(found["LastModifiedTime"].timestamp() * 1000),
            coming,
            self._package(coming) if coming else "",
        )

    def call_back(self, why: str) -> None:
        """Raise the breaker's alarm: SageMaker returns all traffic to the old fleet, which still stands."""
        product, environment, _ = self.name.split("-", 2)
        with reaching(f"alarm {self.guard}"):
            self._cloudwatch.put_metric_data(
                Namespace=f"{product.capitalize()}-{environment}", MetricData=[{"MetricName": SHIFT, "Value": 1.0}]
            )
            self._cloudwatch.set_alarm_state(AlarmName=self.guard, StateValue="ALARM", StateReason=why[:1023])

    def calm(self) -> None:
        """Take the breaker's alarm down once nothing moves, so that the next rollout may begin."""
        with reaching(f"alarm {self.guard}"):
            self._cloudwatch.set_alarm_state(
                AlarmName=self.guard, StateValue="OK", StateReason="the rollout that it stopped has ended"
            )

    def return_to(self, package: str, number: int) -> str:
        """Move the endpoint to the newest configuration of a package, all at once, and return its name.

        Raises
        ------
        NothingToRollBack
            No configuration of that package is left.
        """
        with reaching(f"configurations of {self.name}"):
            listed = self._sagemaker.list_endpoint_configs(
                NameContains=f"{self.name}-v{number}-", SortBy="CreationTime", SortOrder="Descending"
            )["EndpointConfigs"]
        wanted = next(
            (item["EndpointConfigName"] for item in listed if self._package(item["EndpointConfigName"]) == package), ""
        )
        if not wanted:
            raise NothingToRollBack(
                f"{self.name} has no configuration of {package}; release it: python -m infra release"
            )
        with reaching(f"returning {self.name} to {wanted}"):
            arn = self._sagemaker.describe_endpoint(EndpointName=self.name)["EndpointArn"]
            self._sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": TO_TAG, "Value": wanted}])
            self._sagemaker.update_endpoint(
                EndpointName=self.name, EndpointConfigName=wanted, RetainAllVariantProperties=True
            )
        return wanted

    def settle(self, advance: Callable[[Serving], None] = lambda _: None) -> Serving:
        """Wait until the endpoint moves no more and return what it serves.

        Raises
        ------
        RolloutFailed
            It ended in a state in which it serves nothing, or a mixture.
        """
        while (now := self.look()).status in MOVING:
            advance(now)
            self._pause(POLL_S)
        if now.stage == "failed":
            raise RolloutFailed(f"{self.name} ended as {now.status}: {now.failure}; see docs/runbook.md")
        return now

    def _package(self, config: str) -> str:
        with reaching(f"configuration {config}"):
            arn = self._sagemaker.describe_endpoint_config(EndpointConfigName=config)["EndpointConfigArn"]
            tags = {tag["Key"]: tag["Value"] for tag in self._sagemaker.list_tags(ResourceArn=arn)["Tags"]}
        return str(tags.get(PACKAGE_TAG, ""))
