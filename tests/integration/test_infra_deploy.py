"""The deploy tool from end to end against an emulator, for what the emulator truly does."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from feast.protos.feast.core.Registry_pb2 import Registry
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from fraud.scaling import PLAN, scheduled_actions
from infra import environment as environments
from infra import rendering
from infra.__main__ import app
from infra.alarms import rollout_guards
from infra.emulator import SUPPORTED
from infra.stacks import STACKS
from tests.support.guards import quiet_guards
from tests.support.hosting import Hosting, sagemaker_hosting

ACCOUNT = "123456789012"
BUCKET = f"tollgate-prod-lake-{ACCOUNT}"
DIGEST = "1" * 64
RUNNER = CliRunner()


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Path:
    """Return a folder with production's settings, its digests filled in, and development's beside it."""
    folder = tmp_path_factory.mktemp("environments")
    text = (environments.FOLDER / "prod.toml").read_text()
    assert "shards = 0 " in text
    (folder / "prod.toml").write_text(text.replace("0" * 64, DIGEST))
    shutil.copy(environments.FOLDER / "dev.toml", folder)
    patch.setattr(environments.read_environment, "__defaults__", (folder,))
    return folder


@pytest.fixture(scope="module")
def hosting(patch: pytest.MonkeyPatch) -> Iterator[Hosting]:
    with sagemaker_hosting(patch) as emulated:
        yield emulated


@pytest.fixture(scope="module")
def aws(patch: pytest.MonkeyPatch, hosting: Hosting, settings: Path) -> Iterator[str]:
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "eu-west-1")):
        patch.setenv(f"AWS_{name}", value)
    patch.setattr("infra.deployer.POLL_S", 0.05)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def client(service: str, aws: str) -> Any:
    return boto3.client(service, region_name="eu-west-1", endpoint_url=aws)


def run(aws: str, *words: str, fails: type[Exception] | None = None) -> Any:
    """Run a command and return what it printed as JSON, or the error it is expected to end with."""
    result = RUNNER.invoke(app, [*words, "--endpoint-url", aws], catch_exceptions=True)
    if fails is not None:
        assert isinstance(result.exception, fails), result.output
        return str(result.exception)
    assert result.exception is None, (result.output, result.exception)
    return json.loads(result.stdout) if words[-2:] == ("--json", "-") else result.stdout


@pytest.fixture(scope="module")
def deployed(aws: str) -> dict[str, Any]:
    stacks = run(aws, "deploy", "prod", "--yes", "--json", "-")
    return {item["stack"].removeprefix("tollgate-prod-"): item for item in stacks}


def test_first_plan_waits_for_nothing_but_the_stacks_before(aws: str) -> None:
    plans = run(aws, "plan", "prod", "--json", "-")["stacks"]
    if all(item["waits_for"] == [] for item in plans):
        pytest.skip("the stacks are deployed already")
    assert [item["waits_for"] for item in plans] == [
        [],
        ["network"],
        ["data", "network"],
        ["data", "network"],
        ["data", "network", "serving"],
    ]
    assert run(aws, "status", "prod", "--json", "-")["stacks"]["network"] == "NONE"


def test_plan_goes_on_where_quotas_cannot_be_looked_up(aws: str) -> None:
    # The emulator has no list of quotas and says so with a server error.
    done = RUNNER.invoke(app, ["plan", "prod", "--stack", "network", "--json", "-", "--endpoint-url", aws])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert [item["stack"] for item in figures["stacks"]] == ["tollgate-prod-network"]
    assert figures["unready"] == []
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert said == f"note: {figures['advice'][0]}"
    assert "the quotas of ml.c7i.large, ml.c6i.large, ml.m7i.large were not looked up (500)" in said


def test_environment_with_zeros_is_refused_once_data_stands(aws: str) -> None:
    from infra.errors import InvalidEnvironment

    said = run(aws, "deploy", "dev", "--yes", "--json", "-", fails=InvalidEnvironment)
    assert "images.inference" in said
    assert "images.inference" in run(aws, "plan", "dev", "--stack", "network", "--json", "-")["unready"]
    status = run(aws, "status", "dev", "--json", "-")
    assert status["stacks"] == {
        "network": "CREATE_COMPLETE",
        "data": "CREATE_COMPLETE",
        "stream": "NONE",
        "serving": "NONE",
        "learning": "NONE",
    }


def test_every_resource_is_deployed_or_said_to_be_left_out(deployed: dict[str, Any]) -> None:
    for stack in STACKS:
        template = rendering.as_data(stack)["Resources"]
        skipped = {item["resource"] for item in deployed[stack.name]["skipped"]}
        added = {item["resource"] for item in deployed[stack.name]["changes"]}
        mode = {"Transactions"} if stack.name == "data" else set()
        assert skipped - mode == {title for title, item in template.items() if item["Type"] not in SUPPORTED}
        conditional = {title for title, item in template.items() if "Condition" in item}
        assert set(template) - (skipped - mode) - conditional <= added


def test_stream_that_scales_by_itself_is_said_to_be_one_of_a_single_shard(deployed: dict[str, Any]) -> None:
    said = {item["resource"]: item["type"] for item in deployed["data"]["skipped"]}
    assert said["Transactions"] == "AWS::Kinesis::Stream.StreamModeDetails"


def test_data_stack_made_what_it_says(aws: str, deployed: dict[str, Any]) -> None:
    s3 = client("s3", aws)
    rules = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    # Versioning, public access block and the stream's encryption the emulator drops from templates: the rules see to
    # them.
    stream = client("kinesis", aws).describe_stream(StreamName="tollgate-prod-transactions")["StreamDescription"]
    assert (stream["RetentionPeriodHours"], len(stream["Shards"])) == (168, 1)
    repositories = client("ecr", aws).describe_repositories()["repositories"]
    ours = [item for item in repositories if item["repositoryName"].startswith("tollgate-prod/")]
    assert {item["repositoryName"] for item in ours} == {f"tollgate-prod/{i}" for i in ("inference", "job", "lambda")}
    assert {item["imageTagMutability"] for item in ours} == {"IMMUTABLE"}
    assert client("dynamodb", aws).list_tables()["TableNames"] == []


def test_network_has_three_subnets_and_no_way_out(aws: str, deployed: dict[str, Any]) -> None:
    ec2 = client("ec2", aws)
    tag = [{"Name": "tag:Product", "Values": ["tollgate"]}, {"Name": "tag:Environment", "Values": ["prod"]}]
    subnets = ec2.describe_subnets(Filters=tag)["Subnets"]
    assert sorted(item["CidrBlock"] for item in subnets) == ["10.40.0.0/20", "10.40.16.0/20", "10.40.32.0/20"]
    assert len({item["AvailabilityZone"] for item in subnets}) == 3
    assert ec2.describe_internet_gateways()["InternetGateways"] == []
    (key,) = [
        item for item in client("kms", aws).list_aliases()["Aliases"] if item["AliasName"] == "alias/tollgate-prod"
    ]
    assert client("kms", aws).get_key_rotation_status(KeyId=key["TargetKeyId"])["KeyRotationEnabled"] is True


def test_consumer_reads_the_stream_by_the_mappings_rules(aws: str, deployed: dict[str, Any]) -> None:
    functions = client("lambda", aws)
    consumer = functions.get_function_configuration(FunctionName="tollgate-prod-stream")
    assert consumer["Environment"]["Variables"]["TOLLGATE_BUCKET"] == BUCKET
    assert consumer["Environment"]["Variables"]["TOLLGATE_STREAM"] == "tollgate-prod-transactions"
    assert consumer["VpcConfig"]["SubnetIds"] != []
    (mapping,) = functions.list_event_source_mappings(FunctionName="tollgate-prod-stream")["EventSourceMappings"]
    assert mapping["EventSourceArn"].endswith("stream/tollgate-prod-transactions")


def test_roles_may_be_taken_by_one_service_each(aws: str, deployed: dict[str, Any]) -> None:
    roles = client("iam", aws).list_roles()["Roles"]
    services = {
        item["RoleName"]: item["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"]
        for item in roles
        if item["RoleName"].startswith("tollgate-prod-")
    }
    assert services == {
        "tollgate-prod-flow-logs": "vpc-flow-logs.amazonaws.com",
        "tollgate-prod-stream": "lambda.amazonaws.com",
        "tollgate-prod-delivery": "firehose.amazonaws.com",
        "tollgate-prod-scorer": "sagemaker.amazonaws.com",
        "tollgate-prod-jobs": "sagemaker.amazonaws.com",
        "tollgate-prod-pipeline": "sagemaker.amazonaws.com",
        "tollgate-prod-schedule": "scheduler.amazonaws.com",
        "tollgate-prod-deployer": "lambda.amazonaws.com",
    }


def test_deploying_again_changes_nothing(aws: str, deployed: dict[str, Any]) -> None:
    assert [item["changes"] for item in run(aws, "deploy", "prod", "--yes", "--json", "-")] == [[]] * len(STACKS)
    assert set(run(aws, "status", "prod", "--json", "-")["stacks"].values()) == {"CREATE_COMPLETE"}


def test_published_registry_lies_under_its_digest(aws: str, deployed: dict[str, Any], tmp_path: Path) -> None:
    registry = Registry()
    registry.projects.add().spec.name = "fraud"
    file = tmp_path / "registry.db"
    file.write_bytes(registry.SerializeToString())
    digest = run(aws, "publish", "prod", "registry", str(file)).strip()
    assert client("s3", aws).get_object(Bucket=BUCKET, Key=f"registry/{digest}.db")["Body"].read() == file.read_bytes()


@pytest.fixture(scope="module")
def approve(aws: str, deployed: dict[str, Any]) -> Any:
    """Return a function that registers approved packages, in an account with alarms and a password."""
    cloudwatch = client("cloudwatch", aws)
    quiet_guards(cloudwatch, rollout_guards("prod"))
    secrets, ssm = client("secretsmanager", aws), client("ssm", aws)
    arn = secrets.create_secret(Name="tollgate-prod-online-store", SecretString="password")["ARN"]
    ssm.put_parameter(Name="/tollgate/prod/data/store-scorer-password-arn", Value=arn, Type="String", Overwrite=True)
    sagemaker = client("sagemaker", aws)
    sagemaker.create_model_package_group(ModelPackageGroupName="tollgate-prod-scorer")

    def approved(number: int) -> str:
        container = {"Image": f"i@sha256:{DIGEST}", "ModelDataUrl": f"s3://{BUCKET}/models/{number}.tar.gz"}
        specification = {
            "Containers": [container],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        }
        answer = sagemaker.create_model_package(
            ModelPackageGroupName="tollgate-prod-scorer",
            ModelApprovalStatus="Approved",
            InferenceSpecification=specification,
        )
        return str(answer["ModelPackageArn"])

    return approved


def test_models_are_rolled_out_scaled_and_rolled_back(aws: str, approve: Any, hosting: Hosting) -> None:
    first = run(aws, "release", "prod", approve(1), "--json", "-")
    second = run(aws, "release", "prod", approve(2), "--json", "-")
    assert (first["step"], second["step"], second["previous"]) == ("created", "started", first["config"])
    served = run(aws, "status", "prod", "--json", "-")["endpoint"]
    assert (served["status"], served["config"]) == ("InService", second["config"])
    scaling = client("application-autoscaling", aws)
    resource = {"ServiceNamespace": "sagemaker", "ResourceId": "endpoint/tollgate-prod-scorer/variant/live"}
    assert len(scaling.describe_scaling_policies(**resource)["ScalingPolicies"]) == 3
    coming = scaling.describe_scheduled_actions(**resource)["ScheduledActions"]
    monthly = {action.name for action in scheduled_actions(PLAN) if action.when.startswith("cron(")}
    assert {item["ScheduledActionName"] for item in coming} >= monthly
    sagemaker = client("sagemaker", aws)
    model = sagemaker.describe_endpoint_config(EndpointConfigName=second["config"])["ProductionVariants"][0][
        "ModelName"
    ]
    environment = sagemaker.describe_model(ModelName=model)["PrimaryContainer"]["Environment"]
    assert "tollgate-prod-online-store" in environment["TOLLGATE_REDIS_PASSWORD_SECRET"]
    assert environment["TOLLGATE_REDIS_TLS"] == "true"
    assert not any("password" in value for value in environment.values())
    back = run(aws, "rollback", "prod", "--json", "-")
    assert (back["config"], back["previous"]) == (first["config"], second["config"])
    assert run(aws, "status", "prod", "--json", "-")["endpoint"]["config"] == first["config"]


def test_rollout_is_noted_though_its_figures_cannot_be_written(
    aws: str, approve: Any, hosting: Hosting, tmp_path: Path
) -> None:
    package = approve(4)
    (tmp_path / "file").touch()
    run(aws, "release", "prod", package, "--json", str(tmp_path / "file" / "below"), fails=OSError)
    noted = client("sagemaker", aws).describe_model_package(ModelPackageName=package)["CustomerMetadataProperties"]
    assert noted["rollout"] == "deployed"
    said = run(aws, "release", "prod", package, "--json", str(tmp_path / "new" / "again.json"))
    again = json.loads((tmp_path / "new" / "again.json").read_text())
    assert f"step: {again['step']}, config: {again['config']}" in said
    said = run(aws, "status", "prod", "--json", str(tmp_path / "status.json"))
    assert json.loads((tmp_path / "status.json").read_text())["endpoint"]["config"] == again["config"]
    assert again["config"] in said
    plain = RUNNER.invoke(app, ["release", "prod", package, "--endpoint-url", aws])
    assert (plain.exit_code, "note: the quotas of ml.c7i.large" in plain.stderr) == (0, True)


def test_stack_under_a_standing_endpoint_is_not_deleted(aws: str, approve: Any, hosting: Hosting) -> None:
    from infra.errors import EndpointStuck, ProtectedStack

    run(aws, "release", "prod", approve(3), "--json", "-")
    before = run(aws, "status", "prod", "--json", "-")["stacks"]
    for stack in ("serving", "stream", "learning"):
        assert "delete-endpoint" in run(aws, "destroy", "prod", "--stack", stack, "--yes", fails=EndpointStuck)
    assert "delete-endpoint" in run(aws, "destroy", "prod", "--yes", fails=EndpointStuck)
    assert run(aws, "status", "prod", "--json", "-")["stacks"] == before, "refused before anything is deleted"
    assert before["learning"].endswith("COMPLETE")
    for stack in ("network", "data"):
        assert "no command deletes it" in run(aws, "destroy", "prod", "--stack", stack, "--yes", fails=ProtectedStack)
    assert client("s3", aws).head_bucket(Bucket=BUCKET)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_credentials_of_another_account_are_refused(aws: str, settings: Path) -> None:
    from infra.errors import WrongAccount

    text = (settings / "dev.toml").read_text()
    (settings / "other.toml").write_text(
        text.replace(ACCOUNT, "999999999999").replace("tollgate-dev/", "tollgate-other/")
    )
    assert "belong to account 123456789012" in run(aws, "status", "other", "--json", "-", fails=WrongAccount)


def test_region_without_our_prefix_lists_is_refused(aws: str) -> None:
    from infra.environment import read_environment
    from infra.errors import MissingPrerequisite
    from infra.wiring import prefix_lists

    class Nowhere:
        def describe_managed_prefix_lists(self, **_: Any) -> dict[str, Any]:
            return {"PrefixLists": []}

    with pytest.raises(MissingPrerequisite, match="is the region right"):
        prefix_lists(lambda _: Nowhere(), read_environment("prod"))
