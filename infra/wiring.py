"""Puts the tools together for one environment: clients, what the stacks gave, the deployer, its scaling and quotas."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from infra.alarms import rollout_guards
from infra.autoscaling import Registered, Scaling
from infra.catalogue import unfit_region
from infra.deployer import Deployer
from infra.endpoint import SCALED_TAG, Place
from infra.environment import Environment
from infra.errors import InvalidEnvironment, MissingPrerequisite, WrongAccount
from infra.metrics import VARIANT
from infra.names import DECISIONS, address, plain_name
from infra.publishing import NO_BUCKET
from infra.quotas import SERVICE, Quotas

Clients = Callable[[str], Any]
"""Returns the boto3 client of a service."""

_PATIENCE_S = 60
_ADVICE_S = 5
"""For what nothing waits for."""

_LISTS = {"S3PrefixList": "s3", "DynamoDbPrefixList": "dynamodb"}


@dataclass(frozen=True)
class Wired:
    """The deployer and the scaling of an environment's endpoint, and the quotas that both live by."""

    deployer: Deployer
    scaling: Scaling
    quotas: Quotas

    def scale(self, environment: Environment, *, now_ms: int) -> Registered:
        """Register an environment's scaling for what serves, and note that it is."""
        done = self.scaling.register(environment.scaling, now_ms=now_ms)
        self.deployer.note(**{SCALED_TAG: self.deployer.served().config})
        return done


def clients(environment: Environment, endpoint_url: str = "") -> Clients:
    """Return a maker of clients in the environment's region.

    Raises
    ------
    InvalidEnvironment
        There is no such region, or none with the services that are used.
    WrongAccount
        The credentials belong to another account.
    """
    _check_region(environment)

    def client(service: str) -> Any:
        # An emulator's answer to a call it does not know is a server error: trying that again helps nobody.
        retries = {"total_max_attempts": 1 if endpoint_url else 5, "mode": "standard"}
        patience_s = _ADVICE_S if service == SERVICE else _PATIENCE_S
        config = Config(retries=retries, connect_timeout=5, read_timeout=patience_s)
        return boto3.client(
            service, region_name=environment.account.region, endpoint_url=endpoint_url or None, config=config
        )

    account = client("sts").get_caller_identity()["Account"]
    if account != environment.account.id:
        raise WrongAccount(
            f"the credentials belong to account {account} and {environment.name} is {environment.account.id}; "
            f"take others, or correct account.id in infra/environments/{environment.name}.toml"
        )
    return client


def _check_region(environment: Environment) -> None:
    """Refuse a region before it becomes a host name that nobody answers for."""
    unfit = unfit_region(environment.account.region)
    if unfit:
        raise InvalidEnvironment(
            f"{environment.account.region} {unfit}; correct account.region in "
            f"infra/environments/{environment.name}.toml, or take a newer boto3"
        )


def prefix_lists(client: Clients, environment: Environment) -> dict[str, str]:
    """Return the ids of AWS's own prefix lists, by template parameter.

    Raises
    ------
    MissingPrerequisite
        The region has none of that name.
    """
    names = {key: f"com.amazonaws.{environment.account.region}.{service}" for key, service in _LISTS.items()}
    answer = client("ec2").describe_managed_prefix_lists(
        Filters=[{"Name": "prefix-list-name", "Values": sorted(names.values())}]
    )
    found = {item["PrefixListName"]: item["PrefixListId"] for item in answer["PrefixLists"]}
    missing = sorted(set(names.values()) - set(found))
    if missing:
        raise MissingPrerequisite(f"{environment.account.region} has no prefix list {missing[0]}; is the region right?")
    return {key: found[name] for key, name in names.items()}


@contextmanager
def bucket_of(environment: Environment) -> Iterator[str]:
    """Yield the name of an environment's bucket for a while.

    Raises
    ------
    MissingPrerequisite
        S3 has said meanwhile that there is no such bucket.
    """
    try:
        yield environment.bucket
    except ClientError as error:
        if error.response["Error"]["Code"] != NO_BUCKET:
            raise
        raise MissingPrerequisite(
            f"there is no bucket {environment.bucket} yet; run: python -m infra deploy {environment.name}"
        ) from None


def wire(client: Clients, environment: Environment) -> Wired:
    """Return the tools for an environment whose stacks are deployed.

    Raises
    ------
    MissingPrerequisite
        A stack has not given what it should.
    """
    zones = [f"network/private-subnet-{zone}" for zone in ("a", "b", "c")]
    keys = ["serving/scorer-role-arn", *zones, "network/scorer-group", "network/key-arn", "data/store-host"]
    given = _given(client("ssm"), environment, [*keys, "data/store-scorer-password-arn"])
    place = Place(
        role=given["serving/scorer-role-arn"],
        subnets=tuple(given[zone] for zone in zones),
        groups=(given["network/scorer-group"],),
        key=given["network/key-arn"],
        bucket=environment.bucket,
        region=environment.account.region,
        currency=environment.data.currency,
        scorer=environment.scorer,
        store_kind=environment.data.store,
        store_host=given["data/store-host"],
        store_secret=given["data/store-scorer-password-arn"],
        decisions=plain_name(environment.name, DECISIONS),
    )
    endpoint = plain_name(environment.name, "scorer")
    cloudwatch = client("cloudwatch")
    deployer = Deployer(
        client("sagemaker"),
        cloudwatch,
        endpoint=endpoint,
        place=place,
        hosting=environment.hosting,
        guards=rollout_guards(environment.name),
    )
    scaling = Scaling(client("application-autoscaling"), cloudwatch, endpoint=endpoint, variant=VARIANT)
    return Wired(deployer, scaling, Quotas(client(SERVICE), environment))


def _given(ssm: Any, environment: Environment, keys: Sequence[str]) -> Mapping[str, str]:
    names = {address(environment.name, *key.split("/")): key for key in keys}
    answer = ssm.get_parameters(Names=sorted(names))
    if answer["InvalidParameters"]:
        missing = names[answer["InvalidParameters"][0]]
        raise MissingPrerequisite(
            f"the stacks have not given {missing} yet; run 'python -m infra deploy {environment.name}'"
        )
    return {names[item["Name"]]: item["Value"] for item in answer["Parameters"]}
