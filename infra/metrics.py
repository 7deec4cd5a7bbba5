"""What is measured: names and dimensions of metrics, and the log events that become metrics.

Alarms and dashboard read them, the scorer and the consumer emit them. Our own processes tell two ways: metric filters
over their structured log events (``LOGGED``), and embedded metrics of the scorer, which CloudWatch takes from its log
by itself (``NAMESPACE``).
"""

from dataclasses import dataclass
from typing import Final

from fraud.settings import Settings
from infra.names import DECISIONS, VIEWS

NAMESPACE: Final = "Tollgate"
"""Of the scorer's embedded metrics."""

LOGGED: Final = "Tollgate-${Environment}"
"""Of the metrics made from log events, and of the breaker of rollouts."""

HOSTING: Final = "AWS/SageMaker"
"""Of the endpoint's metrics."""

SCORER: Final = {"Service": "scorer"}
"""Dimension of the scorer's embedded metrics over all model versions."""

VARIANT: Final = "live"
ENDPOINT: Final = {"EndpointName": "tollgate-${Environment}-scorer", "VariantName": VARIANT}
CONSUMER: Final = {"FunctionName": "tollgate-${Environment}-stream"}
STREAM: Final = {"StreamName": "tollgate-${Environment}-transactions"}
NODES: Final = tuple({"CacheClusterId": f"tollgate-${{Environment}}-online-{number:03d}"} for number in range(1, 7))
"""Every node that the online store may have: after a failover another one is the primary."""

TABLES: Final = tuple({"TableName": f"{Settings().project}.{view}"} for view in VIEWS)
DELIVERY: Final = {"DeliveryStreamName": f"tollgate-${{Environment}}-{DECISIONS}"}


@dataclass(frozen=True)
class LoggedMetric:
    """A metric made from log events.

    Parameters
    ----------
    name
        Metric in ``LOGGED``, one value per event.
    event
        Name of the event, as the process logs it.
    value
        Field that is summed; null counts the events.
    """

    name: str
    event: str
    value: str | None = None


SCORER_EVENTS: Final = (
    LoggedMetric("StoreLost", "store_lost"),
    LoggedMetric("RequestsFailed", "request_failed"),
    LoggedMetric("DecisionsLost", "decisions_lost", "count"),
    LoggedMetric("DeclineCapsOpened", "decline_cap_opened"),
    LoggedMetric("VelocityFoundStale", "velocity_found_stale"),
    LoggedMetric("ListsRefused", "lists_refused"),
)
STREAM_EVENTS: Final = (
    LoggedMetric("DeadLetters", "batch_applied", "dead_lettered"),
    LoggedMetric("RecordsApplied", "batch_applied", "applied"),
)
