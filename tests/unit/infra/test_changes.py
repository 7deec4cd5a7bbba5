"""What happens to a stack in each of its states, against a recorded CloudFormation."""

from collections.abc import Sequence
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.model import StringShape
from moto import mock_aws

from infra.changes import Account, Plan
from infra.environment import read_environment
from infra.errors import ProtectedStack, StackRefused, StackStuck
from infra.stack_states import GOOD, NEW, NONE, SHELL, remedy
from infra.stacks import STACKS, Stack

BY_NAME = {stack.name: stack for stack in STACKS}
FOUND = {"S3PrefixList": "pl-1", "DynamoDbPrefixList": "pl-2"}


def change(action: str, kind: str, replaced: str = "False", *names: str) -> dict[str, Any]:
    details = [{"Target": {"Attribute": "Properties", "Name": name}} for name in names]
    resource = {"Action": action, "LogicalResourceId": "Thing", "ResourceType": kind, "Replacement": replaced}
    return {"ResourceChange": {**resource, "Details": details}}


class CloudFormation:
    """Answers with what AWS answers in a state, and keeps what it was asked to do."""

    def __init__(self, states: dict[str, Sequence[str]], *, changes: Sequence[Any] = (), refusal: str = "") -> None:
        self._states = {name: list(states) for name, states in states.items()}
        self._changes = list(changes)
        self._refusal = refusal
        self.done: list[str] = []

    def describe_stacks(self, **request: str) -> dict[str, Any]:
        name = request["StackName"]
        states = self._states.get(name.rsplit("-", maxsplit=1)[-1], [NONE])
        status = states.pop(0) if len(states) > 1 else states[0]
        if status == NONE:
            message = f"Stack with id {name} does not exist"
            raise ClientError({"Error": {"Code": "ValidationError", "Message": message}}, "DescribeStacks")
        return {"Stacks": [{"StackStatus": status}]}

    def create_change_set(self, **request: Any) -> None:
        self.done.append(f"create {request['ChangeSetType']}")

    def describe_change_set(self, **request: Any) -> dict[str, Any]:
        if self._refusal:
            return {"Status": "FAILED", "StatusReason": self._refusal}
        if "NextToken" in request:
            return {"Status": "CREATE_COMPLETE", "Changes": self._changes[1:]}
        if len(self._changes) > 1:
            return {"Status": "CREATE_COMPLETE", "Changes": self._changes[:1], "NextToken": "more"}
        return {"Status": "CREATE_COMPLETE", "Changes": self._changes}

    def execute_change_set(self, **_: Any) -> None:
        self.done.append("execute")

    def delete_change_set(self, **_: Any) -> None:
        self.done.append("discard")

    def delete_stack(self, **_: Any) -> None:
        self.done.append("delete")

    def describe_stack_events(self, **_: Any) -> dict[str, Any]:
        reason = {"LogicalResourceId": "Lake", "ResourceStatus": "CREATE_FAILED", "ResourceStatusReason": "no"}
        return {"StackEvents": [reason]}


def account(client: CloudFormation) -> Account:
    return Account(client, read_environment("dev"), FOUND, emulated=False, pause=lambda _: None)


def test_new_stack_is_created_and_executed() -> None:
    states = ["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"]
    client = CloudFormation({"network": [NONE, *states]}, changes=[change("Add", "AWS::EC2::VPC")])
    ours = account(client)
    plan = ours.plan(BY_NAME["network"])
    assert [item.action for item in plan.changes] == ["Add"]
    said: list[str] = []
    ours.execute(plan, said.append)
    assert client.done == ["create CREATE", "execute"]
    assert said == ["CREATE_IN_PROGRESS"] * 2


def test_every_page_of_changes_is_read() -> None:
    changes = [change("Modify", "AWS::SNS::Topic", "False", "DisplayName"), change("Add", "AWS::SQS::Queue")]
    client = CloudFormation({"network": ["UPDATE_COMPLETE"]}, changes=changes)
    plan = account(client).plan(BY_NAME["network"])
    assert [(item.action, item.properties) for item in plan.changes] == [("Modify", ("DisplayName",)), ("Add", ())]


def test_nothing_to_change_leaves_no_change_set() -> None:
    client = CloudFormation(
        {"network": ["CREATE_COMPLETE"]}, refusal="The submitted information didn't contain changes."
    )
    plan = account(client).plan(BY_NAME["network"])
    assert (plan.changes, plan.change_set) == ((), "")
    assert client.done == ["create UPDATE", "discard"]


def test_refused_change_set_says_why() -> None:
    client = CloudFormation({"network": ["CREATE_COMPLETE"]}, refusal="Parameter Owner is odd")
    with pytest.raises(StackRefused, match="Parameter Owner is odd"):
        account(client).plan(BY_NAME["network"])


def test_shell_of_a_failed_creation_is_removed_first() -> None:
    client = CloudFormation({"network": ["ROLLBACK_COMPLETE", "ROLLBACK_COMPLETE", "DELETE_IN_PROGRESS", NONE]})
    account(client).plan(BY_NAME["network"], clear=True)
    assert client.done[:2] == ["delete", "create CREATE"]


def test_planning_removes_no_shell_and_shows_all_that_will_be_made() -> None:
    client = CloudFormation({"network": ["ROLLBACK_COMPLETE"]})
    ours = account(client)
    plan = ours.plan(BY_NAME["network"])
    assert plan.remains
    assert plan.changes
    assert {item.action for item in plan.changes} == {"Add"}
    ours.discard(plan)
    ours.execute(plan)
    assert client.done == []


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (
            ["ROLLBACK_COMPLETE", "DELETE_IN_PROGRESS", "DELETE_FAILED"],
            "is DELETE_FAILED: Lake: no; look at its events",
        ),
        (["ROLLBACK_COMPLETE", "DELETE_IN_PROGRESS"], "is still DELETE_IN_PROGRESS"),
    ],
)
def test_shell_that_cannot_be_removed_ends_with_a_sentence(states: list[str], said: str) -> None:
    client = CloudFormation({"network": states})
    with pytest.raises(StackStuck, match=said):
        account(client).plan(BY_NAME["network"], clear=True)
    assert client.done == ["delete"]


def test_reasons_are_those_that_came_first_in_the_newest_attempt() -> None:
    def event(resource: str, status: str, reason: str = "") -> dict[str, str]:
        return {"LogicalResourceId": resource, "ResourceStatus": status, "ResourceStatusReason": reason}

    stack = "tollgate-dev-network"
    newest = [
        event(stack, "ROLLBACK_COMPLETE"),
        event("E", "CREATE_FAILED", "Resource creation cancelled"),
        *(event(name, "CREATE_FAILED", f"cause {name}") for name in "DCBA"),
    ]
    before = [event(stack, "CREATE_IN_PROGRESS"), event("Z", "CREATE_FAILED", "of an earlier attempt")]

    class Paged(CloudFormation):
        def describe_stack_events(self, **request: Any) -> dict[str, Any]:
            return {"StackEvents": before} if "NextToken" in request else {"StackEvents": newest, "NextToken": "more"}

    client = Paged({"network": ["CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE"]})
    with pytest.raises(StackRefused, match="A: cause A; B: cause B; C: cause C; correct it"):
        account(client).execute(Plan(BY_NAME["network"], change_set="one"))


def test_stacks_with_data_are_protected_and_others_are_not() -> None:
    protected: list[str] = []

    class Protecting(CloudFormation):
        def update_termination_protection(self, **request: Any) -> None:
            assert request["EnableTerminationProtection"] is True
            protected.append(request["StackName"])

    ours = account(Protecting({}))
    for stack in STACKS:
        ours.protect(stack)
    assert protected == ["tollgate-dev-network", "tollgate-dev-data"]


def test_what_a_destroyed_stack_left_is_taken_back() -> None:
    asked: list[bool] = []

    class Asked(CloudFormation):
        def create_change_set(self, **request: Any) -> None:
            asked.append(request["ImportExistingResources"])

    account(Asked({"network": [NONE]})).plan(BY_NAME["network"])
    assert asked == [True]


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name tollgate-dev-network"),
        ("UPDATE_IN_PROGRESS", "wait for its end"),
        ("DELETE_FAILED", "delete-stack"),
        ("ROLLBACK_FAILED", "look at its events"),
        ("CREATE_FAILED", "rollback-stack --stack-name tollgate-dev-network"),
        ("UPDATE_FAILED", "rollback-stack --stack-name tollgate-dev-network"),
        ("IMPORT_ROLLBACK_FAILED", "describe-stack-events --stack-name tollgate-dev-network"),
    ],
)
def test_stuck_stack_is_left_alone_with_a_remedy(status: str, remedy: str) -> None:
    client = CloudFormation({"network": [status]})
    with pytest.raises(StackStuck, match=remedy):
        account(client).plan(BY_NAME["network"])
    assert client.done == []


def test_every_status_that_aws_has_is_usable_or_ends_or_has_a_way_out() -> None:
    shape = botocore.session.get_session().get_service_model("cloudformation").shape_for("StackStatus")
    assert isinstance(shape, StringShape)
    assert set(shape.enum) >= (GOOD | NEW | SHELL) - {NONE}
    for status in set(shape.enum) - GOOD - NEW - SHELL:
        waits = remedy(status, "stack") == "wait for its end and run the command again"
        assert waits == status.endswith("_IN_PROGRESS"), status


@pytest.mark.parametrize("status", ["IMPORT_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_stack_whose_last_change_was_taken_back_is_changed_again(status: str) -> None:
    client = CloudFormation({"network": [status]}, changes=[change("Add", "AWS::SQS::Queue")])
    assert account(client).plan(BY_NAME["network"]).changes
    assert client.done == ["create UPDATE"]


def test_stack_waits_for_those_it_takes_from() -> None:
    client = CloudFormation({"network": ["CREATE_COMPLETE"]})
    assert account(client).plan(BY_NAME["stream"]).waits_for == ("data",)
    assert client.done == []


@pytest.mark.parametrize(
    "item", [change("Remove", "AWS::S3::Bucket"), change("Modify", "AWS::DynamoDB::Table", "True")]
)
def test_change_that_would_lose_data_is_refused_and_discarded(item: Any) -> None:
    client = CloudFormation({"network": ["CREATE_COMPLETE"], "data": ["CREATE_COMPLETE"]}, changes=[item])
    with pytest.raises(ProtectedStack, match="Thing"):
        account(client).plan(BY_NAME["data"])
    assert client.done == ["create UPDATE", "discard"]


def replaced(title: str, kind: str, *details: tuple[str, str, str]) -> dict[str, Any]:
    """Return a replacement as AWS reports it: each cause known beforehand, and once more as the template's."""
    told = [
        {
            "Target": {"Attribute": "Properties", "Name": name, "RequiresRecreation": "Always"},
            "Evaluation": evaluation,
            "ChangeSource": "ResourceReference" if cause == "Vpc" else "ParameterReference",
            "CausingEntity": cause,
        }
        for name, evaluation, cause in details
    ]
    known = [{**item, "Evaluation": "Dynamic", "ChangeSource": "DirectModification"} for item in told[:1]]
    resource = {
        "PolicyAction": "ReplaceAndDelete",
        "Action": "Modify",
        "LogicalResourceId": title,
        "PhysicalResourceId": f"{title.lower()}-0a1b2c3d4e5f67890",
        "ResourceType": kind,
        "Replacement": "True",
        "Scope": ["Properties"],
        "Details": [*told, *known],
    }
    return {"Type": "Resource", "ResourceChange": resource}


OTHER_PREFIX = [
    *(
        replaced(
            f"PrivateSubnet{zone}",
            "AWS::EC2::Subnet",
            ("CidrBlock", "Static", "NetworkPrefix"),
            ("VpcId", "Dynamic", "Vpc"),
        )
        for zone in "ABC"
    ),
    replaced("Vpc", "AWS::EC2::VPC", ("CidrBlock", "Static", "NetworkPrefix")),
]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (OTHER_PREFIX, r"replace PrivateSubnetA \(AWS::EC2::Subnet for another CidrBlock, VpcId\), which the store"),
        (
            OTHER_PREFIX[3:],
            r"replace Vpc \(AWS::EC2::VPC for another CidrBlock\).*\[network\] prefix.* new environment",
        ),
        ([change("Remove", "AWS::EC2::Subnet")], r"remove Thing \(AWS::EC2::Subnet\), which the store"),
    ],
)
def test_network_that_everything_stands_in_is_not_replaced(changes: list[Any], said: str) -> None:
    client = CloudFormation({"network": ["UPDATE_COMPLETE"]}, changes=changes)
    with pytest.raises(ProtectedStack, match=rf"^tollgate-dev-network: the change would {said}"):
        account(client).plan(BY_NAME["network"])
    assert client.done == ["create UPDATE", "discard"]


def test_network_is_made_and_its_tags_are_changed() -> None:
    tags = change("Modify", "AWS::EC2::VPC", "False", "Tags")
    for state, item in ((NONE, change("Add", "AWS::EC2::VPC")), ("CREATE_COMPLETE", tags)):
        client = CloudFormation({"network": [state]}, changes=[item])
        assert account(client).plan(BY_NAME["network"]).changes


def test_failed_execution_says_which_resource_and_why() -> None:
    client = CloudFormation({"network": ["CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE"]})
    with pytest.raises(StackRefused, match="ended as ROLLBACK_COMPLETE: Lake: no"):
        account(client).execute(Plan(BY_NAME["network"], change_set="one"))


@pytest.mark.parametrize("stack", [stack for stack in STACKS if stack.keeps_data], ids=lambda stack: stack.name)
def test_stack_with_data_is_never_deleted(stack: Stack) -> None:
    client = CloudFormation({stack.name: ["CREATE_COMPLETE"]})
    with pytest.raises(ProtectedStack, match="keeps data"):
        account(client).destroy(stack)
    assert client.done == []


def test_stack_without_data_is_deleted_once() -> None:
    client = CloudFormation({"stream": ["CREATE_COMPLETE", "DELETE_IN_PROGRESS", NONE]})
    ours = account(client)
    assert ours.destroy(BY_NAME["stream"]) is True
    assert ours.destroy(BY_NAME["stream"]) is False
    assert client.done == ["delete"]


class Twins(CloudFormation):
    """Holds a stack that nobody executed under the name of the one that is made, and answers with it first."""

    def describe_stacks(self, **request: str) -> dict[str, Any]:
        if request["StackName"] != "arn:of-the-new-one":
            return {"Stacks": [{"StackStatus": "REVIEW_IN_PROGRESS"}]}
        return super().describe_stacks(StackName="tollgate-dev-network")

    def describe_change_set(self, **request: Any) -> dict[str, Any]:
        return {**super().describe_change_set(**request), "StackId": "arn:of-the-new-one"}


def hurried(client: Any, *, emulated: bool) -> Account:
    """Return an account that nobody waits for longer than three hours."""
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        assert sum(waited) < 3 * 3600, "waits for ever"

    return Account(client, read_environment("dev"), FOUND, emulated=emulated, pause=pause)


def test_end_is_that_of_the_change_sets_own_stack() -> None:
    client = Twins({"network": ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]}, changes=[change("Add", "AWS::EC2::VPC")])
    ours = hurried(client, emulated=False)
    plan = ours.plan(BY_NAME["network"])
    assert plan.stack_id == "arn:of-the-new-one"
    ours.execute(plan)
    assert client.done == ["create CREATE", "execute"]


def test_stack_without_an_event_for_an_hour_is_given_to_a_person() -> None:
    client = CloudFormation({"network": ["UPDATE_IN_PROGRESS"]})
    with pytest.raises(
        StackStuck, match=r"tollgate-dev-network is UPDATE_IN_PROGRESS and has had no event for an hour"
    ):
        hurried(client, emulated=False).execute(Plan(BY_NAME["network"], change_set="one"))
    client = CloudFormation({"stream": ["CREATE_COMPLETE", "DELETE_IN_PROGRESS"]})
    with pytest.raises(StackStuck, match="is DELETE_IN_PROGRESS and has had no event"):
        hurried(client, emulated=False).destroy(BY_NAME["stream"])


def test_slow_stack_with_events_is_waited_for() -> None:
    class Slow(CloudFormation):
        def describe_stack_events(self, **_: Any) -> dict[str, Any]:
            self.done.append("looked")
            return {"StackEvents": [{"EventId": str(len(self.done))}]}

    client = Slow({"network": ["CREATE_IN_PROGRESS"] * 4_000 + ["CREATE_COMPLETE"]})
    hurried(client, emulated=False).execute(Plan(BY_NAME["network"], change_set="one"))
    assert client.done == ["execute", "looked", "looked", "looked"]


def test_deploy_after_a_kill_at_the_prompt_ends_on_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("cloudformation", region_name="eu-west-1")
        ours, network = hurried(client, emulated=True), BY_NAME["network"]
        monkeypatch.setattr("infra.changes.time.time", iter(range(1, 9)).__next__)
        ours.plan(network)  # killed here
        ours.execute(ours.plan(network, clear=True))
        assert ours.status(network) == "CREATE_COMPLETE"
        assert not ours.plan(network).change_set
        assert [item["StackStatus"] for item in client.describe_stacks()["Stacks"]] == ["CREATE_COMPLETE"]
