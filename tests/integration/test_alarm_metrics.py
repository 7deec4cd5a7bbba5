"""Every alarm watches what is emitted: metrics and dimensions of a real scorer and a real consumer, and AWS's own."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.alarms import ALARMS
from infra.metrics import LOGGED, NAMESPACE, SCORER, SCORER_EVENTS, STREAM_EVENTS, LoggedMetric
from retraining.endpoint import SHIFT
from streaming import handler
from tests.support.bundles import write_test_bundle
from tests.support.emulators import aws_client, aws_environment, free_port, start_moto, start_valkey
from tests.support.scorers import ROOT, Scorer, _answers, await_true, payment, scorer_environment

DECISIONS = 120  # one line covers half of them at least, whenever it is written
# From AWS's documentation of each service: a metric's dimensions, as an alarm has to give them all.
ENDPOINT = {"EndpointName", "VariantName"}
DOCUMENTED = {
    ("AWS/SageMaker", "Invocations"): ENDPOINT,
    ("AWS/SageMaker", "Invocation5XXErrors"): ENDPOINT,
    ("AWS/SageMaker", "ModelLatency"): ENDPOINT,
    ("AWS/SageMaker", "OverheadLatency"): ENDPOINT,
    ("AWS/SageMaker", "ConcurrentRequestsPerModel"): ENDPOINT,
    ("AWS/Lambda", "IteratorAge"): {"FunctionName"},
    ("AWS/Lambda", "Errors"): {"FunctionName"},
    ("AWS/Lambda", "Throttles"): {"FunctionName"},
    ("AWS/Kinesis", "WriteProvisionedThroughputExceeded"): {"StreamName"},
    ("AWS/ElastiCache", "EngineCPUUtilization"): {"CacheClusterId"},
    ("AWS/ElastiCache", "DatabaseMemoryUsagePercentage"): {"CacheClusterId"},
    ("AWS/SageMaker", "Invocation4XXErrors"): ENDPOINT,
    ("AWS/Lambda", "OnFailureDestinationDeliveredEventCount"): {"EventSourceMappingUUID"},
    ("AWS/DynamoDB", "ReadThrottleEvents"): {"TableName"},
    ("AWS/DynamoDB", "WriteThrottleEvents"): {"TableName"},
    ("AWS/Firehose", "DeliveryToS3.DataFreshness"): {"DeliveryStreamName"},
    ("AWS/Firehose", "FailedConversion.Records"): {"DeliveryStreamName"},
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): {"QueueName"},
}
# What a scorer tells that somebody has to be woken for, and the metric whose alarm does it.
WAKES = {
    "Degraded": "Degraded",
    "DeclineShare": "DeclineShare",
    "ScoreMean": "ScoreMean",
    "Errors": "Invocation5XXErrors",
    "TotalLatencyP99": "ModelLatency",
    "DecisionsLost": "DecisionsLost",
    "StoreLosses": "StoreLost",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the last metrics line and the log of a scorer without a store, settings as the deployer gives them."""
    model = write_test_bundle(tmp_path_factory.mktemp("scorer") / "model")
    port = free_port()
    settings = {"bind_port": port, "model_dir": model, "redis_port": free_port(), "metrics": "emf"}
    process = subprocess.Popen(
        [sys.executable, "-m", "serving", "serve"],
        cwd=ROOT,
        env=scorer_environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    scorer = Scorer(port, process)
    try:
        await_true(lambda: process.poll() is not None or _answers(scorer))
        for number in range(DECISIONS):
            scorer.decide(payment(number))
        process.terminate()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    lines = [json.loads(line) for line in out.splitlines()]
    events = [json.loads(line) for line in err.splitlines() if line.startswith(b"{")]
    return max(lines, key=lambda line: line["Decisions"]), events


def test_embedded_alarms_watch_what_the_scorer_emits(told: tuple[dict[str, Any], Any]) -> None:
    line, _ = told
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    emitted = {metric["Name"] for metric in directive["Metrics"]}
    watched = [alarm for alarm in ALARMS if alarm.namespace == NAMESPACE]
    assert len(watched) >= 3
    assert directive["Namespace"] == NAMESPACE
    for alarm in watched:
        assert {alarm.metric, alarm.percent_of or alarm.metric} <= emitted, alarm.suffix
        assert sorted(alarm.dimensions) in [sorted(names) for names in directive["Dimensions"]], alarm.suffix
        assert {name: line[name] for name in alarm.dimensions} == SCORER
    assert line["Degraded"] == line["Decisions"] > 0


def test_what_matters_to_somebody_asleep_has_an_alarm(told: tuple[dict[str, Any], Any]) -> None:
    line, _ = told
    emitted = {metric["Name"] for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert set(WAKES) <= emitted
    assert set(WAKES.values()) <= {alarm.metric for alarm in ALARMS}


def test_lost_store_is_logged_as_the_metric_filter_reads_it(told: tuple[Any, list[dict[str, Any]]]) -> None:
    _, events = told
    (metric,) = (metric for metric in SCORER_EVENTS if metric.name == "StoreLost")
    assert count(events, metric) == 1


def test_consumer_logs_what_its_metric_filters_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = base64.b64encode(b"poison").decode()
    record = {"kinesis": {"data": data, "sequenceNumber": "1", "partitionKey": "x"}, "eventID": "shardId-0:1"}
    record["kinesis"] |= {"approximateArrivalTimestamp": 1_770_000_000.0}  # type: ignore[operator]  # a nested dict
    with start_moto() as endpoint, start_valkey() as port, aws_client("s3", endpoint) as s3:
        s3.create_bucket(Bucket="tollgate", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        for name, value in aws_environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TOLLGATE_AWS_ENDPOINT", endpoint)
        monkeypatch.setenv("TOLLGATE_REDIS_PORT", str(port))
        handler._from_environment.cache_clear()
        assert handler.lambda_handler({"Records": [record]}, None) == {"batchItemFailures": []}
        handler._from_environment.cache_clear()
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert {metric.name: count(events, metric) for metric in STREAM_EVENTS} == {"DeadLetters": 1, "RecordsApplied": 0}


def count(events: list[dict[str, Any]], metric: LoggedMetric) -> int:
    """Return what CloudWatch makes of log events: the sum of the field, or how many there are."""
    chosen = [event for event in events if event["event"] == metric.event]
    assert chosen, metric.event
    return sum(int(event[metric.value]) if metric.value else 1 for event in chosen)


def test_every_other_alarm_watches_a_logged_or_a_documented_metric() -> None:
    logged = {metric.name for metric in (*SCORER_EVENTS, *STREAM_EVENTS)}
    for alarm in ALARMS:
        if alarm.namespace == LOGGED:
            assert alarm.metric in {*logged, SHIFT}, alarm.suffix
            assert not alarm.dimensions, alarm.suffix
        elif alarm.namespace != NAMESPACE:
            for metric in {alarm.metric, alarm.percent_of or alarm.metric}:
                for dimensions in alarm.over or (alarm.dimensions,):
                    assert set(dimensions) == DOCUMENTED[alarm.namespace, metric], alarm.suffix
    assert logged - {alarm.metric for alarm in ALARMS} == {"RecordsApplied"}  # on the dashboard only


def test_deployer_switches_the_embedded_metrics_on() -> None:
    source = (Path(ROOT) / "infra" / "endpoint.py").read_text()
    assert 'PREFIX + "METRICS": "emf"' in source
