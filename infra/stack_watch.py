"""Reading stacks by name or id: their status, how they end, and what failed; changes nothing."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from infra.errors import StackStuck
from infra.stack_states import NONE

POLL_S: Final = 2.0
_QUIET: Final = 1_800
"""Looks at a stack that moves, an hour, between two looks at its events; without a new one a person is asked."""

_TOLD: Final = 3
_BEGUN: Final = frozenset({"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"})


class StackWatch:
    """Looks at the stacks of one account.

    Parameters
    ----------
    cloudformation
        A boto3 client.
    pause
        Waits that many seconds.
    """

    def __init__(self, cloudformation: Any, pause: Callable[[float], None] = time.sleep) -> None:
        self._client = cloudformation
        self._pause = pause

    def find(self, name: str) -> Mapping[str, Any] | None:
        """Return what AWS says of a stack; null when it does not exist."""
        try:
            stacks: Sequence[Mapping[str, Any]] = self._client.describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return stacks[0]

    def status(self, name: str) -> str:
        """Return a stack's status, ``NONE`` when it does not exist."""
        found = self.find(name)
        return str(found["StackStatus"]) if found else NONE

    def end(self, name: str, advance: Callable[[str], None] = lambda _: None) -> str:
        """Return the status in which a stack comes to rest.

        Raises
        ------
        StackStuck
            It still moves, and for an hour there was no new event.
        """
        newest, status = self._newest(name), ""
        while True:
            for _ in range(_QUIET):
                status = self.status(name)
                if not status.endswith("_IN_PROGRESS"):
                    return status
                advance(status)
                self._pause(POLL_S)
            before, newest = newest, self._newest(name)
            if newest == before:
                raise StackStuck(
                    f"{name} is {status} and has had no event for an hour; look at its events "
                    f"('aws cloudformation describe-stack-events --stack-name {name}') and run again when it has ended"
                )

    def reasons(self, name: str) -> str:
        """Return what failed first in the newest attempt; later failures mostly follow from it."""
        failed: list[str] = []
        for event in self._events(name):
            status = event["ResourceStatus"]
            if status in _BEGUN and event["LogicalResourceId"] == name:
                break
            reason = event.get("ResourceStatusReason", "")
            if status.endswith("_FAILED") and "cancelled" not in reason:
                failed.append(f"{event['LogicalResourceId']}: {reason}")
        return "; ".join(reversed(failed[-_TOLD:])) or "AWS gives no reason"

    def _newest(self, name: str) -> str:
        """Return the id of a stack's newest event."""
        return str(next(self._events(name), {}).get("EventId", ""))

    def _events(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Yield a stack's events, the newest first, page by page."""
        request = {"StackName": name}
        while True:
            answer = self._client.describe_stack_events(**request)
            yield from answer["StackEvents"]
            if not answer.get("NextToken"):
                return
            request["NextToken"] = answer["NextToken"]
