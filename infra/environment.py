"""One environment: what differs between two deployments, read from ``infra/environments/<name>.toml``."""

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from infra.errors import InvalidEnvironment
from infra.names import plain_name

FOLDER: Final = Path(__file__).parent / "environments"
PARALLEL: Final = 4
"""Batches of one shard at a time; each entity's records stay in order."""

_ZEROS: Final = "0" * 64


@dataclass(frozen=True)
class Account:
    """Where it runs and who answers for it."""

    id: str
    region: str
    owner: str
    cost_centre: str
    alarm_email: str


@dataclass(frozen=True)
class Network:
    """First two numbers of the VPC's /16."""

    prefix: str


@dataclass(frozen=True)
class Data:
    """Online store and stream; ``shards`` of 0 scale by themselves."""

    store: str
    cache_node: str
    cache_nodes: int
    shards: int
    currency: str


@dataclass(frozen=True)
class Stream:
    """Most batches at a time."""

    concurrency: int


@dataclass(frozen=True)
class Images:
    """Images by digest."""

    inference: str
    job: str
    # `lambda` is a word of Python's; the file says lambda.
    lambda_: str


@dataclass(frozen=True)
class Artifacts:
    """Digests of files in the bucket."""

    feast_registry: str
    pipeline: str


@dataclass(frozen=True)
class Hosting:
    """The endpoint.

    Parameters
    ----------
    instance_types
        In order of preference; the next is taken when AWS has no more of the one before.
    instances
        At the first creation.
    canary_percent
        Share of the fleet that a new model is tried on, 1 to 50.
    bake_s
        How long the canary is watched, 0 to 3600.
    plan
        ``production`` for the scaling plan as it stands, with paydays and promotions; ``small`` for one of the size of
        ``instances``.
    """

    instance_types: tuple[str, ...]
    instances: int
    canary_percent: int
    bake_s: int
    plan: str


@dataclass(frozen=True)
class Environment:
    """One environment."""

    name: str
    account: Account
    network: Network
    data: Data
    stream: Stream
    images: Images
    artifacts: Artifacts
    hosting: Hosting

    @property
    def bucket(self) -> str:
        """Name of its bucket."""
        return plain_name(self.name, f"lake-{self.account.id}")

    def unready(self) -> list[str]:
        """Return the images and artifacts whose digest is still made of zeros."""
        named = {f"images.{item.name.rstrip('_')}": getattr(self.images, item.name) for item in fields(Images)}
        named["artifacts.feast_registry"] = self.artifacts.feast_registry
        return [key for key, value in named.items() if value.endswith(_ZEROS)]


_SECTIONS: Final = {
    "account": Account,
    "network": Network,
    "data": Data,
    "stream": Stream,
    "images": Images,
    "artifacts": Artifacts,
    "hosting": Hosting,
}
_TEXTS: Final = {
    "account.id": r"[0-9]{12}",
    "account.region": r"[a-z]{2}(-[a-z]+)+-[0-9]",
    "account.owner": r"[\w .@/+=:-]+",
    "account.cost_centre": r"[\w .@/+=:-]+",
    "account.alarm_email": r"(\S+@\S+)?",
    "network.prefix": r"(10\.([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])|172\.(1[6-9]|2[0-9]|3[01])|192\.168)",
    "data.store": r"redis|dynamodb",
    "data.cache_node": r"cache\.[a-z0-9.]+",
    "data.currency": r"[A-Z]{3}",
    "hosting.plan": r"production|small",
    "artifacts.feast_registry": r"[0-9a-f]{64}",
    "artifacts.pipeline": r"([0-9a-f]{64})?",
}
_NUMBERS: Final = {
    "data.cache_nodes": (2, 6),
    "data.shards": (0, 10_000),
    "stream.concurrency": (4, 1000),
    "hosting.instances": (1, 1000),
    "hosting.canary_percent": (1, 50),
    "hosting.bake_s": (0, 3600),
}
_IMAGE: Final = r"[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/[a-z0-9._/-]+@sha256:[0-9a-f]{64}"


def read_environment(name: str, folder: Path = FOLDER) -> Environment:
    """Return the environment of that name.

    Raises
    ------
    InvalidEnvironment
        There is no such file, it is no TOML, or a key is unknown, missing or out of range.
    """
    path = folder / f"{name}.toml"
    if not re.fullmatch("[a-z]{2,8}", name) or not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
        raise InvalidEnvironment(f"there is no environment {name!r}; known are {known}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidEnvironment(f"{path.name}: {error}") from None
    if content.keys() != _SECTIONS.keys():
        odd = sorted(content.keys() ^ _SECTIONS.keys())
        raise InvalidEnvironment(f"{path.name}: section {odd[0]} is missing or unknown")
    sections = {key: _section(path.name, key, kind, content[key]) for key, kind in _SECTIONS.items()}
    environment = Environment(name=name, **sections)
    for item in fields(Images):
        registry = f"{environment.account.id}.dkr.ecr.{environment.account.region}.amazonaws.com/"
        if not getattr(environment.images, item.name).startswith(registry):
            raise InvalidEnvironment(f"{path.name}: images.{item.name.rstrip('_')} does not lie in {registry}")
    needed = environment.data.shards * PARALLEL
    if environment.stream.concurrency < needed:
        raise InvalidEnvironment(
            f"{path.name}: stream.concurrency={environment.stream.concurrency} holds {environment.data.shards} shards "
            f"back; each takes {PARALLEL} batches at a time, so it has to be {needed} or more"
        )
    return environment


def _section(file: str, section: str, kind: type[Any], content: dict[str, Any]) -> Any:
    names = {item.name.rstrip("_"): item.name for item in fields(kind)}
    if content.keys() != names.keys():
        odd = sorted(content.keys() ^ names.keys())
        raise InvalidEnvironment(f"{file}: {section}.{odd[0]} is missing or unknown")
    return kind(**{names[key]: _value(file, f"{section}.{key}", value) for key, value in content.items()})


def _value(file: str, key: str, value: Any) -> Any:
    if key in _NUMBERS:
        low, high = _NUMBERS[key]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidEnvironment(f"{file}: {key}={value!r} is no whole number in {low}..{high}")
        return value
    if key == "hosting.instance_types":
        if not (isinstance(value, list) and 1 <= len(value) <= 5 and all(_is(r"ml\.[a-z0-9.-]+", v) for v in value)):
            raise InvalidEnvironment(f"{file}: {key}={value!r} is no list of one to five types such as 'ml.c7i.large'")
        return tuple(value)
    if not _is(_TEXTS.get(key, _IMAGE), value):
        raise InvalidEnvironment(f"{file}: {key}={value!r} does not match {_TEXTS.get(key, _IMAGE)}")
    return value


def _is(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None
