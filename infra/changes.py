"""Changing a stack: a change set, shown before it is executed; safe to run again whatever was left half done."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from infra import emulator, rendering
from infra.emulator import Skipped
from infra.environment import Environment
from infra.errors import ProtectedStack, StackRefused, StackStuck
from infra.rules import KEPT
from infra.stack_states import GOOD, NEW, NONE, SHELL, remedy
from infra.stack_watch import POLL_S, StackWatch
from infra.stacks import STACKS, Stack, parameters

_CLEARING: Final = 900
"""Looks at a stack that is being cleared away, half an hour, before a person is asked."""

_KEEPS: Final = "keeps data; move the data by hand first"
_STANDS: Final = (
    "the store, the endpoint, functions and jobs stand in and cannot leave; take the change back ([network] prefix is "
    "chosen once), or make a new environment beside this one and move over to it"
)
_CARRIES: Final = {"AWS::EC2::VPC": _STANDS, "AWS::EC2::Subnet": _STANDS}
"""Why a resource without data is as little replaced as one with data, by its type."""


@dataclass(frozen=True)
class Change:
    """One resource that would change; ``properties`` are the names of those that differ, when AWS says so."""

    action: str
    resource: str
    type: str
    replaced: str
    properties: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What deploying a stack would do.

    Parameters
    ----------
    changes
        Empty when nothing would.
    waits_for
        Stacks that have to be deployed first; there is no change set then.
    skipped
        Resources left out because the target is an emulator.
    change_set
        Name of the change set; empty when there is none.
    stack_id
        AWS's id of the stack that the change set belongs to; empty when there is no change set.
    remains
        Whether the shell of a creation that failed is in the way: deploying removes it first. AWS then says nothing yet
        and ``changes`` are all resources of the template.
    """

    stack: Stack
    changes: tuple[Change, ...] = ()
    waits_for: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    change_set: str = ""
    stack_id: str = ""
    creates: bool = False
    remains: bool = False


class Account:
    """The stacks of one environment in one account.

    Parameters
    ----------
    cloudformation
        A boto3 client.
    environment
        What a person chose.
    found
        What only the account knows, see :func:`infra.stacks.parameters`.
    emulated
        Whether the target is an emulator.
    pause
        Waits that many seconds.
    """

    def __init__(
        self,
        cloudformation: Any,
        environment: Environment,
        found: Mapping[str, str],
        *,
        emulated: bool,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = cloudformation
        self._environment = environment
        self._found = found
        self._emulated = emulated
        self._pause = pause
        self._watch = StackWatch(cloudformation, pause)

    def name(self, stack: Stack) -> str:
        """Return a stack's name in the account."""
        return stack.full_name(self._environment.name)

    def status(self, stack: Stack) -> str:
        """Return a stack's status, ``NONE`` when it does not exist."""
        return self._watch.status(self.name(stack))

    def plan(self, stack: Stack, *, clear: bool = False) -> Plan:
        """Make a change set and return what it would do.

        Parameters
        ----------
        stack
            Which.
        clear
            Whether the shell of a creation that failed may be removed.

        Raises
        ------
        StackStuck
            The stack is being changed, or waits for a decision.
        StackRefused
            AWS refuses the template or a parameter.
        ProtectedStack
            The change would delete or replace data, or the network that everything stands in.
        """
        status = self._settled(stack, clear=clear)
        template = rendering.as_data(stack)
        waits_for = self._waits_for(stack, template)
        if waits_for:
            return Plan(stack, waits_for=waits_for)
        skipped: Sequence[Skipped] = ()
        body = rendering.render(stack)
        if self._emulated:
            template, skipped = emulator.reduce(template)
            body = emulator.body(template)
        if status in SHELL:
            added = (Change("Add", title, item["Type"], "", ()) for title, item in template["Resources"].items())
            return Plan(stack, tuple(added), skipped=tuple(skipped), creates=True, remains=True)
        creates = status in NEW
        name = f"tollgate-{int(time.time())}"
        if not self._create(stack, name, body, template, creates=creates):
            return Plan(stack, skipped=tuple(skipped))
        changes, stack_id = self._described(stack, name)
        if not changes:
            self._client.delete_change_set(StackName=self.name(stack), ChangeSetName=name)
            return Plan(stack, skipped=tuple(skipped), creates=creates)
        plan = Plan(stack, changes, skipped=tuple(skipped), change_set=name, stack_id=stack_id, creates=creates)
        self._protect(plan)
        return plan

    def discard(self, plan: Plan) -> None:
        """Delete a plan's change set, and the empty stack that AWS made for it."""
        if plan.change_set:
            self._client.delete_change_set(StackName=self.name(plan.stack), ChangeSetName=plan.change_set)
        if plan.creates and plan.change_set and self.status(plan.stack) == "REVIEW_IN_PROGRESS":
            self._client.delete_stack(StackName=plan.stack_id or self.name(plan.stack))

    def execute(self, plan: Plan, advance: Callable[[str], None] = lambda _: None) -> None:
        """Execute a plan's change set and wait for its end.

        Raises
        ------
        StackRefused
            It failed; AWS has rolled it back and the message holds the first reasons of this attempt.
        StackStuck
            It still moves, and nothing has happened to any resource for an hour.
        """
        name = self.name(plan.stack)
        if not plan.change_set:
            return
        self._client.execute_change_set(StackName=name, ChangeSetName=plan.change_set)
        status = self._watch.end(plan.stack_id or name, advance)
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise StackRefused(f"{name} ended as {status}: {self._watch.reasons(name)}; correct it and run again")

    def protect(self, stack: Stack) -> None:
        """Keep anybody from deleting a stack with data, by any tool, before the protection is taken away on purpose."""
        if stack.keeps_data and not self._emulated:  # the emulator knows no such call
            self._client.update_termination_protection(StackName=self.name(stack), EnableTerminationProtection=True)

    def destroy(self, stack: Stack) -> bool:
        """Delete a stack without data; return whether there was one.

        Raises
        ------
        ProtectedStack
            The stack keeps data.
        """
        if stack.keeps_data:
            raise ProtectedStack(f"{self.name(stack)} keeps data, keys or images; no command deletes it")
        name = self.name(stack)
        found = self._watch.find(name)
        if found is None:
            return False
        self._client.delete_stack(StackName=name)
        status = self.status(stack)
        if status == "DELETE_IN_PROGRESS":
            status = self._watch.end(found.get("StackId", name))  # a name ends with its stack
        if status not in (NONE, "DELETE_COMPLETE"):
            raise StackRefused(f"{name} ended as {status}: {self._watch.reasons(name)}")
        return True

    def _tidy(self, name: str) -> None:
        """Delete stacks that were planned and never made: AWS makes the next of that name in their place, moto beside.

        By id, for under the name may also lie the one that was made.
        """
        while (left := self._watch.find(name)) and left["StackStatus"] == "REVIEW_IN_PROGRESS":
            self._client.delete_stack(StackName=left["StackId"])

    def _settled(self, stack: Stack, *, clear: bool) -> str:
        """Return a status in which a change set can be made, or that of a shell which may not be removed."""
        name = self.name(stack)
        if self._emulated:
            self._tidy(name)
        status = self.status(stack)
        if status in SHELL:
            return self._cleared(stack) if clear else status
        if status in GOOD or status in NEW:
            return status
        raise StackStuck(f"{name} is {status}; {remedy(status, name)}")

    def _cleared(self, stack: Stack) -> str:
        """Remove the shell of a creation that failed."""
        name = self.name(stack)
        self._client.delete_stack(StackName=name)
        status = ""
        for _ in range(_CLEARING):
            status = self.status(stack)
            if status in (NONE, "DELETE_COMPLETE"):
                return NONE
            if status != "DELETE_IN_PROGRESS" and status not in SHELL:  # seen at first: it has not begun
                way_out = remedy("DELETE_FAILED", name)
                reasons = self._watch.reasons(name)
                raise StackStuck(f"{name}, left by a failed creation, is {status}: {reasons}; {way_out}")
            self._pause(POLL_S)
        raise StackStuck(f"{name}, left by a failed creation, is still {status}; look at its events and run again")

    def _waits_for(self, stack: Stack, template: Mapping[str, Any]) -> tuple[str, ...]:
        given = parameters(template, self._environment, self._found)
        needed = {value.split("/")[3] for value in given.values() if value.startswith("/")} - {stack.name}
        by_name = {item.name: item for item in STACKS}
        return tuple(sorted(other for other in needed if self.status(by_name[other]) not in GOOD))

    def _create(self, stack: Stack, name: str, body: str, template: Mapping[str, Any], *, creates: bool) -> bool:
        """Make a change set; return false when there is nothing to change and AWS says so at once."""
        values = parameters(template, self._environment, self._found)
        account = self._environment.account
        tags = {"Product": "tollgate", "Environment": self._environment.name, "Owner": account.owner}
        try:
            self._client.create_change_set(
                StackName=self.name(stack),
                ChangeSetName=name,
                ChangeSetType="CREATE" if creates else "UPDATE",
                TemplateBody=body,
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
                Capabilities=["CAPABILITY_NAMED_IAM"],
                # Logs outlive a stack that was destroyed; deployed again, it takes them back.
                ImportExistingResources=True,
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            )
        except ClientError as error:
            message = error.response["Error"]["Message"]
            if _says_no_changes(message):
                return False
            raise StackRefused(f"{self.name(stack)}: {message}") from None
        return True

    def _described(self, stack: Stack, name: str) -> tuple[tuple[Change, ...], str]:
        """Return a change set's changes and the id of its stack."""
        request = {"StackName": self.name(stack), "ChangeSetName": name}
        answer = self._client.describe_change_set(**request)
        while answer["Status"] in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
            self._pause(POLL_S)
            answer = self._client.describe_change_set(**request)
        if answer["Status"] == "FAILED":
            reason = answer.get("StatusReason", "")
            if _says_no_changes(reason):
                return (), ""
            raise StackRefused(f"{self.name(stack)}: {reason}")
        changes, stack_id = list(answer["Changes"]), answer.get("StackId", "")
        while token := answer.get("NextToken"):
            answer = self._client.describe_change_set(**request, NextToken=token)
            changes += answer["Changes"]
        return tuple(_change(item["ResourceChange"]) for item in changes), stack_id

    def _protect(self, plan: Plan) -> None:
        for change in plan.changes:
            lost = change.action == "Remove" or change.replaced == "True"
            why = _KEEPS if change.type in KEPT else _CARRIES.get(change.type, "")
            if lost and why:
                self.discard(plan)
                raise ProtectedStack(
                    f"{self.name(plan.stack)}: the change would {'remove' if change.action == 'Remove' else 'replace'} "
                    f"{change.resource} ({change.type}{_because(change)}), which {why}"
                )


def _says_no_changes(message: str) -> bool:
    return "didn't contain changes" in message or "No updates are to be performed" in message


def _because(change: Change) -> str:
    return f" for another {', '.join(change.properties)}" if change.properties else ""


def _change(resource: Mapping[str, Any]) -> Change:
    names = {detail.get("Target", {}).get("Name") for detail in resource.get("Details", [])}
    return Change(
        resource["Action"],
        resource["LogicalResourceId"],
        resource["ResourceType"],
        resource.get("Replacement", ""),
        tuple(sorted(name for name in names if name)),
    )
