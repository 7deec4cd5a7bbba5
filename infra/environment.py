"""One environment: what differs between two deployments, read from ``infra/environments/<name>.toml``."""

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from fraud.scaling import ScalingPlan
from fraud.settings import PREFIX, Settings
from infra.catalogue import unfit_region
from infra.errors import InvalidEnvironment
from infra.names import plain_name, repository_name
from infra.scaling_plan import read_plan
from infra.values import table, text, types, whole

FOLDER: Final = Path(__file__).parent / "environments"
PARALLEL: Final = 4
"""Batches of one shard at a time; each entity's records stay in order."""

READS_PERCENT: Final = 70
"""Share of a request's budget after which the scorer reads nothing any more."""

_NAME: Final = "[a-z]{2,8}"
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
        ``production`` for scaling with the peaks of the file; ``small`` for its limits alone, whatever peaks it names.
    """

    instance_types: tuple[str, ...]
    instances: int
    canary_percent: int
    bake_s: int
    plan: str


@dataclass(frozen=True)
class Scorer:
    """How long the container may take: of its settings (:class:`fraud.settings.Settings`) those that differ here."""

    request_budget_ms: int
    store_timeout_ms: int

    def settings(self) -> dict[str, str]:
        """Return them as the container is told.

        Examples
        --------
        >>> Scorer(request_budget_ms=50, store_timeout_ms=30).settings()
        {'TOLLGATE_REQUEST_BUDGET_MS': '50', 'TOLLGATE_STORE_TIMEOUT_MS': '30'}
        """
        return {PREFIX + item.name.upper(): str(getattr(self, item.name)) for item in fields(self)}


@dataclass(frozen=True)
class Environment:
    """One environment; ``scaling`` is what ``hosting.plan`` makes of the file's section."""

    name: str
    account: Account
    network: Network
    data: Data
    stream: Stream
    images: Images
    artifacts: Artifacts
    hosting: Hosting
    scorer: Scorer
    scaling: ScalingPlan

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
    "scorer": Scorer,
}
_SCALING: Final = "scaling"
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
    **{
        f"scorer.{item.name}": (item.metadata["low"], item.metadata["high"])
        for item in fields(Settings)
        if item.name in Scorer.__annotations__
    },
}
_IMAGE: Final = r"[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/[a-z0-9._/-]+@sha256:[0-9a-f]{64}"


def read_environment(name: str, folder: Path = FOLDER) -> Environment:
    """Return the environment of that name.

    Raises
    ------
    InvalidEnvironment
        There is no such file, it is no TOML in UTF-8, a key is unknown, missing or out of range, or what it names does
        not exist on AWS.
    """
    path = folder / f"{name}.toml"
    well_named = re.fullmatch(_NAME, name)
    if not well_named or not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.toml") if re.fullmatch(_NAME, file.stem)))
        rule = "" if well_named else "; a name is 2 to 8 letters a to z, as names on AWS take it"
        raise InvalidEnvironment(f"there is no environment {name!r}; known are {known}{rule}")
    content = _content(path)
    known_sections = [*_SECTIONS, _SCALING]
    odd = sorted(content.keys() ^ set(known_sections))
    if odd:
        raise InvalidEnvironment(
            f"{path.name}: section {odd[0]} is missing or unknown; known are {', '.join(known_sections)}"
        )
    sections = {key: _section(f"{path.name}: {key}", kind, content[key]) for key, kind in _SECTIONS.items()}
    with_peaks = sections["hosting"].plan == "production"
    plan = read_plan(f"{path.name}: {_SCALING}", content[_SCALING], with_peaks=with_peaks)
    environment = Environment(name=name, **sections, scaling=plan)
    _check(path.name, environment)
    return environment


def _content(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidEnvironment(
            f"{path.name}: the byte 0x{content[error.start]:02x} at position {error.start}, in line {line}, is not "
            "UTF-8; save the file as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidEnvironment(f"{path.name}: {error}") from None


def _check(file: str, environment: Environment) -> None:
    """Refuse a region that is none, and values that contradict each other."""
    unfit = unfit_region(environment.account.region)
    if unfit:
        raise InvalidEnvironment(
            f"{file}: account.region={environment.account.region!r} {unfit}; correct it, or take a newer boto3"
        )
    _check_images(file, environment)
    most = environment.scaling.limits.max_instances
    if environment.hosting.instances > most:
        raise InvalidEnvironment(
            f"{file}: hosting.instances={environment.hosting.instances} lies above scaling.max_instances={most}; "
            "lower it, or raise that"
        )
    needed = environment.data.shards * PARALLEL
    if environment.stream.concurrency < needed:
        raise InvalidEnvironment(
            f"{file}: stream.concurrency={environment.stream.concurrency} holds {environment.data.shards} shards "
            f"back; each takes {PARALLEL} batches at a time, so it has to be {needed} or more"
        )
    scorer = environment.scorer
    longest = scorer.request_budget_ms * READS_PERCENT // 100
    if scorer.store_timeout_ms > longest:
        raise InvalidEnvironment(
            f"{file}: scorer.store_timeout_ms={scorer.store_timeout_ms} is never reached: a request of "
            f"{scorer.request_budget_ms} ms reads for {longest} at most; lower it, or raise request_budget_ms"
        )


def _check_images(file: str, environment: Environment) -> None:
    """Refuse an image of another account, region, environment or kind: no role here may pull it."""
    account = environment.account
    for item in fields(Images):
        key = item.name.rstrip("_")
        repository = f"{account.id}.dkr.ecr.{account.region}.amazonaws.com/{repository_name(environment.name, key)}"
        given = getattr(environment.images, item.name).partition("@")[0]
        if given != repository:
            raise InvalidEnvironment(
                f"{file}: images.{key}={given!r} is not {repository}, where the roles of {environment.name} pull it "
                "from; push the image there and write that address with its digest"
            )


def _section(at: str, kind: type[Any], content: Any) -> Any:
    names = {item.name.rstrip("_"): item.name for item in fields(kind)}
    given = table(at, content, tuple(names))
    return kind(**{names[key]: _value(f"{at}.{key}", value) for key, value in given.items()})


def _value(at: str, value: Any) -> Any:
    key = at.rpartition(" ")[2]
    if key in _NUMBERS:
        return whole(at, value, *_NUMBERS[key])
    if key == "hosting.instance_types":
        return types(at, value)
    return text(at, value, _TEXTS.get(key, _IMAGE))
