"""Alarms and metric filters as resources of a stack."""

from collections.abc import Mapping
from typing import Any

from troposphere import Ref, Sub, cloudwatch, logs

from infra.alarm import Alarm
from infra.alarms import ALARMS
from infra.blueprint import Blueprint, name
from infra.metrics import LOGGED, LoggedMetric


def add_alarms(blueprint: Blueprint) -> None:
    """Add the alarms of a blueprint's stack."""
    topic = blueprint.take("network", "alarm-topic")
    for alarm in ALARMS:
        if alarm.stack == blueprint.stack:
            if alarm.parameter:
                blueprint.parameter(alarm.parameter, f"Threshold of {alarm.suffix}.", "Number", MinValue=0)
            made = blueprint.add(_alarm(alarm, topic))
            if alarm.store:
                made.Condition = blueprint.on_store(alarm.store)


def add_metric_filters(blueprint: Blueprint, metrics: tuple[LoggedMetric, ...], group: Any) -> None:
    """Count log events of a group as metrics of this environment."""
    for metric in metrics:
        transformation = logs.MetricTransformation(
            MetricNamespace=Sub(LOGGED),
            MetricName=metric.name,
            MetricValue=f"$.{metric.value}" if metric.value else "1",
        )
        blueprint.add(
            logs.MetricFilter(
                f"Count{metric.name}",
                LogGroupName=Ref(group),
                FilterPattern=f'{{ $.event = "{metric.event}" }}',
                MetricTransformations=[transformation],
            )
        )


def _dimensions(alarm: Alarm, dimensions: Mapping[str, str] | None = None) -> list[Any]:
    return [
        cloudwatch.MetricDimension(Name=key, Value=Sub(value) if "$" in value else value)
        for key, value in (alarm.dimensions if dimensions is None else dimensions).items()
    ]


def _alarm(alarm: Alarm, topic: Any) -> Any:
    title = "".join(part.capitalize() for part in alarm.suffix.split("-"))
    attributes: dict[str, Any] = _ratio(alarm) if alarm.percent_of else _metric(alarm)
    if alarm.over:
        attributes = _together(alarm)
    if alarm.unusual:
        attributes = _band(alarm)
    else:
        attributes["ComparisonOperator"] = "LessThanThreshold" if alarm.below else "GreaterThanThreshold"
        attributes["Threshold"] = Ref(alarm.parameter) if alarm.parameter else alarm.threshold
    return cloudwatch.Alarm(
        f"{title}Alarm",
        AlarmName=name(alarm.suffix),
        AlarmDescription=f"{alarm.meaning} See docs/runbook.md#{alarm.suffix}.",
        AlarmActions=[topic],
        OKActions=[topic],
        EvaluationPeriods=alarm.periods,
        DatapointsToAlarm=alarm.datapoints,
        TreatMissingData="breaching" if alarm.silence_is_bad else "notBreaching",
        **attributes,
    )


def _metric(alarm: Alarm) -> dict[str, Any]:
    kind = "ExtendedStatistic" if alarm.statistic.startswith("p") else "Statistic"
    attributes: dict[str, Any] = {
        "Namespace": _namespace(alarm),
        "MetricName": alarm.metric,
        "Period": alarm.period_s,
        kind: alarm.statistic,
    }
    return {**attributes, "Dimensions": _dimensions(alarm)} if alarm.dimensions else attributes


def _namespace(alarm: Alarm) -> Any:
    return Sub(alarm.namespace) if "$" in alarm.namespace else alarm.namespace


def _query(
    alarm: Alarm, query_id: str, metric: str, *, shown: bool = False, dimensions: Mapping[str, str] | None = None
) -> Any:
    source = cloudwatch.Metric(
        Namespace=_namespace(alarm), MetricName=metric, Dimensions=_dimensions(alarm, dimensions)
    )
    stat = cloudwatch.MetricStat(Metric=source, Period=alarm.period_s, Stat=alarm.statistic)
    return cloudwatch.MetricDataQuery(Id=query_id, MetricStat=stat, ReturnData=shown)


def _together(alarm: Alarm) -> dict[str, Any]:
    """Return one figure of several sources; one that does not exist counts for nothing."""
    sources = [
        _query(alarm, f"source{number}", alarm.metric, dimensions=dimensions)
        for number, dimensions in enumerate(alarm.over)
    ]
    whole = cloudwatch.MetricDataQuery(Id="whole", Expression=alarm.expression, Label=alarm.metric, ReturnData=True)
    return {"Metrics": [*sources, whole]}


def _band(alarm: Alarm) -> dict[str, Any]:
    band = cloudwatch.MetricDataQuery(
        Id="usual", Expression=f"ANOMALY_DETECTION_BAND(value, {alarm.threshold:g})", Label="usual", ReturnData=True
    )
    return {
        "ComparisonOperator": "LessThanLowerOrGreaterThanUpperThreshold",
        "ThresholdMetricId": "usual",
        "Metrics": [_query(alarm, "value", alarm.metric, shown=True), band],
    }


def _ratio(alarm: Alarm) -> dict[str, Any]:
    share = cloudwatch.MetricDataQuery(
        Id="share",
        Expression="IF(whole >= 50, 100 * FILL(part, 0) / whole, 0)",
        Label=f"{alarm.metric} in percent of {alarm.percent_of}",
        ReturnData=True,
    )
    return {"Metrics": [_query(alarm, "part", alarm.metric), _query(alarm, "whole", alarm.percent_of), share]}
