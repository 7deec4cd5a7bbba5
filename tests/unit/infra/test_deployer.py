import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from moto import mock_aws

from fraud.settings import read_settings
from infra.alarms import rollout_guards
from infra.deployer import Deployer
from infra.endpoint import Package, Place, release
from infra.environment import Hosting as HostingSettings
from infra.environment import Scorer
from infra.errors import AlarmRaised, EndpointBusy, EndpointStuck, MissingPrerequisite, RolledBack
from infra.served import NONE
from tests.support.guards import quiet_guards
from tests.support.hosting import ROLLED_BACK, Hosting, sagemaker_hosting

ENDPOINT = "tollgate-dev-scorer"
GUARDS = rollout_guards("dev")
PLACE = Place(
    role="arn:aws:iam::123456789012:role/tollgate-dev-scorer",
    subnets=("subnet-1", "subnet-2", "subnet-3"),
    groups=("sg-1",),
    key="arn:aws:kms:eu-west-1:123456789012:key/11111111-1111-1111-1111-111111111111",
    bucket="tollgate-dev-lake-123456789012",
    region="eu-west-1",
    currency="EUR",
    scorer=Scorer(request_budget_ms=50, store_timeout_ms=30),
    store_kind="redis",
    store_host="store",
    store_secret="arn:aws:secretsmanager:eu-west-1:123456789012:secret:store",
    decisions="tollgate-dev-decisions",
)
HOSTING = HostingSettings(("ml.c7i.large", "ml.c6i.large"), instances=4, canary_percent=25, bake_s=600, plan="small")

SERVER = """
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if os.path.exists(os.environ["TOLLGATE_MODEL_DIR"] + "/sick") else 200)
        self.end_headers()
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500 if os.path.exists(os.environ["TOLLGATE_MODEL_DIR"] + "/bad") else 200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["TOLLGATE_BIND_PORT"])), Answer)
server.daemon_threads = True
server.serve_forever()
"""


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        yield


@pytest.fixture
def hosting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosting]:
    with sagemaker_hosting(monkeypatch, unhealthy=lambda model: "-v3-" in model) as emulated:
        yield emulated


@pytest.fixture
def sagemaker() -> Any:
    return boto3.client("sagemaker")


@pytest.fixture
def cloudwatch() -> Any:
    client = boto3.client("cloudwatch")
    quiet_guards(client, GUARDS)
    return client


def deployer(
    sagemaker: Any, cloudwatch: Any, hosting: Hosting | None = None, *, settings: HostingSettings = HOSTING
) -> Deployer:
    """Return a deployer that, instead of pausing, waits for the emulated endpoint."""

    def pause(_: float) -> None:
        if hosting is not None:
            hosting.settle()

    return Deployer(sagemaker, cloudwatch, endpoint=ENDPOINT, place=PLACE, hosting=settings, guards=GUARDS, pause=pause)


def approve(sagemaker: Any, *, status: str = "Approved", model: str = "s3://tollgate/models/one.tar.gz") -> str:
    """Register a model package and return its ARN."""
    if not sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]:
        sagemaker.create_model_package_group(ModelPackageGroupName=ENDPOINT)
    container = {"Image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/i@sha256:" + "1" * 64, "ModelDataUrl": model}
    answer = sagemaker.create_model_package(
        ModelPackageGroupName=ENDPOINT,
        ModelApprovalStatus=status,
        InferenceSpecification={
            "Containers": [container],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )
    return str(answer["ModelPackageArn"])


def test_first_package_creates_the_endpoint(sagemaker: Any, cloudwatch: Any, hosting: Hosting) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    assert ours.served().status == NONE
    done = ours.deploy(approve(sagemaker))
    assert done.step == "created"
    assert ours.settle(done.config).config == done.config
    variant = sagemaker.describe_endpoint_config(EndpointConfigName=done.config)["ProductionVariants"][0]
    assert variant["InstancePools"] == [
        {"InstanceType": "ml.c7i.large", "Priority": 1},
        {"InstanceType": "ml.c6i.large", "Priority": 2},
    ]
    assert variant["RoutingConfig"] == {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}


def test_second_package_is_rolled_out_with_canary_guards_and_retained_capacity(
    sagemaker: Any, cloudwatch: Any, hosting: Hosting
) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    first = ours.deploy(approve(sagemaker))
    ours.settle(first.config)
    second = ours.deploy(approve(sagemaker))
    assert (second.step, second.previous) == ("started", first.config)
    assert ours.settle(second.config).config == second.config
    (request,) = hosting.requests
    assert request["RetainAllVariantProperties"] is True
    routing = request["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing == {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 25},
        "WaitIntervalInSeconds": 600,
    }
    alarms = request["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert [alarm["AlarmName"] for alarm in alarms] == GUARDS


def test_same_package_again_changes_nothing(sagemaker: Any, cloudwatch: Any, hosting: Hosting) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    arn = approve(sagemaker)
    first = ours.deploy(arn)
    ours.settle(first.config)
    again = ours.deploy(arn)
    assert (again.step, again.config) == ("unchanged", first.config)
    assert len(sagemaker.list_models()["Models"]) == 1
    assert hosting.requests == []


def test_same_package_during_its_rollout_is_in_progress_and_another_is_refused(
    sagemaker: Any, cloudwatch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sagemaker_hosting(monkeypatch, hurry=500.0) as slow:
        ours = deployer(sagemaker, cloudwatch, slow)
        ours.settle(ours.deploy(approve(sagemaker)).config)
        second = approve(sagemaker)
        started = ours.deploy(second)
        assert ours.served().coming == started.config
        assert ours.deploy(second).step == "in progress"
        with pytest.raises(EndpointBusy, match="Updating"):
            ours.deploy(approve(sagemaker))
        with pytest.raises(EndpointBusy, match="set-alarm-state"):
            ours.rollback()


def test_interrupted_rollout_is_finished_by_the_same_command(
    sagemaker: Any, cloudwatch: Any, hosting: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    first = ours.deploy(approve(sagemaker))
    ours.settle(first.config)
    arn = approve(sagemaker)
    with monkeypatch.context() as broken:
        broken.setattr(Deployer, "_check_guards", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ours.deploy(arn)
    assert ours.served().config == first.config
    done = ours.deploy(arn)
    assert ours.settle(done.config).config == done.config
    assert len(sagemaker.list_endpoint_configs()["EndpointConfigs"]) == 2


class Interrupted:
    """A client whose ``number``-th call ends with ``error``, before it reaches AWS or just after it."""

    def __init__(self, client: Any, number: int, error: BaseException, *, after: bool) -> None:
        self._client, self._left, self._error, self._after = client, number, error, after

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def counted(**request: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise self._error
            answer = call(**request)
            if self._left == 0:
                raise self._error
            return answer

        return counted

    @property
    def reached(self) -> bool:
        return self._left <= 0


@pytest.mark.parametrize("after", [False, True], ids=["before a call", "after a call"])
def test_deploy_killed_at_any_call_is_finished_by_the_same_command_and_can_be_taken_back(
    sagemaker: Any, cloudwatch: Any, hosting: Hosting, *, after: bool
) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    served = ours.deploy(approve(sagemaker)).config
    ours.settle(served)
    killed = 0
    for number in range(1, 40):
        arn = approve_twice_healthy(sagemaker)
        broken = Interrupted(sagemaker, number, KeyboardInterrupt(), after=after)
        try:
            deployer(broken, cloudwatch, hosting).deploy(arn)
        except KeyboardInterrupt:
            killed += 1
        hosting.settle()
        assert ours.served().status == "InService"
        done = ours.deploy(arn)
        assert ours.settle(done.config).config == done.config
        back = ours.rollback()
        assert back.config == served
        ours.settle(back.config)
        if not broken.reached:
            break
    else:
        pytest.fail("a deployment makes more calls than this")
    assert killed >= 8


def approve_twice_healthy(sagemaker: Any) -> str:
    """Register a package; the third one never becomes healthy here, so it is passed over."""
    arn = approve(sagemaker)
    return approve(sagemaker) if arn.endswith("/3") else arn


@pytest.mark.parametrize("code", ["ResourceLimitExceeded", "AccessDeniedException", "ValidationException"])
@pytest.mark.parametrize("call", ["create_model", "create_endpoint_config", "update_endpoint"])
def test_missing_quota_or_role_says_so_and_leaves_what_is_served(
    sagemaker: Any, cloudwatch: Any, hosting: Hosting, call: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    first = ours.deploy(approve(sagemaker))
    ours.settle(first.config)
    arn = approve(sagemaker)
    refusal = ClientError({"Error": {"Code": code, "Message": "ask for more of ml.c7i.large"}}, call)
    with monkeypatch.context() as refused:
        refused.setattr(sagemaker, call, lambda **_: (_ for _ in ()).throw(refusal))
        with pytest.raises(MissingPrerequisite, match=rf"{code}: ask for more of ml\.c7i\.large"):
            ours.deploy(arn)
    assert (ours.served().status, ours.served().config) == ("InService", first.config)
    with pytest.raises(MissingPrerequisite, match="has served nothing before"):
        ours.rollback()
    done = ours.deploy(arn)
    assert ours.settle(done.config).config == done.config
    assert ours.rollback().config == first.config


def test_raised_guard_calls_the_rollout_back(sagemaker: Any, cloudwatch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with sagemaker_hosting(monkeypatch, hurry=200.0) as slow:
        ours = deployer(sagemaker, cloudwatch, slow)
        first = ours.deploy(approve(sagemaker))
        ours.settle(first.config)
        second = ours.deploy(approve(sagemaker))
        cloudwatch.set_alarm_state(AlarmName=GUARDS[0], StateValue="ALARM", StateReason="errors")
        with pytest.raises(RolledBack, match=GUARDS[0]):
            ours.settle(second.config)
        assert ours.served().config == first.config
        assert ours.served().failure.startswith(ROLLED_BACK)


def test_model_that_never_becomes_healthy_leaves_the_old_one_serving(
    sagemaker: Any, cloudwatch: Any, hosting: Hosting
) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    ours.settle(ours.deploy(approve(sagemaker)).config)
    second = ours.deploy(approve(sagemaker))
    ours.settle(second.config)
    third = ours.deploy(approve(sagemaker))
    with pytest.raises(RolledBack, match="ping health check"):
        ours.settle(third.config)
    assert ours.served().config == second.config


def test_guard_already_raised_refuses_the_rollout(sagemaker: Any, cloudwatch: Any, hosting: Hosting) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    ours.settle(ours.deploy(approve(sagemaker)).config)
    cloudwatch.set_alarm_state(AlarmName=GUARDS[1], StateValue="ALARM", StateReason="slow")
    with pytest.raises(AlarmRaised, match=GUARDS[1]):
        ours.deploy(approve(sagemaker))
    assert hosting.requests == []


def test_missing_guard_refuses_the_rollout(sagemaker: Any, cloudwatch: Any, hosting: Hosting) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    ours.settle(ours.deploy(approve(sagemaker)).config)
    cloudwatch.delete_alarms(AlarmNames=[GUARDS[0]])
    with pytest.raises(MissingPrerequisite, match="serving stack first, 'python -m infra deploy dev --stack serving'"):
        ours.deploy(approve(sagemaker))


@pytest.mark.parametrize("status", ["PendingManualApproval", "Rejected"])
def test_package_that_is_not_approved_is_refused(
    sagemaker: Any, cloudwatch: Any, hosting: Hosting, status: str
) -> None:
    with pytest.raises(MissingPrerequisite, match=f"is {status}, not Approved"):
        deployer(sagemaker, cloudwatch, hosting).deploy(approve(sagemaker, status=status))
    assert sagemaker.list_models()["Models"] == []


def test_unknown_instance_type_is_a_missing_prerequisite(sagemaker: Any, cloudwatch: Any, hosting: Hosting) -> None:
    odd = dataclasses.replace(HOSTING, instance_types=("ml.nothing.large",))
    with pytest.raises(MissingPrerequisite, match=r"ml\.nothing\.large"):
        deployer(sagemaker, cloudwatch, hosting, settings=odd).deploy(approve(sagemaker))


def test_rollback_returns_to_what_was_served_before_at_once(sagemaker: Any, cloudwatch: Any, hosting: Hosting) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    first = ours.deploy(approve(sagemaker))
    ours.settle(first.config)
    second = ours.deploy(approve(sagemaker))
    ours.settle(second.config)
    back = ours.rollback()
    assert (back.config, back.previous) == (first.config, second.config)
    assert ours.settle(back.config).config == first.config
    assert hosting.requests[-1]["DeploymentConfig"] is None


def test_rollout_that_came_back_is_not_what_rollback_returns_to(
    sagemaker: Any, cloudwatch: Any, hosting: Hosting
) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    first = ours.deploy(approve(sagemaker))
    ours.settle(first.config)
    second = ours.deploy(approve(sagemaker))
    ours.settle(second.config)
    third = ours.deploy(approve(sagemaker))
    with pytest.raises(RolledBack):
        ours.settle(third.config)
    back = ours.rollback()
    assert back.config == first.config


def test_rollback_with_nothing_before_is_refused(sagemaker: Any, cloudwatch: Any, hosting: Hosting) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    with pytest.raises(EndpointStuck, match="serves nothing"):
        ours.rollback()
    ours.settle(ours.deploy(approve(sagemaker)).config)
    with pytest.raises(MissingPrerequisite, match="has served nothing before"):
        ours.rollback()


def _force(hosting: Hosting, status: str) -> Any:
    from moto.sagemaker.models import sagemaker_backends

    hosting.settle()
    endpoint: Any = sagemaker_backends["123456789012"]["eu-west-1"].endpoints[ENDPOINT]
    endpoint.endpoint_status, endpoint.failure_reason = status, "no capacity"
    return endpoint


def test_rollback_leads_out_of_a_rollback_that_failed(sagemaker: Any, cloudwatch: Any, hosting: Hosting) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    first = ours.deploy(approve(sagemaker))
    ours.settle(first.config)
    ours.settle(ours.deploy(approve(sagemaker)).config)
    _force(hosting, "UpdateRollbackFailed")
    with pytest.raises(EndpointStuck, match="'python -m infra rollback dev'"):
        ours.deploy(approve(sagemaker))
    back = ours.rollback()
    assert ours.settle(back.config).config == first.config


def test_failed_endpoint_is_made_anew_only_when_asked(sagemaker: Any, cloudwatch: Any, hosting: Hosting) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    ours.settle(ours.deploy(approve(sagemaker)).config)
    _force(hosting, "Failed")
    arn = approve(sagemaker)
    with pytest.raises(EndpointStuck, match="--recreate"):
        ours.deploy(arn)
    done = ours.deploy(arn, recreate=True)
    assert done.step == "created"
    assert ours.settle(done.config).status == "InService"


@pytest.mark.parametrize("status", ["SystemUpdating", "RollingBack", "Updating", "Creating", "Deleting"])
def test_moving_endpoint_is_left_alone(sagemaker: Any, cloudwatch: Any, hosting: Hosting, status: str) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    ours.settle(ours.deploy(approve(sagemaker)).config)
    _force(hosting, status)
    with pytest.raises(EndpointBusy, match=status):
        ours.deploy(approve(sagemaker))
    assert hosting.requests == []


def test_outcome_is_written_into_the_registry_and_leaves_the_approval(
    sagemaker: Any, cloudwatch: Any, hosting: Hosting
) -> None:
    arn = approve(sagemaker)
    deployer(sagemaker, cloudwatch, hosting).mark(arn, "rolled back", "an alarm")
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    assert package["CustomerMetadataProperties"] == {"rollout": "rolled back", "rollout-reason": "an alarm"}
    assert package["ModelApprovalStatus"] == "Approved"


def test_outcome_that_is_written_already_is_not_written_again(
    sagemaker: Any, cloudwatch: Any, hosting: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn, ours = approve(sagemaker), deployer(sagemaker, cloudwatch, hosting)
    ours.mark(arn, "deployed")
    monkeypatch.setattr(sagemaker, "update_model_package", None)
    ours.mark(arn, "deployed")
    with pytest.raises(TypeError):
        ours.mark(arn, "rolled back", "an alarm")


def test_what_serves_is_refused_while_another_is_rolled_out(sagemaker: Any, cloudwatch: Any, hosting: Hosting) -> None:
    first, second = approve(sagemaker), approve(sagemaker, model="s3://tollgate/models/two.tar.gz")
    ours = deployer(sagemaker, cloudwatch, hosting)
    ours.settle(ours.deploy(first).config)
    done = ours.deploy(second)
    with pytest.raises(EndpointBusy, match=done.config):
        ours.deploy(first)
    assert ours.settle(done.config).config == done.config


def test_update_that_is_refused_leaves_nothing_to_come(
    sagemaker: Any, cloudwatch: Any, hosting: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    first = ours.deploy(approve(sagemaker)).config
    ours.settle(first)

    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ResourceLimitExceeded", "Message": "quota"}}, "UpdateEndpoint")

    monkeypatch.setattr(sagemaker, "update_endpoint", refuse)
    with pytest.raises(MissingPrerequisite, match="quota"):
        ours.deploy(approve(sagemaker, model="s3://tollgate/models/two.tar.gz"))
    assert ours.notes()["tollgate:rolled-to"] == first


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"InferenceSpecification": None}, "names no model archive"),
        ({"InferenceSpecification": {"Containers": [{"Image": "i@sha256:1"}]}}, "names no model archive"),
        ({"InferenceSpecification": {"Containers": [{"Image": "i:latest", "ModelDataUrl": "s3://m"}]}}, "'i:latest'"),
    ],
)
def test_package_that_cannot_be_served_is_refused(
    sagemaker: Any, cloudwatch: Any, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], said: str
) -> None:
    arn = approve(sagemaker)
    answer = sagemaker.describe_model_package(ModelPackageName=arn) | changed
    described = {key: value for key, value in answer.items() if value is not None}
    monkeypatch.setattr(sagemaker, "describe_model_package", lambda **_: described)
    with pytest.raises(MissingPrerequisite, match=said):
        deployer(sagemaker, cloudwatch).deploy(arn)


def test_package_of_another_group_is_refused(sagemaker: Any, cloudwatch: Any) -> None:
    foreign = approve(sagemaker).replace(ENDPOINT, "somebody-else")
    with pytest.raises(MissingPrerequisite, match=f"somebody-else/1 is no package of {ENDPOINT}"):
        deployer(sagemaker, cloudwatch).deploy(foreign)


def test_package_is_found_from_what_is_served(sagemaker: Any, cloudwatch: Any, hosting: Hosting) -> None:
    ours = deployer(sagemaker, cloudwatch, hosting)
    arn = approve(sagemaker)
    assert ours.package_of(ours.deploy(arn).config) == arn
    assert ours.package_of("another") == ""


def test_canary_of_real_processes_that_fails_comes_back_and_costs_only_its_share(
    sagemaker: Any, cloudwatch: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    (bad / "bad").touch()
    command = (sys.executable, "-c", SERVER)
    with sagemaker_hosting(monkeypatch, command=command, hurry=60.0) as real:
        ours = deployer(sagemaker, cloudwatch, real)
        first = ours.deploy(approve(sagemaker, model=f"file://{good}"))
        ours.settle(first.config)
        second = ours.deploy(approve(sagemaker, model=f"file://{bad}"))
        answers = []
        while 500 not in answers:
            answers.append(real.invoke(ENDPOINT, json.dumps({}).encode())[1])
        cloudwatch.set_alarm_state(AlarmName=GUARDS[0], StateValue="ALARM", StateReason="errors")
        with pytest.raises(RolledBack):
            ours.settle(second.config)
        assert answers[0] == 200
        assert [real.invoke(ENDPOINT, b"{}")[1] for _ in range(20)] == [200] * 20


def test_a_shadow_is_a_second_data_source_and_another_release() -> None:
    champion = Package("arn:champion", 1, "image", "s3://tollgate/models/one.tar.gz")
    other = Package("arn:other", 2, "image", "s3://tollgate/models/two.tar.gz")
    plain = release(ENDPOINT, champion, PLACE, HOSTING)
    along = release(ENDPOINT, champion, PLACE, HOSTING, shadow=other)
    assert along.config != plain.config
    container = along.model["PrimaryContainer"]
    assert container["ModelDataUrl"] == champion.model
    (source,) = container["AdditionalModelDataSources"]
    assert source["S3DataSource"]["S3Uri"] == other.model
    found = read_settings(container["Environment"])
    assert found.shadow_dir == f"/opt/ml/additional-model-data-sources/{source['ChannelName']}"
    assert found.metrics == "emf"
    assert found.lists == "s3://tollgate-dev-lake-123456789012/lists/"
    shape = botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateModel").input_shape
    assert ParamValidator().validate(dict(along.model), shape).generate_report() == ""


def test_environments_deadlines_are_the_containers_and_another_release() -> None:
    package = Package("arn:package", 1, "image", "s3://tollgate/models/one.tar.gz")
    slower = dataclasses.replace(PLACE, scorer=Scorer(request_budget_ms=120, store_timeout_ms=80))
    made = release(ENDPOINT, package, slower, HOSTING)
    found = read_settings(made.model["PrimaryContainer"]["Environment"])
    assert (found.request_budget_ms, found.store_timeout_ms) == (120, 80)
    assert made.config != release(ENDPOINT, package, PLACE, HOSTING).config


@pytest.mark.parametrize(
    ("kind", "secret", "user"), [("redis", "arn:x", "scorer"), ("redis", "", ""), ("dynamodb", "arn:x", "")]
)
def test_scorer_is_its_own_user_of_a_store_that_has_users(kind: str, secret: str, user: str) -> None:
    settings = dataclasses.replace(PLACE, store_kind=kind, store_secret=secret).settings()
    assert settings["TOLLGATE_REDIS_USERNAME"] == user
    assert read_settings(settings).redis_username == user
