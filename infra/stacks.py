"""The five stacks, in the order in which they are deployed, and what each is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from troposphere import Template

from infra import data, learning, network, serving, stream
from infra.blueprint import camel
from infra.environment import Environment
from infra.names import address, plain_name
from infra.serving_alarms import BUDGET


@dataclass(frozen=True)
class Stack:
    """A stack.

    Parameters
    ----------
    name
        Short name.
    build
        Renders its template.
    keeps_data
        Whether it holds data, keys or images; then no command deletes it.
    """

    name: str
    build: Callable[[], Template]
    keeps_data: bool = False

    def full_name(self, environment: str) -> str:
        """Return its name in an account."""
        return plain_name(environment, self.name)


STACKS: Final = (
    Stack("network", network.build, keeps_data=True),
    Stack("data", data.build, keeps_data=True),
    Stack("stream", stream.build),
    Stack("serving", serving.build),
    Stack("learning", learning.build),
)


def parameters(template: Mapping[str, Any], environment: Environment, found: Mapping[str, str]) -> dict[str, str]:
    """Return the values of a template's parameters.

    Parameters
    ----------
    template
        As rendered.
    environment
        Gives what a person chose.
    found
        What only the account knows: the ids of AWS's own prefix lists.
    """
    chosen = {**_chosen(environment), **found}
    return {
        name: _given(name, environment) if declared["Type"].startswith("AWS::SSM::") else chosen[name]
        for name, declared in template["Parameters"].items()
    }


def _given(parameter: str, environment: Environment) -> str:
    """Return the SSM parameter behind ``NetworkVpcId``."""
    stack = next(stack.name for stack in STACKS if parameter.startswith(camel(stack.name)))
    rest = parameter.removeprefix(camel(stack))
    key = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in rest).lstrip("-")
    return address(environment.name, stack, key)


def _chosen(environment: Environment) -> dict[str, str]:
    account, data_, images = environment.account, environment.data, environment.images
    digests = environment.artifacts
    return {
        "Environment": environment.name,
        "Owner": account.owner,
        "CostCentre": account.cost_centre,
        "AlarmEmail": account.alarm_email,
        "NetworkPrefix": environment.network.prefix,
        "StoreKind": data_.store,
        "Shards": str(data_.shards),
        "CacheNode": data_.cache_node,
        "CacheNodes": str(data_.cache_nodes),
        "Currency": data_.currency,
        "Concurrency": str(environment.stream.concurrency),
        BUDGET: str(environment.scorer.request_budget_ms * 1000),
        "LambdaImage": images.lambda_,
        "JobImage": images.job,
        "InferenceImage": images.inference,
        "FeastRegistry": f"s3://{environment.bucket}/registry/{digests.feast_registry}.db",
        "PipelineKey": f"pipelines/{digests.pipeline}.json" if digests.pipeline else "",
    }
