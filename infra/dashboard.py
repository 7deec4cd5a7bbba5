"""The dashboard: traffic, latency, fleet, store and stream on one screen, from the alarms' own metrics."""

import json
from typing import Any, Final

from troposphere import Sub, cloudwatch

from infra.blueprint import Blueprint, name
from infra.metrics import (
    CONSUMER,
    ENDPOINT,
    HOSTING,
    LOGGED,
    NAMESPACE,
    NODES,
    SCORER,
    SCORER_EVENTS,
    STREAM,
    STREAM_EVENTS,
)

_SCORER: Final = ["EndpointName", ENDPOINT["EndpointName"], "VariantName", ENDPOINT["VariantName"]]
_CONSUMER: Final = ["FunctionName", CONSUMER["FunctionName"]]
_STREAM: Final = ["StreamName", STREAM["StreamName"]]
_NODES: Final = [["CacheClusterId", node["CacheClusterId"]] for node in NODES[:3]]

_ALL: Final = ["Service", SCORER["Service"]]

# Title, then one line a metric: namespace, metric, dimensions, statistic.
_Line = tuple[str, str, list[str], str]
WIDGETS: Final[tuple[tuple[str, tuple[_Line, ...]], ...]] = (
    (
        "Requests and errors",
        (
            (HOSTING, "Invocations", _SCORER, "Sum"),
            (HOSTING, "Invocation4XXErrors", _SCORER, "Sum"),
            (HOSTING, "Invocation5XXErrors", _SCORER, "Sum"),
        ),
    ),
    (
        "Time in the container, µs",
        tuple((HOSTING, "ModelLatency", _SCORER, statistic) for statistic in ("p50", "p95", "p99")),
    ),
    (
        "Load of an instance",
        (
            (HOSTING, "InvocationsPerInstance", _SCORER, "Sum"),
            (HOSTING, "ConcurrentRequestsPerModel", _SCORER, "Maximum"),
        ),
    ),
    ("Decisions", tuple((NAMESPACE, name, _ALL, "Sum") for name in ("Approve", "Review", "Decline", "Degraded"))),
    (
        "Declines of the worst scorer, percent; mean score",
        ((NAMESPACE, "DeclineShare", _ALL, "Maximum"), (NAMESPACE, "ScoreMean", _ALL, "Average")),
    ),
    ("Scorer's own events", tuple((LOGGED, metric.name, [], "Sum") for metric in SCORER_EVENTS)),
    (
        "Stream: age of the oldest record, ms",
        (
            ("AWS/Lambda", "IteratorAge", _CONSUMER, "Maximum"),
            ("AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", _STREAM, "Maximum"),
        ),
    ),
    ("Stream: records", tuple((LOGGED, metric.name, [], "Sum") for metric in STREAM_EVENTS)),
    (
        "Online store, percent",
        (
            *(("AWS/ElastiCache", "EngineCPUUtilization", node, "Average") for node in _NODES),
            ("AWS/ElastiCache", "DatabaseMemoryUsagePercentage", _NODES[0], "Maximum"),
        ),
    ),
)


def add_dashboard(blueprint: Blueprint) -> None:
    """Add the dashboard of this environment."""
    widgets = [_widget(index, title, lines) for index, (title, lines) in enumerate(WIDGETS)]
    body = json.dumps({"widgets": widgets}, sort_keys=True)
    blueprint.add(cloudwatch.Dashboard("Dashboard", DashboardName=name("overview"), DashboardBody=Sub(body)))


def _widget(index: int, title: str, lines: tuple[_Line, ...]) -> dict[str, Any]:
    metrics = [[space, metric, *dimensions, {"stat": statistic}] for space, metric, dimensions, statistic in lines]
    properties = {"title": title, "metrics": metrics, "region": "${AWS::Region}", "period": 60, "view": "timeSeries"}
    place = {"x": index % 2 * 12, "y": index // 2 * 6, "width": 12, "height": 6}
    return {"type": "metric", "properties": properties, **place}
