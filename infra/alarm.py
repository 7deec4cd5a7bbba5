"""What an alarm is. Which there are: :mod:`infra.alarms`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


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
    parameter
        Template parameter that gives the threshold, where it differs between environments; ``threshold`` is then what
        the settings' defaults come to.
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
    parameter: str = ""
    percent_of: str = ""
    silence_is_bad: bool = False
    over: tuple[Mapping[str, str], ...] = ()
    expression: str = "MAX(METRICS())"
    store: Literal["", "redis", "dynamodb"] = ""
    unusual: bool = False
    guards_rollouts: bool = False
