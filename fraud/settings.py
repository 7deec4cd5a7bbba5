"""Settings: what differs between two deployments, read once at the entry point, every number bounded.

They come from environment variables named ``TOLLGATE_<FIELD>``; an unknown one is refused, because a typing mistake in
a limit is otherwise found on a bad day. Windows, feature names and reason codes are code, not settings.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from fraud.errors import InvalidSetting

PREFIX: Final = "TOLLGATE_"

SHORTEST_TTL_S: Final = 31 * 86_400
"""The longest window, and the day by which a read may lie in the past."""

S3_ADDRESS: Final = r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/([^/\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,900})"
"""An object, or a folder when it ends with a slash; groups are bucket and key."""


def _bounded(default: float, low: float, high: float) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class Secret:
    """A value that never shows itself."""

    value: str = field(repr=False, default="")

    def __str__(self) -> str:
        return "********" if self.value else ""


@dataclass(frozen=True)
class Settings:
    """One deployment.

    Parameters
    ----------
    environment
        ``local`` or ``aws``: chooses ``feature_repo/feature_store.<environment>.yaml``.
    currency
        The one currency of this deployment, ISO 4217.
    project
        Feast project; part of every online key.
    online_store
        ``redis`` or ``dynamodb``: where the stream keeps states and the scorer reads them.
    redis_host, redis_port
        The online store, when it is Redis; of a cluster any node, or its configuration endpoint.
    redis_cluster
        Whether keys are spread over nodes by slot.
    redis_key_ttl_s
        Seconds after which Redis forgets an entity that nobody writes: at least 31 days, so that no window is cut
        short, or 0 for never. Every write renews it, whoever makes it.
    redis_tls, redis_ca_file
        Whether to speak TLS, with certificate and host name verified; the authority's certificate, empty for the
        system's own authorities.
    redis_username, redis_password
        Who we are; empty for the default user, and for no password.
    redis_password_file, redis_password_secret
        Where the password is kept instead: a file, or a secret of AWS Secrets Manager (ARN or name).
    region, aws_endpoint
        AWS region; another endpoint than Amazon's, for an emulator on loopback.
    stream, bucket
        Kinesis stream of transactions; bucket of transactions, labels, decisions, models and dead letters.
    bind_host, bind_port
        Where the scorer listens.
    workers
        Processes that serve; 0 for one per core, as the image has it.
    model_dir
        Where the bundle lies; SageMaker puts it in ``/opt/ml/model``.
    shadow_dir
        Where a challenger's bundle lies that scores along and decides nothing; empty for none ever.
    bundle_key_file
        Key that every bundle must be signed with; empty to check digests only.
    decision_log, decision_log_mb
        Directory of the decision log, empty for none; most of it kept there, in MB, the oldest files go first.
    decision_stream
        Firehose delivery stream that takes every decision; empty for none.
    request_budget_ms
        From the arrival of a request to its answer; what waits too long for the online store is decided without it.
    most_connections
        Open connections of clients, of one process; more are refused.
    store_timeout_ms
        Longest wait for the online store in one request; seven tenths of the budget are never exceeded.
    stale_after_s
        Age at which a batch profile is reported stale.
    velocity_stale_after_s
        How long a scored payment may take to appear in its merchant's state before velocity is not trusted any more.
    lists
        File or folder of allow and block lists, also ``s3://bucket/key`` or ``s3://bucket/folder/`` of the region;
        empty for none.
    write_through
        1: the scorer applies each transaction to the states it has just read, ahead of the stream. Needs a store
        credential that may write; 0 stays read-only.
    metrics
        ``prometheus`` (``/metrics``), ``emf`` (CloudWatch's embedded metric format on stdout) or ``both``.
    """

    environment: str = "local"
    currency: str = "EUR"
    project: str = "fraud"
    online_store: str = "redis"
    redis_host: str = "127.0.0.1"
    redis_port: int = _bounded(6379, 1, 65535)
    redis_cluster: bool = False
    redis_key_ttl_s: int = _bounded(0, 0, 315_360_000)
    redis_tls: bool = False
    redis_ca_file: str = ""
    redis_username: str = ""
    redis_password: Secret = field(default_factory=Secret)
    redis_password_file: str = ""
    redis_password_secret: str = ""
    region: str = "eu-west-1"
    aws_endpoint: str = ""
    stream: str = "transactions"
    bucket: str = "tollgate"
    bind_host: str = "127.0.0.1"
    bind_port: int = _bounded(8080, 1, 65535)
    workers: int = _bounded(1, 0, 256)
    model_dir: str = "/opt/ml/model"
    bundle_key_file: str = ""
    shadow_dir: str = ""
    decision_log: str = ""
    decision_log_mb: int = _bounded(10_240, 128, 10_485_760)
    decision_stream: str = ""
    request_budget_ms: int = _bounded(50, 5, 60_000)
    most_connections: int = _bounded(2048, 8, 65_536)
    store_timeout_ms: int = _bounded(30, 1, 10_000)
    stale_after_s: int = _bounded(172_800, 1, 31_536_000)
    velocity_stale_after_s: int = _bounded(3600, 1, 31_536_000)
    lists: str = ""
    write_through: int = _bounded(0, 0, 1)
    metrics: str = "prometheus"


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings in ``environ``; variables without the prefix are not ours.

    Raises
    ------
    InvalidSetting
        An unknown name, a number that is none or out of bounds, or an unknown environment or online store.

    Examples
    --------
    >>> read_settings({"TOLLGATE_REDIS_PORT": "7000"}).redis_port
    7000
    """
    known = {PREFIX + item.name.upper(): item for item in fields(Settings)}
    values: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name in _NOT_SETTINGS:
            continue
        if name not in known:
            raise InvalidSetting(f"{name} is no setting; known are {', '.join(sorted(known))}")
        item = known[name]
        if "low" in item.metadata:
            values[item.name] = _whole(name, text, item.metadata["low"], item.metadata["high"])
        elif item.type is bool:
            values[item.name] = _truth(name, text)
        else:
            values[item.name] = Secret(text) if item.type is Secret else text
    settings = Settings(**values)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    if settings.environment not in ("local", "aws"):
        raise InvalidSetting(f"{PREFIX}ENVIRONMENT={settings.environment!r} is neither 'local' nor 'aws'")
    if settings.online_store not in ("redis", "dynamodb"):
        raise InvalidSetting(f"{PREFIX}ONLINE_STORE={settings.online_store!r} is neither 'redis' nor 'dynamodb'")
    if settings.write_through and settings.online_store != "redis":
        raise InvalidSetting(f"{PREFIX}WRITE_THROUGH=1 needs Redis; on DynamoDB states are left to the stream")
    if 0 < settings.redis_key_ttl_s < SHORTEST_TTL_S:
        raise InvalidSetting(
            f"{PREFIX}REDIS_KEY_TTL_S={settings.redis_key_ttl_s} would cut windows short; set 0 or {SHORTEST_TTL_S}+"
        )
    if settings.metrics not in ("prometheus", "emf", "both"):
        raise InvalidSetting(f"{PREFIX}METRICS={settings.metrics!r} is none of 'prometheus', 'emf', 'both'")
    if settings.lists.startswith("s3:") and not re.fullmatch(S3_ADDRESS, settings.lists):
        raise InvalidSetting(f"{PREFIX}LISTS={settings.lists!r} is neither s3://bucket/key nor s3://bucket/folder/")
    code = settings.currency
    if not (len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()):
        raise InvalidSetting(f"{PREFIX}CURRENCY={code!r} is no ISO 4217 code such as 'EUR'")
    _check_access(settings)


def _check_access(settings: Settings) -> None:
    places = (bool(settings.redis_password.value), settings.redis_password_file, settings.redis_password_secret)
    if sum(map(bool, places)) > 1:
        names = " and ".join(f"{PREFIX}REDIS_PASSWORD{end}" for end in ("", "_FILE", "_SECRET"))
        raise InvalidSetting(f"of {names} only one may be set")
    if settings.redis_username and not any(places):
        raise InvalidSetting(f"{PREFIX}REDIS_USERNAME={settings.redis_username!r} needs a password")
    if settings.redis_ca_file and not settings.redis_tls:
        raise InvalidSetting(f"{PREFIX}REDIS_CA_FILE={settings.redis_ca_file!r} needs {PREFIX}REDIS_TLS=true")


_NOT_SETTINGS: Final = frozenset({PREFIX + "DATA"})  # where the tests look for public data sets


def _truth(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidSetting(f"{name}={text!r} is neither 'true' nor 'false'")
    return text == "true"


def _whole(name: str, text: str, low: float, high: float) -> int:
    try:
        value = int(text)
    except ValueError:
        raise InvalidSetting(f"{name}={text!r} is not a whole number") from None
    if not low <= value <= high:
        raise InvalidSetting(f"{name}={value} is not in {low:g}..{high:g}")
    return value
