"""What each model version decided, as CloudWatch has it from the scorers' own lines.

SageMaker's metrics know no version: a canary and the fleet beside it share them. The scorer's do, by the dimension
``ModelVersion``; the names below are the scorer's (``serving/embedded.py``), and a test keeps them so.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from retraining.breaker import Counts
from retraining.bucket import reaching

NAMESPACE: Final = "Tollgate"
DIMENSION: Final = "ModelVersion"
OUTCOMES: Final = ("Decisions", "Review", "Decline")
BANDS: Final = tuple(f"ScoreBand{band:02d}" for band in range(15))
PERIOD_S: Final = 60


class CloudWatchMeters:
    """Reads sums of the scorers' metrics."""

    def __init__(self, cloudwatch: Any) -> None:
        self._cloudwatch = cloudwatch

    def read(self, version: str, *, since_ms: int, now_ms: int) -> Counts:
        """Return what a version decided in a span of time.

        Raises
        ------
        RegistryUnreachable
            CloudWatch does not answer.
        """
        names = (*OUTCOMES, *BANDS)
        sums = dict.fromkeys(names, 0.0)
        request: dict[str, Any] = {
            "MetricDataQueries": [_query(number, name, version) for number, name in enumerate(names)],
            "StartTime": _moment(since_ms),
            "EndTime": _moment(now_ms) + timedelta(seconds=PERIOD_S),
        }
        with reaching("the scorers' metrics in CloudWatch"):
            for page in self._cloudwatch.get_paginator("get_metric_data").paginate(**request):
                for result in page["MetricDataResults"]:
                    sums[names[int(result["Id"].removeprefix("m"))]] += sum(result["Values"])
        return Counts(
            int(sums["Decisions"]), int(sums["Review"]), int(sums["Decline"]), tuple(int(sums[name]) for name in BANDS)
        )


def _query(number: int, name: str, version: str) -> dict[str, Any]:
    metric = {
        "Namespace": NAMESPACE,
        "MetricName": name,
        "Dimensions": [{"Name": DIMENSION, "Value": version}],
    }
    return {"Id": f"m{number}", "MetricStat": {"Metric": metric, "Period": PERIOD_S, "Stat": "Sum"}}


def _moment(time_ms: int) -> datetime:
    """Return a time rounded down to CloudWatch's period."""
    return datetime.fromtimestamp(time_ms // 1000 // PERIOD_S * PERIOD_S, UTC)
