"""Every alarm: what is measured, when it is too much, what it means. ``docs/runbook.md`` says what to do.

What our own processes tell comes two ways: metric filters over their structured log events (``LOGGED``), and embedded
metrics of the scorer, which CloudWatch takes from its log by itself (``NAMESPACE``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from fraud.settings import Settings
from infra.names import DECISIONS, VIEWS, plain_name

NAMESPACE: Final = "Tollgate"
"""Of the scorer's embedded metrics."""

LOGGED: Final = "Tollgate-${Environment}"
"""Of the metrics made from log events, and of the breaker of rollouts."""

SCORER: Final = {"Service": "scorer"}
"""Dimension of the scorer's embedded metrics over all model versions."""

DECLINED_PERCENT: Final = 10.0
"""Share of declines in one scorer above which a rollout comes back: several times what any policy here declines."""

VARIANT: Final = "live"
ENDPOINT: Final = {"EndpointName": "tollgate-${Environment}-scorer", "VariantName": VARIANT}
_CONSUMER: Final = {"FunctionName": "tollgate-${Environment}-stream"}
_STREAM: Final = {"StreamName": "tollgate-${Environment}-transactions"}
NODES: Final = tuple({"CacheClusterId": f"tollgate-${{Environment}}-online-{number:03d}"} for number in range(1, 7))
"""Every node that the online store may have: after a failover another one is the primary."""

TABLES: Final = tuple({"TableName": f"{Settings().project}.{view}"} for view in VIEWS)
_DELIVERY: Final = {"DeliveryStreamName": f"tollgate-${{Environment}}-{DECISIONS}"}


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


@dataclass(frozen=True)
class Alarm:
    """One alarm.

    Parameters
    ----------
    suffix
        Its name after ``tollgate-<environment>-``.
    stack
        Where it is defined: with what it watches.
    meaning
        One sentence for whoever is woken up.
    statistic
        ``Sum``, ``Maximum``, ... or a percentile such as ``p99``.
    percent_of
        Another metric; the threshold is then a percentage of it, looked at once it is 50 or more.
    silence_is_bad
        Whether no data raises the alarm.
    over
        Dimensions of several sources of the metric; with ``expression`` it is what they come to together.
    expression
        CloudWatch's, over all sources.
    store
        Online store for which there is such an alarm; empty for both.
    unusual
        Whether the threshold is the width of CloudWatch's band of what is usual at this hour, and leaving it either way
        raises the alarm.
    guards_rollouts
        Whether a rollout comes back by itself when the alarm is raised.
    """

    suffix: str
    stack: str
    meaning: str
    namespace: str
    metric: str
    statistic: str
    threshold: float
    dimensions: Mapping[str, str] = field(default_factory=dict)
    period_s: int = 60
    periods: int = 3
    datapoints: int = 2
    below: bool = False
    percent_of: str = ""
    silence_is_bad: bool = False
    over: tuple[Mapping[str, str], ...] = ()
    expression: str = "MAX(METRICS())"
    store: Literal["", "redis", "dynamodb"] = ""
    unusual: bool = False
    guards_rollouts: bool = False


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

_SAGEMAKER: Final = "AWS/SageMaker"
ALARMS: Final = (
    Alarm(
        "scorer-errors",
        "serving",
        "More than 1 % of requests ended with a server error.",
        _SAGEMAKER,
        "Invocation5XXErrors",
        "Sum",
        1.0,
        ENDPOINT,
        percent_of="Invocations",
        guards_rollouts=True,
    ),
    Alarm(
        "scorer-latency",
        "serving",
        "The container takes over 50 ms for one request in a hundred.",
        _SAGEMAKER,
        "ModelLatency",
        "p99",
        50_000,
        ENDPOINT,
        guards_rollouts=True,
    ),
    Alarm(
        "scorer-failing",
        "serving",
        "The scorer met errors it has no name for.",
        LOGGED,
        "RequestsFailed",
        "Sum",
        0,
        guards_rollouts=True,
    ),
    Alarm(
        "scorer-shifted",
        "serving",
        "The breaker stopped a canary: it decided otherwise than the fleet beside it.",
        LOGGED,
        "CanaryShift",
        "Maximum",
        0,
        periods=1,
        datapoints=1,
        guards_rollouts=True,
    ),
    Alarm(
        "scorer-overhead",
        "serving",
        "SageMaker's own part of a request takes over 50 ms for one in a hundred.",
        _SAGEMAKER,
        "OverheadLatency",
        "p99",
        50_000,
        ENDPOINT,
    ),
    Alarm(
        "scorer-saturated",
        "serving",
        "Instances hold more concurrent requests than scaling keeps up with.",
        _SAGEMAKER,
        "ConcurrentRequestsPerModel",
        "Maximum",
        40,
        ENDPOINT,
    ),
    Alarm(
        "scorer-silent",
        "serving",
        "No transaction was scored for ten minutes.",
        _SAGEMAKER,
        "Invocations",
        "Sum",
        1,
        ENDPOINT,
        period_s=300,
        periods=2,
        below=True,
        silence_is_bad=True,
    ),
    Alarm(
        "scorer-declines",
        "serving",
        "A scorer declines over 10 % of its payments: a model or policy that is wrong, or an attack.",
        NAMESPACE,
        "DeclineShare",
        "Maximum",
        DECLINED_PERCENT,
        SCORER,
        guards_rollouts=True,
    ),
    Alarm(
        "scores-shifted",
        "serving",
        "The mean score has left what is usual at this hour, up or down.",
        NAMESPACE,
        "ScoreMean",
        "Average",
        4,
        SCORER,
        period_s=300,
        unusual=True,
    ),
    Alarm(
        "decisions-degraded",
        "serving",
        "More than 5 % of decisions were made without all features.",
        NAMESPACE,
        "Degraded",
        "Sum",
        5.0,
        SCORER,
        percent_of="Decisions",
    ),
    Alarm(
        "store-lost",
        "serving",
        "A scorer gave the online store up and decides without features.",
        LOGGED,
        "StoreLost",
        "Sum",
        0,
        periods=1,
        datapoints=1,
    ),
    Alarm(
        "decisions-lost",
        "serving",
        "Decisions are missing from the decision log.",
        LOGGED,
        "DecisionsLost",
        "Sum",
        0,
        periods=1,
        datapoints=1,
    ),
    Alarm(
        "declines-capped",
        "serving",
        "A scorer would decline far more than ever before; its declines have become reviews.",
        LOGGED,
        "DeclineCapsOpened",
        "Sum",
        0,
        periods=1,
        datapoints=1,
        guards_rollouts=True,
    ),
    Alarm(
        "velocity-stale",
        "serving",
        "Payments scored long ago are still missing from the states that are read; velocity is left out.",
        LOGGED,
        "VelocityFoundStale",
        "Sum",
        0,
        periods=1,
        datapoints=1,
    ),
    Alarm(
        "lists-refused",
        "serving",
        "A changed file of allow and block lists cannot be read; the lists of before are in force.",
        LOGGED,
        "ListsRefused",
        "Sum",
        0,
        periods=1,
        datapoints=1,
    ),
    Alarm(
        "stream-late",
        "stream",
        "The oldest record on the stream has waited over a minute: velocity features lag behind.",
        "AWS/Lambda",
        "IteratorAge",
        "Maximum",
        60_000,
        _CONSUMER,
    ),
    Alarm(
        "stream-errors",
        "stream",
        "The stream's function raised; the batch is being split and tried again.",
        "AWS/Lambda",
        "Errors",
        "Sum",
        0,
        _CONSUMER,
    ),
    Alarm(
        "stream-throttled",
        "stream",
        "The stream's function is held back by its concurrency.",
        "AWS/Lambda",
        "Throttles",
        "Sum",
        0,
        _CONSUMER,
    ),
    Alarm(
        "dead-letters",
        "stream",
        "Records were refused and kept aside.",
        LOGGED,
        "DeadLetters",
        "Sum",
        0,
        period_s=300,
        periods=1,
        datapoints=1,
    ),
    Alarm(
        "stream-full",
        "stream",
        "Producers are refused: a shard is full.",
        "AWS/Kinesis",
        "WriteProvisionedThroughputExceeded",
        "Sum",
        0,
        _STREAM,
    ),
    Alarm(
        "store-busy",
        "stream",
        "The online store's one thread is busy more than 80 % of the time.",
        "AWS/ElastiCache",
        "EngineCPUUtilization",
        "Average",
        80,
        over=NODES,
        store="redis",
    ),
    Alarm(
        "store-full",
        "stream",
        "The online store's memory is 75 % full; when it is full it refuses writes.",
        "AWS/ElastiCache",
        "DatabaseMemoryUsagePercentage",
        "Maximum",
        75,
        over=NODES,
        store="redis",
    ),
    Alarm(
        "reads-throttled",
        "stream",
        "DynamoDB refuses reads of the online store: decisions lack features.",
        "AWS/DynamoDB",
        "ReadThrottleEvents",
        "Sum",
        0,
        over=TABLES,
        expression="SUM(METRICS())",
        store="dynamodb",
    ),
    Alarm(
        "states-throttled",
        "stream",
        "DynamoDB refuses writes of the online store: states and profiles come late.",
        "AWS/DynamoDB",
        "WriteThrottleEvents",
        "Sum",
        0,
        over=TABLES,
        expression="SUM(METRICS())",
        store="dynamodb",
    ),
    Alarm(
        "scorer-refusing",
        "serving",
        "More than 5 % of requests were refused: a caller sends what is no transaction.",
        _SAGEMAKER,
        "Invocation4XXErrors",
        "Sum",
        5.0,
        ENDPOINT,
        percent_of="Invocations",
    ),
    Alarm(
        "decisions-late",
        "serving",
        "Firehose has held decisions back for over a quarter of an hour: they do not reach the bucket.",
        "AWS/Firehose",
        "DeliveryToS3.DataFreshness",
        "Maximum",
        900,
        _DELIVERY,
        period_s=300,
    ),
    Alarm(
        "decisions-unreadable",
        "serving",
        "Firehose could not make rows of some decisions; they lie whole beside the table.",
        "AWS/Firehose",
        "FailedConversion.Records",
        "Sum",
        0,
        _DELIVERY,
        period_s=300,
        periods=1,
        datapoints=1,
    ),
    Alarm(
        "records-given-up",
        "stream",
        "Lambda gave records up, because the function kept raising or they were too old, and kept them in the bucket.",
        "AWS/Lambda",
        "OnFailureDestinationDeliveredEventCount",
        "Sum",
        0,
        {"EventSourceMappingUUID": "${Mapping}"},
        period_s=300,
        periods=1,
        datapoints=1,
    ),
    Alarm(
        "start-refused",
        "learning",
        "A schedule could not start the nightly job or the weekly pipeline; the request waits in the queue.",
        "AWS/SQS",
        "ApproximateNumberOfMessagesVisible",
        "Maximum",
        0,
        {"QueueName": "tollgate-${Environment}-starts"},
        periods=1,
        datapoints=1,
    ),
    Alarm(
        "rollout-refused",
        "learning",
        "An approved model package could not be rolled out; the event waits in the queue.",
        "AWS/SQS",
        "ApproximateNumberOfMessagesVisible",
        "Maximum",
        0,
        {"QueueName": "tollgate-${Environment}-rollouts"},
        periods=1,
        datapoints=1,
    ),
)


def rollout_guards(environment: str) -> list[str]:
    """Return the names of the alarms that call a rollout back.

    Examples
    --------
    >>> rollout_guards("dev")[0]
    'tollgate-dev-scorer-errors'
    """
    return [plain_name(environment, alarm.suffix) for alarm in ALARMS if alarm.guards_rollouts]
