"""Every alarm: what is measured, when it is too much, what it means. ``docs/runbook.md`` says what to do.

The alarms of a stack stand beside what the stack is about; here they are together.
"""

from typing import Final

from infra.names import plain_name
from infra.serving_alarms import SERVING_ALARMS
from infra.stream_alarms import LEARNING_ALARMS, STREAM_ALARMS

ALARMS: Final = (*SERVING_ALARMS, *STREAM_ALARMS, *LEARNING_ALARMS)


def rollout_guards(environment: str) -> list[str]:
    """Return the names of the alarms that call a rollout back.

    Examples
    --------
    >>> rollout_guards("dev")[0]
    'tollgate-dev-scorer-errors'
    """
    return [plain_name(environment, alarm.suffix) for alarm in ALARMS if alarm.guards_rollouts]
