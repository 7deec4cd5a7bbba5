"""Puts an approved model package into service, and takes it back. Safe to run again at any point.

The order is: look, make what is missing, check the guards, and only then one call that changes what is served. Until
that call the endpoint serves what it served; after it AWS keeps the old fleet until the new one has proven itself. An
endpoint that serves is never deleted.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from botocore.exceptions import ClientError

from fraud.errors import TollgateError
from infra.endpoint import FROM_TAG, PACKAGE_TAG, PREVIOUS_TAG, TO_TAG, Package, Place, Release, deployment, release
from infra.environment import Hosting
from infra.errors import AlarmRaised, EndpointBusy, EndpointStuck, MissingPrerequisite, RolledBack
from infra.names import environment_of
from infra.served import MOVING, NONE, Served, ask, look, package

POLL_S: Final = 15.0

Step = Literal["created", "started", "in progress", "unchanged"]


@dataclass(frozen=True)
class Rollout:
    """What a command did: ``config`` is the wanted one, ``previous`` the one served before."""

    step: Step
    config: str
    previous: str = ""


class Deployer:
    """One endpoint.

    Parameters
    ----------
    sagemaker, cloudwatch
        boto3 clients.
    endpoint
        Its name.
    place, hosting
        Where and how it runs.
    guards
        Alarms that call a rollout back.
    pause
        Waits that many seconds.
    """

    def __init__(
        self,
        sagemaker: Any,
        cloudwatch: Any,
        *,
        endpoint: str,
        place: Place,
        hosting: Hosting,
        guards: Sequence[str],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sagemaker = sagemaker
        self._cloudwatch = cloudwatch
        self._endpoint = endpoint
        self._place = place
        self._hosting = hosting
        self._guards = guards
        self._pause = pause

    def served(self) -> Served:
        """Return what the endpoint is doing."""
        return look(self._sagemaker, self._endpoint)

    def deploy(self, package_arn: str, *, recreate: bool = False, shadow_arn: str = "") -> Rollout:
        """Start serving a package; :meth:`settle` waits for the end.

        Parameters
        ----------
        package_arn
            Of an approved package.
        recreate
            Whether an endpoint that failed and serves nothing may be deleted and made anew.
        shadow_arn
            Of a package that scores along and decides nothing; it needs no approval.

        Raises
        ------
        MissingPrerequisite
            The package cannot be served, an alarm does not exist, or AWS misses a role or quota.
        AlarmRaised
            A guard is raised already.
        EndpointBusy
            Another rollout is under way.
        EndpointStuck
            The endpoint failed; a person decides.
        """
        shadow = self._package(shadow_arn, approved=False) if shadow_arn else None
        wanted = release(self._endpoint, self._package(package_arn), self._place, self._hosting, shadow=shadow)
        now = self.served()
        if now.status == "InService" and wanted.config == now.config:
            return Rollout("unchanged", wanted.config, now.config)
        if now.status in MOVING and wanted.config == (now.coming or now.config):
            return Rollout("in progress", wanted.config, now.config)
        self._refuse(now, recreate=recreate)
        self._make(wanted)
        if now.status == "Failed":
            self._remove_failed()
        if now.status in (NONE, "Failed"):
            self._change(
                self._sagemaker.create_endpoint, EndpointConfigName=wanted.config, Tags=[_tag("Product", "tollgate")]
            )
            return Rollout("created", wanted.config)
        self._check_guards()
        return self._update(wanted.config, now.config, deployment(self._hosting, self._guards))

    def rollback(self) -> Rollout:
        """Go back at once to what was served before, without a canary; also out of a rollback that failed.

        Raises
        ------
        MissingPrerequisite
            Nothing was served before.
        EndpointBusy
            A rollout is under way: AWS itself rolls it back when a guard is raised.
        """
        now = self.served()
        if now.status in MOVING:
            raise EndpointBusy(
                f"{self._endpoint} is {now.status}; while a rollout is under way, raise a guard to call it back: "
                f"aws cloudwatch set-alarm-state --alarm-name {self._guards[0]} --state-value ALARM --state-reason stop"
            )
        if now.status in (NONE, "Failed", "OutOfService"):
            raise EndpointStuck(f"{self._endpoint} is {now.status} and serves nothing; deploy a package instead")
        previous = self._previous(now.config)
        if not previous:
            raise MissingPrerequisite(f"{self._endpoint} has served nothing before {now.config}")
        if previous == now.config and now.status == "InService":
            return Rollout("unchanged", previous, previous)
        return self._update(previous, now.config, {})

    def settle(self, wanted: str, advance: Callable[[Served], None] = lambda _: None) -> Served:
        """Wait until the endpoint moves no more and return what it serves.

        Raises
        ------
        RolledBack
            It serves something else than ``wanted``.
        EndpointStuck
            It serves nothing, or a mixture.
        """
        while (now := self.served()).status in MOVING:
            advance(now)
            self._pause(POLL_S)
        if now.status != "InService":
            raise EndpointStuck(f"{self._endpoint} ended as {now.status}: {now.failure or 'AWS gives no reason'}")
        if now.config != wanted:
            raise RolledBack(f"{self._endpoint} still serves {now.config}: {now.failure or 'AWS gives no reason'}")
        return now

    def mark(self, package_arn: str, outcome: str, reason: str = "") -> None:
        """Write into the registry what became of a package's rollout, unless it says so already."""
        properties = {"rollout": outcome, "rollout-reason": reason[:200] or "none"}
        answer = ask(self._sagemaker.describe_model_package, ModelPackageName=package_arn) or {}
        written = answer.get("CustomerMetadataProperties") or {}
        if {key: written.get(key) for key in properties} == properties:
            return
        self._sagemaker.update_model_package(ModelPackageArn=package_arn, CustomerMetadataProperties=properties)

    def notes(self) -> dict[str, str]:
        """Return the endpoint's tags."""
        return self._tags(self._arn())

    def note(self, **notes: str) -> None:
        """Put tags on the endpoint."""
        self._call(self._sagemaker.add_tags, ResourceArn=self._arn(), Tags=[_tag(*note) for note in notes.items()])

    def package_of(self, config: str) -> str:
        """Return the package behind an endpoint configuration; empty when it is not ours."""
        answer = ask(self._sagemaker.describe_endpoint_config, EndpointConfigName=config)
        if answer is None:
            return ""
        return self._tags(answer["EndpointConfigArn"]).get(PACKAGE_TAG, "")

    def _package(self, arn: str, *, approved: bool = True) -> Package:
        return package(self._sagemaker, arn, group=self._endpoint, approved=approved)

    def _refuse(self, now: Served, *, recreate: bool) -> None:
        if now.status in MOVING:
            raise EndpointBusy(f"{self._endpoint} is {now.status} towards {now.coming or now.config}; try again later")
        if now.status == "Failed" and not recreate:
            raise EndpointStuck(
                f"{self._endpoint} failed and serves nothing ({now.failure}); correct the cause and run again with "
                "--recreate, which deletes the failed endpoint once everything else is ready"
            )
        if now.status == "UpdateRollbackFailed":
            raise EndpointStuck(
                f"{self._endpoint} serves two configurations at once ({now.failure}); run "
                f"'python -m infra rollback {environment_of(self._endpoint)}'"
            )
        if now.status == "OutOfService":
            raise EndpointStuck(f"{self._endpoint} is OutOfService: {now.failure}; ask AWS support")

    def _make(self, wanted: Release) -> None:
        """Make model and configuration unless they are there already."""
        model, config = wanted.model, wanted.endpoint_config
        if ask(self._sagemaker.describe_model, ModelName=model["ModelName"]) is None:
            self._call(self._sagemaker.create_model, **model)
        if ask(self._sagemaker.describe_endpoint_config, EndpointConfigName=wanted.config) is None:
            self._call(self._sagemaker.create_endpoint_config, **config)

    def _check_guards(self) -> None:
        alarms = self._cloudwatch.describe_alarms(AlarmNames=list(self._guards))["MetricAlarms"]
        states = {alarm["AlarmName"]: alarm["StateValue"] for alarm in alarms}
        for guard in self._guards:
            if guard not in states:
                raise MissingPrerequisite(
                    f"the alarm {guard} does not exist: deploy the serving stack first, "
                    f"'python -m infra deploy {environment_of(self._endpoint)} --stack serving'"
                )
            if states[guard] == "ALARM":
                raise AlarmRaised(f"{guard} is raised: a rollout would come back at once; see docs/runbook.md")

    def _update(self, config: str, served: str, rules: Mapping[str, Any]) -> Rollout:
        previous = self._previous(served)
        # The tags first: interrupted between the two, what serves is still where it came from.
        self.note(**{TO_TAG: config, FROM_TAG: served}, **({PREVIOUS_TAG: previous} if previous else {}))
        request: dict[str, Any] = {"EndpointConfigName": config, "RetainAllVariantProperties": True}
        try:
            self._change(self._sagemaker.update_endpoint, **request, **({"DeploymentConfig": rules} if rules else {}))
        except TollgateError:
            self.note(**{TO_TAG: served})  # refused, and told: nothing is to come
            raise
        return Rollout("started", config, served)

    def _previous(self, served: str) -> str:
        """Return what was served before ``served``: a rollout that came back does not count."""
        tags = self.notes()
        came_from = tags.get(FROM_TAG, "")
        return came_from if came_from not in ("", served) else tags.get(PREVIOUS_TAG, "")

    def _arn(self) -> str:
        return str(self._sagemaker.describe_endpoint(EndpointName=self._endpoint)["EndpointArn"])

    def _tags(self, arn: str) -> dict[str, str]:
        return {tag["Key"]: tag["Value"] for tag in self._sagemaker.list_tags(ResourceArn=arn)["Tags"]}

    def _remove_failed(self) -> None:
        self._sagemaker.delete_endpoint(EndpointName=self._endpoint)
        while self.served().status != NONE:
            self._pause(POLL_S)

    def _change(self, call: Callable[..., Any], **request: Any) -> None:
        try:
            self._call(call, EndpointName=self._endpoint, **request)
        except MissingPrerequisite as error:
            if "in-progress" in str(error):  # somebody was faster
                raise EndpointBusy(f"{self._endpoint}: {error}") from None
            raise

    def _call(self, call: Callable[..., Any], **request: Any) -> Any:
        """Call AWS; what it lacks (role, quota, image, archive) is a fact for the caller."""
        try:
            return call(**request)
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
            if code in ("ValidationException", "ResourceLimitExceeded", "ResourceNotFound", "AccessDeniedException"):
                raise MissingPrerequisite(f"{code}: {message}") from None
            raise


def _tag(key: str, value: str) -> dict[str, str]:
    return {"Key": key, "Value": value}
