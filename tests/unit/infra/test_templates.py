"""The templates against the rest of the house: names must be those that the other rooms use."""

import importlib
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from fraud.settings import PREFIX, Settings, read_settings
from infra import data, decisions, learning, rendering, rollouts, stream
from infra.alarms import ALARMS, rollout_guards
from infra.endpoint import Package, Place, release
from infra.environment import read_environment
from infra.metrics import LOGGED, NAMESPACE, SCORER_EVENTS, STREAM_EVENTS
from infra.names import LISTS, MODELS, VIEWS
from infra.stacks import STACKS
from infra.trees import ROOMS
from retraining.bucket import ModelBucket
from retraining.pipeline import GOLDEN
from retraining.steps import ARCHIVE
from serving.list_bucket import open_address

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES: dict[str, dict[str, Any]] = {stack.name: rendering.as_data(stack) for stack in STACKS}


def resources(stack: str, kind: str) -> dict[str, Any]:
    found = TEMPLATES[stack]["Resources"].items()
    return {title: item["Properties"] for title, item in found if item["Type"] == kind}


def test_a_table_stands_for_every_feature_view() -> None:
    source = (ROOT / "feature_repo" / "views.py").read_text()
    declared = set(re.findall(r'name="(\w+)"', source)) & {"card_profile", "merchant_profile"}
    declared |= set(re.findall(r"^(\w+_velocity): Final", source, re.MULTILINE))
    assert declared == set(VIEWS)
    tables = resources("data", "AWS::DynamoDB::Table")
    assert {item["TableName"] for item in tables.values()} == {f"{Settings().project}.{view}" for view in VIEWS}


@pytest.mark.parametrize("handler", [stream.HANDLER, rollouts.HANDLER])
def test_functions_start_what_exists(handler: str) -> None:
    module, _, name = handler.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(("metrics", "room"), [(SCORER_EVENTS, "serving"), (STREAM_EVENTS, "streaming")])
def test_counted_events_are_logged_by_the_code(metrics: Any, room: str) -> None:
    source = "\n".join(path.read_text() for path in (ROOT / room).glob("*.py"))
    for metric in metrics:
        assert f'"{metric.event}"' in source, metric.event
        if metric.value:
            assert re.search(rf'(\b{metric.value}=|"{metric.value}":)', source), metric.value


def test_consumers_settings_are_settings() -> None:
    variables = resources("stream", "AWS::Lambda::Function")["Consumer"]["Environment"]["Variables"]
    known = {PREFIX + item.name.upper() for item in fields(Settings)}
    assert set(variables) <= known
    plain = {key: value for key, value in variables.items() if isinstance(value, str)}
    assert read_settings(plain).environment == "aws"


def test_scorer_reads_the_folder_of_lists_that_their_editors_write() -> None:
    address = open_address(f"s3://lake/{LISTS}", region="eu-west-1", endpoint="", environ={})
    assert address.is_folder
    (editors,) = (
        policy["PolicyDocument"]["Statement"]
        for title, policy in resources("serving", "AWS::IAM::ManagedPolicy").items()
        if title == "ListEditorsPolicy"
    )
    scorer = resources("serving", "AWS::IAM::Role")["ScorerRole"]["Policies"][0]["PolicyDocument"]["Statement"]
    for statements, actions in ((scorer, ["s3:GetObject"]), (editors, ["s3:GetObject", "s3:PutObject"])):
        said = {item["Sid"]: item for item in statements}
        assert said["Lists"]["Action"] == actions
        (objects,) = said["Lists"]["Resource"]
        assert objects["Fn::Sub"][0] == f"${{Bucket}}/{LISTS}*"
        assert said["ListsFolder"]["Action"] == ["s3:ListBucket"]
        assert said["ListsFolder"]["Condition"] == {"StringEquals": {"s3:prefix": address.key}}
        assert {"kms:Decrypt", "kms:GenerateDataKey"} == set(said["DataKey"]["Action"])
    assert [item["Sid"] for item in editors] == ["Lists", "ListsFolder", "DataKey"]


def objects_of_scorer(action: str) -> set[str]:
    """Return the patterns of the bucket's objects that the scorer's role may do something to."""
    statements = resources("serving", "AWS::IAM::Role")["ScorerRole"]["Policies"][0]["PolicyDocument"]["Statement"]
    listed = [found for item in statements if action in item["Action"] for found in item["Resource"]]
    return {found["Fn::Sub"][0].removeprefix("${Bucket}/") for found in listed}


def test_scorer_writes_what_sagemaker_captures_and_no_decision_log() -> None:
    environment = read_environment("prod")
    place = Place("", (), (), "", "bucket", "", "EUR", environment.scorer, "redis", "", "", "")
    made = release("scorer", Package("arn", 1, "image", "model"), place, environment.hosting)
    captured = made.endpoint_config["DataCaptureConfig"]["DestinationS3Uri"].removeprefix("s3://bucket/")
    assert objects_of_scorer("s3:PutObject") == {f"{captured}/*"}
    for log in (decisions.PREFIX, decisions.FAILED):
        assert not log.startswith(f"{captured}/")


def test_scorer_reads_models_where_the_registry_keeps_them_and_nothing_else_but_lists() -> None:
    address = ModelBucket(None, "bucket", "tollgate-prod-scorer").address("1", ARCHIVE)
    assert address.startswith(f"s3://bucket/{MODELS}")
    assert objects_of_scorer("s3:GetObject") == {f"{MODELS}*", f"{LISTS}*"}


def test_dead_letters_may_be_written_where_the_code_writes_them() -> None:
    from streaming.applied import PREFIX as CHANGES
    from streaming.deadletters import PREFIX as LETTERS
    from streaming.offline import LANDING

    for prefix in (CHANGES, LETTERS, LANDING):
        assert prefix.startswith(stream.WRITES)


def test_athenas_table_is_the_log_as_it_is_written() -> None:
    from streaming.offline import TRANSACTION_LOG

    kinds = {"string": "string", "int64": "bigint", "int32": "int", "double": "double", "bool": "boolean"}
    kinds["timestamp[us, tz=UTC]"] = "timestamp"
    (table,) = resources("data", "AWS::Glue::Table").values()
    columns = table["TableInput"]["StorageDescriptor"]["Columns"]
    assert [(item["Name"], item["Type"]) for item in columns] == [
        (item.name, kinds[str(item.type)]) for item in TRANSACTION_LOG
    ]
    assert table["TableInput"]["Parameters"]["projection.dt.format"] == "yyyy-MM-dd"
    assert [item["Name"] for item in table["TableInput"]["PartitionKeys"]] == ["dt"]


def test_mapping_stops_at_the_first_failure_and_keeps_whole_records() -> None:
    (mapping,) = resources("stream", "AWS::Lambda::EventSourceMapping").values()
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BisectBatchOnFunctionError"] is True
    assert 0 < mapping["MaximumRetryAttempts"] <= 10_000
    assert 0 < mapping["MaximumRecordAgeInSeconds"] < data.RETENTION_HOURS * 3600
    assert "DataBucketArn" in json.dumps(mapping["DestinationConfig"])


def test_nightly_job_is_a_request_that_sagemaker_takes() -> None:
    text = json.dumps(learning._nightly_job()).replace("${Role}", "arn:aws:iam::123456789012:role/jobs")
    request = json.loads(text)
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model("CreateProcessingJob").input_shape
    assert ParamValidator().validate(request, shape).generate_report() == ""


def test_weekly_start_gives_the_pipeline_what_it_asks_for_and_the_same_token_however_often_it_is_delivered() -> None:
    request = learning.weekly_start()
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model("StartPipelineExecution").input_shape
    assert ParamValidator().validate(request, shape).generate_report() == ""
    declared = json.loads(GOLDEN.read_text())["Parameters"]
    asked = {item["Name"] for item in declared if "DefaultValue" not in item}
    assert {item["Name"] for item in request["PipelineParameters"]} == asked
    token = request["ClientRequestToken"].replace("${Environment}", "dev")
    assert "execution-id" not in token
    assert 32 <= len(token.replace("<aws.scheduler.scheduled-time>", "2026-11-22T02:00:00Z")) <= 128
    (weekly,) = (
        item for item in resources("learning", "AWS::Scheduler::Schedule").values() if "WEEKLY" in str(item).upper()
    )
    text, values = weekly["Target"]["Input"]["Fn::Sub"]
    assert json.loads(text) == request
    assert set(re.findall(r"\$\{(\w+)\}", text)) - {"Environment"} == set(values)


def test_nightly_jobs_variables_are_those_that_are_read() -> None:
    ours = {PREFIX + item.name.upper() for item in fields(Settings)}
    stores = "".join((ROOT / "feature_repo" / f"feature_store.{kind}.yaml").read_text() for kind in ("aws", "dynamodb"))
    read = set(re.findall(r"\$\{(\w+)", stores)) | ours | {"FRAUD_LAKE", "AWS_DEFAULT_REGION"}
    variables = set(learning._nightly_job()["Environment"])
    assert variables <= read
    assert set(re.findall(r"\$\{(\w+)\}", stores)) <= variables


def test_longest_names_stay_within_their_limits() -> None:
    name = learning._nightly_job()["ProcessingJobName"].replace("${Environment}", "e" * 8)
    assert len(name.replace("<aws.scheduler.execution-id>", "x" * 36)) <= 63
    assert len("tollgate-eeeeeeee-scorer-v9999-0123456789") <= 63
    assert len("tollgate-eeeeeeee-online") <= 40


def test_every_alarm_is_in_the_runbook_with_a_command() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text()
    found = re.findall(r"^##+ ([^\n]+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    sections = {title.lower().replace(",", "").replace(" ", "-"): body for title, body in found}
    for alarm in ALARMS:
        body = sections[alarm.suffix]
        assert len(body.split(". ", maxsplit=1)[0].split()) > 2, f"{alarm.suffix} says not what it means"
        linked = [sections[anchor] for anchor in re.findall(r"\]\(#([a-z-]+)\)", body)]
        assert any(re.search(r"(`|^ *)(python -m|aws) ", part, re.MULTILINE) for part in (body, *linked)), alarm.suffix


def test_rollouts_are_guarded_by_alarms_that_exist() -> None:
    assert 1 <= len(rollout_guards("prod")) <= 10
    names = {
        item["AlarmName"]["Fn::Sub"].replace("${Environment}", "prod")
        for stack in TEMPLATES
        for item in resources(stack, "AWS::CloudWatch::Alarm").values()
    }
    assert set(rollout_guards("prod")) <= names
    assert len(names) == len(ALARMS)


def test_dashboard_shows_metrics_of_this_environment() -> None:
    (dashboard,) = resources("serving", "AWS::CloudWatch::Dashboard").values()
    widgets = json.loads(dashboard["DashboardBody"]["Fn::Sub"])["widgets"]
    assert len(widgets) == 9
    spaces = {line[0] for widget in widgets for line in widget["properties"]["metrics"]}
    assert {NAMESPACE, LOGGED} <= spaces


@pytest.mark.parametrize("image", sorted(ROOMS))
def test_dockerfile_copies_the_rooms_of_the_image(image: str) -> None:
    text = (ROOT / "infra" / "images" / image / "Dockerfile").read_text()
    copied = set(re.findall(r"^COPY (\w+) \S+$", text, re.MULTILINE))
    assert copied == set(ROOMS[image])
    assert "--require-hashes" in text
    assert text.count("FROM ${BASE}") == 2
    assert not re.search(r"^FROM (?!\$\{BASE\})", text, re.MULTILINE)
