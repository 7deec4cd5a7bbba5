"""SageMaker hosting on top of moto, in this process: what moto lacks and a rollout needs.

``UpdateEndpoint`` with canary, baking and rollback on raised alarms; containers as real processes when a command is
given, health-checked and asked through :meth:`Hosting.invoke`; ``UpdateModelPackage`` that leaves the approval alone.
Baking times are divided by ``hurry``.

A container whose archive lies in S3 gets it unpacked under an ``/opt/ml`` of its own, a shadow's beside it. What it
writes on stdout in CloudWatch's embedded format becomes metrics, and alarms on our own metrics are evaluated from them
while a rollout is baking. Emulated and not AWS's: one process stands for a fleet, traffic is drawn request by request,
an alarm looks at all values since its step began, and nothing takes minutes.
"""

import functools
import io
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.responses import ActionResult
from moto.sagemaker import models, responses
from moto.sagemaker.exceptions import ValidationError
from moto.server import ThreadedMotoServer

from tests.support.emulators import free_port

ROLLED_BACK = "Deployment rolled back: "


class Container:
    """One process that stands for the instances of a fleet.

    ``command`` runs with the model's environment and the hosting's own, ``TOLLGATE_BIND_PORT`` and, as
    ``TOLLGATE_MODEL_DIR``, where the model archive was unpacked: one in S3, or a directory here.
    """

    def __init__(self, command: Sequence[str], model: Any, hosting: "Hosting") -> None:
        self.model: str = model.model_name
        self._port = free_port()
        self._root = Path(tempfile.mkdtemp(prefix="tollgate-opt-ml-"))
        container = model.primary_container
        given = {key: value.replace("/opt/ml/", f"{self._root}/") for key, value in
                 (container.get("Environment") or {}).items()}  # fmt: skip
        environment = {**os.environ, **given, **hosting.environment, "TOLLGATE_BIND_HOST": "127.0.0.1"}
        environment |= {"TOLLGATE_BIND_PORT": str(self._port)}
        environment |= {"TOLLGATE_MODEL_DIR": self._unpack(container.get("ModelDataUrl", ""), "model")}
        for source in container.get("AdditionalModelDataSources") or []:
            address = source["S3DataSource"]["S3Uri"]
            self._unpack(address, f"additional-model-data-sources/{source['ChannelName']}")
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._reader = threading.Thread(target=self._read, args=(hosting,), daemon=True)
        self._reader.start()
        startup_s = hosting.startup_s
        deadline = time.monotonic() + startup_s
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("The primary container did not pass the ping health check.")
            time.sleep(0.02)

    def _unpack(self, address: str, folder: str) -> str:
        if not address.startswith("s3://"):
            return address.removeprefix("file://")
        bucket, _, key = address.removeprefix("s3://").partition("/")
        content = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        place = self._root / folder
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            archive.extractall(place, filter="data")
        return str(place)

    def _read(self, hosting: "Hosting") -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if line.startswith(b"{") and hosting.metrics:
                    put_embedded(json.loads(line))

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/ping", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def invoke(self, body: bytes) -> tuple[int, bytes]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/invocations", body, {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(10)
        shutil.rmtree(self._root, ignore_errors=True)


def put_embedded(line: Mapping[str, Any]) -> None:
    """Make metrics of one line of CloudWatch's embedded format, as CloudWatch does by itself."""
    for directive in line["_aws"]["CloudWatchMetrics"]:
        moment = datetime.fromtimestamp(line["_aws"]["Timestamp"] / 1000, UTC)
        values = [
            {
                "MetricName": item["Name"],
                "Dimensions": [{"Name": name, "Value": line[name]} for name in names],
                "Timestamp": moment,
                "Value": line[item["Name"]],
            }
            for names in directive["Dimensions"]
            for item in directive["Metrics"]
            if line.get(item["Name"])
        ]
        if values:
            boto3.client("cloudwatch").put_metric_data(Namespace=directive["Namespace"], MetricData=values)


@dataclass
class Fleet:
    """The containers of an endpoint; ``share`` of the requests goes to the coming ones."""

    serving: Container | None = None
    coming: Container | None = None
    share: float = 0.0


@dataclass
class Hosting:
    """The hosting part of one emulated account.

    Parameters
    ----------
    command
        Stands for the image; without it no process runs and every model is healthy.
    hurry
        Divides every waiting time.
    unhealthy
        Whether a model never becomes healthy, by its name; used when no process runs.
    environment
        Variables of every container, over those of its model: what the emulator has in another place.
    metrics
        Whether what containers write on stdout becomes metrics.
    """

    command: Sequence[str] = ()
    hurry: float = 1000.0
    startup_s: float = 60.0
    unhealthy: Callable[[str], bool] = lambda _: False
    environment: Mapping[str, str] = field(default_factory=dict)
    metrics: bool = False
    fleets: dict[str, Fleet] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    def invoke(self, endpoint: str, body: bytes) -> tuple[str, int, bytes]:
        """Return the model that answered, the status and the answer."""
        fleet = self.fleets[endpoint]
        coming = fleet.coming if fleet.coming is not None and self.chance.random() < fleet.share else None
        container = coming or fleet.serving
        assert container is not None
        return container.model, *container.invoke(body)

    def settle(self) -> None:
        """Wait until no endpoint moves."""
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive()

    def stop(self) -> None:
        self.settle()
        for fleet in self.fleets.values():
            for container in (fleet.serving, fleet.coming):
                if container is not None:
                    container.stop()

    def launch(self, backend: Any, config: str) -> Container | None:
        model = backend._models[backend.endpoint_configs[config].production_variants[0]["ModelName"]]
        if self.command:
            return Container(self.command, model, self)
        if self.unhealthy(model.model_name):
            raise RuntimeError("The primary container did not pass the ping health check.")
        return None

    def start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def create(self, backend: Any, endpoint: Any) -> None:
        try:
            self.fleets[endpoint.endpoint_name] = Fleet(self.launch(backend, endpoint.endpoint_config_name))
            endpoint.endpoint_status = "InService"
        except RuntimeError as error:
            endpoint.endpoint_status, endpoint.failure_reason = "Failed", str(error)

    def roll_out(self, backend: Any, endpoint: Any, config: str, rules: Mapping[str, Any]) -> None:
        fleet = self.fleets.setdefault(endpoint.endpoint_name, Fleet())
        policy = rules.get("BlueGreenUpdatePolicy", {})
        routing = policy.get("TrafficRoutingConfiguration", {})
        guards = [alarm["AlarmName"] for alarm in rules.get("AutoRollbackConfiguration", {}).get("Alarms", [])]
        wait_s = routing.get("WaitIntervalInSeconds", 0) / self.hurry
        try:
            fleet.coming = self.launch(backend, config)
            for share in (*([routing["CanarySize"]["Value"] / 100] if routing else []), 1.0):
                fleet.share = share
                _bake(backend, guards, wait_s)
        except RuntimeError as error:
            endpoint.endpoint_status = "RollingBack"
            rejected, fleet.coming, fleet.share = fleet.coming, None, 0.0
            if rejected is not None:
                rejected.stop()
            endpoint.failure_reason = f"{ROLLED_BACK}{error}"
        else:
            replaced, fleet.serving, fleet.coming, fleet.share = fleet.serving, fleet.coming, None, 0.0
            if replaced is not None:
                time.sleep(policy.get("TerminationWaitInSeconds", 0) / self.hurry)
                replaced.stop()
            endpoint.endpoint_config_name = config
            variants = backend.endpoint_configs[config].production_variants
            endpoint.production_variants = endpoint._process_production_variants(variants)
        endpoint.pending_deployment_summary = None
        endpoint.endpoint_status = "InService"


def _bake(backend: Any, guards: Sequence[str], wait_s: float) -> None:
    alarms = cloudwatch_backends[backend.account_id][backend.region_name].alarms
    deadline, since = time.monotonic() + wait_s, datetime.now(UTC).replace(tzinfo=None)
    while True:
        _evaluate([alarms[name] for name in guards if name in alarms], backend, since)
        raised = [name for name in guards if name in alarms and alarms[name].state_value == "ALARM"]
        if raised:
            raise RuntimeError(f"One or more configured alarms tripped: {raised}")
        if time.monotonic() >= deadline:
            return
        time.sleep(0.005)


def _evaluate(alarms: Sequence[Any], backend: Any, since: datetime) -> None:
    """Raise alarms on our own metrics whose values since a moment are beyond their threshold."""
    data = cloudwatch_backends[backend.account_id][backend.region_name].metric_data
    for alarm in alarms:
        if not str(alarm.namespace).startswith("Tollgate") or alarm.state_value == "ALARM":
            continue
        found = [
            float(getattr(datum, "value", 0.0))
            for datum in list(data)
            if (datum.namespace, datum.name) == (alarm.namespace, alarm.metric_name) and datum.timestamp >= since
        ]
        value = (sum(found) if alarm.statistic == "Sum" else max(found)) if found else 0.0
        if value > alarm.threshold:
            alarm.update_state(f"{value} > {alarm.threshold}", "{}", "ALARM")


@contextmanager
def empty_account(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run moto's server in this process on an account that holds nothing, before and after; yield its address."""
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "eu-west-1")):
        patch.setenv(f"AWS_{name}", value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    patch.setenv("AWS_ENDPOINT_URL", address)
    reset = urllib.request.Request(f"{address}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset, timeout=30).close()
    try:
        yield address
        urllib.request.urlopen(reset, timeout=30).close()
    finally:
        server.stop()


@functools.cache
def _instance_types() -> frozenset[str]:
    client = boto3.client("sagemaker", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    return frozenset(client.meta.service_model.shape_for("ProductionVariantInstanceType").enum)


@contextmanager
def sagemaker_hosting(patch: pytest.MonkeyPatch, **options: Any) -> Iterator[Hosting]:
    """Extend moto, which must be active, until the end of the block."""
    hosting = Hosting(**options)
    known = _instance_types()
    create, update_package = (
        models.SageMakerModelBackend.create_endpoint,
        models.SageMakerModelBackend.update_model_package,
    )

    def create_endpoint(self: Any, endpoint_name: str, endpoint_config_name: str, tags: Any) -> Any:
        endpoint: Any = create(self, endpoint_name, endpoint_config_name, tags)
        endpoint.data_capture_config = None  # moto's is not what AWS describes
        endpoint.endpoint_status = "Creating"
        hosting.start(hosting.create, self, endpoint)
        return endpoint

    def update_endpoint(self: Any) -> ActionResult:
        request = {
            key: self._get_param(key)
            for key in ("EndpointName", "EndpointConfigName", "DeploymentConfig", "RetainAllVariantProperties")
        }
        backend, config = self.sagemaker_backend, request["EndpointConfigName"]
        endpoint = backend.endpoints.get(request["EndpointName"])
        _check_update(backend, endpoint, request)
        hosting.requests.append(request)
        endpoint.endpoint_status, endpoint.failure_reason = "Updating", None
        endpoint.pending_deployment_summary = {"EndpointConfigName": config}
        endpoint.last_modified_time = datetime.now(UTC).replace(tzinfo=None)
        hosting.start(hosting.roll_out, backend, endpoint, config, request["DeploymentConfig"] or {})
        return ActionResult({"EndpointArn": endpoint.arn})

    def update_model_package(self: Any, model_package_arn: str, model_approval_status: Any, **changes: Any) -> Any:
        package = self.model_packages.get(self.model_package_name_mapping.get(model_package_arn, model_package_arn))
        if package is not None:
            model_approval_status = model_approval_status or package.model_approval_status
            old = package.customer_metadata_properties or {}
            changes["customer_metadata_properties"] = {**old, **(changes.get("customer_metadata_properties") or {})}
        return update_package(
            self, model_package_arn=model_package_arn, model_approval_status=model_approval_status, **changes
        )

    def validate(self: Any, production_variants: Sequence[Mapping[str, Any]]) -> None:
        for variant in production_variants:
            pools = variant.get("InstancePools") or [variant]
            for pool in pools:
                if pool.get("InstanceType") not in known:
                    raise ValidationError(f"Value '{pool.get('InstanceType')}' at 'instanceType' failed to satisfy")

    patch.setattr(models.SageMakerModelBackend, "create_endpoint", create_endpoint)
    patch.setattr(models.SageMakerModelBackend, "update_model_package", update_model_package)
    patch.setattr(models.FakeEndpointConfig, "validate_production_variants", validate)
    patch.setattr(responses.SageMakerResponse, "update_endpoint", update_endpoint, raising=False)
    try:
        yield hosting
    finally:
        hosting.stop()


def _check_update(backend: Any, endpoint: Any, request: Mapping[str, Any]) -> None:
    """Refuse what AWS refuses."""
    if endpoint is None:
        raise ValidationError(f'Could not find endpoint "{request["EndpointName"]}".')
    if request["EndpointConfigName"] not in backend.endpoint_configs:
        raise ValidationError(f'Could not find endpoint configuration "{request["EndpointConfigName"]}".')
    if endpoint.endpoint_status not in ("InService", "UpdateRollbackFailed"):
        raise ValidationError(f'Cannot update in-progress endpoint "{endpoint.arn}".')
    coming = backend.endpoint_configs[request["EndpointConfigName"]].production_variants
    names = {variant["VariantName"] for variant in endpoint.production_variants}
    if request["DeploymentConfig"] and {variant["VariantName"] for variant in coming} != names:
        raise ValidationError("DeploymentConfig requires the same variant names in old and new configuration.")
