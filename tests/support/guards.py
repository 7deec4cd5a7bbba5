"""The alarms that call a rollout back, in an emulated account."""

from collections.abc import Iterable
from typing import Any


def quiet_guards(cloudwatch: Any, names: Iterable[str], *, threshold: float = 1.0) -> None:
    """Make an alarm of each name that watches server errors and is quiet; those on shifts watch the breaker's metric.

    The emulator makes no alarms from templates, and leaves a new one without data.
    """
    for name in names:
        shifted = name.endswith("shifted")
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="Tollgate-dev" if shifted else "AWS/SageMaker",
            MetricName="CanaryShift" if shifted else "Invocation5XXErrors",
            Statistic="Maximum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=threshold,
            ComparisonOperator="GreaterThanThreshold",
        )
        cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="quiet")
