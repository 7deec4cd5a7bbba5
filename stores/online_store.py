"""Feast's Redis online store with guarded writes: an older value never replaces a newer one.

Registered by its dotted path: ``online_store: {type: stores.online_store.GuardedRedisOnlineStore}``. Rows stand in
Feast's own layout and are read by Feast's own code. A view whose batch source is tagged ``velocity`` is written only
over a smaller revision, any other only when its event time is not older; comparison and write are one atomic script
(:mod:`stores.guards`). Connections give up after seconds instead of hanging and never send a command twice, unless the
connection string says otherwise.
"""

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig, RedisType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import make_tzaware

from stores.errors import InvalidStoreConfig
from stores.guards import RAISE_STATE, RAISE_TIME
from stores.layout import encode_moment, feature_field, timestamp_field
from stores.tags import tagged_entity

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""What Feast hands over: key, values, event time, created time."""

PATIENCE: Final[Mapping[str, Any]] = {"socket_timeout": 5, "socket_connect_timeout": 2, "retry": None}
"""Connection parameters unless the connection string has its own."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

BATCH: Final = 2_000
"""Rows sent at a time."""


class GuardedRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Configuration of :class:`GuardedRedisOnlineStore`: that of Feast's Redis store.

    ``${NAME:-default}`` in the connection string stands for an environment variable. What would take the guards away
    (``skip_dedup``) or break the scripts (a cluster) is refused.
    """

    type: Literal["stores.online_store.GuardedRedisOnlineStore"] = "stores.online_store.GuardedRedisOnlineStore"  # type: ignore[assignment]  # Feast's own is "redis"
    connection_string: str = "${TOLLGATE_REDIS_HOST:-127.0.0.1}:${TOLLGATE_REDIS_PORT:-6379}"

    def model_post_init(self, _context: Any) -> None:
        """Raise :class:`InvalidStoreConfig` for what this store does not do."""
        if self.skip_dedup:
            raise InvalidStoreConfig("skip_dedup would let older values win; leave it out")
        if self.redis_type == RedisType.redis_cluster:
            raise InvalidStoreConfig("a Redis cluster refuses scripts in pipelines; use redis or redis_sentinel")


def expand_variables(text: str, environ: Mapping[str, str]) -> str:
    """Return ``text`` with each ``${NAME:-default}`` and ``${NAME}`` replaced by the variable or the default.

    Raises
    ------
    InvalidStoreConfig
        A variable without a default is not set.

    Examples
    --------
    >>> expand_variables("${HOST:-127.0.0.1}:${PORT:-6379}", {"PORT": "7000"})
    '127.0.0.1:7000'
    """

    def replace(match: re.Match[str]) -> str:
        name, default = match[1], match[3]
        if name not in environ and default is None:
            raise InvalidStoreConfig(f"{text!r} needs the environment variable {name}")
        return environ.get(name, default)

    return re.sub(r"\$\{(\w+)(:-([^}]*))?\}", replace, text)


class GuardedRedisOnlineStore(RedisOnlineStore):
    """Redis, written by compare-and-set."""

    _scripts: dict[str, Any] | None = None

    @staticmethod
    def _parse_connection_string(connection_string: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
        text = expand_variables(connection_string, os.environ)
        nodes, parameters = RedisOnlineStore._parse_connection_string(text)  # noqa: SLF001 - the method it replaces
        return nodes, {**PATIENCE, **parameters}

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows that are newer than what is stored, each by one atomic script.

        Parameters
        ----------
        data
            Key, values, event time and created time of each row; of several rows of a key the newest stays.
        progress
            Called with the number of rows that were looked at.

        Raises
        ------
        InvalidStoreConfig
            A velocity row carries no revision.
        """
        client = self._get_client(config.online_store)
        lifetime = config.online_store.key_ttl_seconds
        script, guard, stamp = self._guard(client, table)
        for start in range(0, len(data), BATCH):
            batch = data[start : start + BATCH]
            keys = [_redis_key(config, key) for key, _, _, _ in batch]
            with client.pipeline(transaction=False) as pipe:
                for key, (_, values, time, _) in zip(keys, batch, strict=True):
                    script(keys=[key], args=_arguments(table.name, guard, stamp, values, time), client=pipe)
                taken = pipe.execute()
            if lifetime:
                with client.pipeline(transaction=False) as pipe:
                    for key, written in zip(keys, taken, strict=True):
                        if written:
                            pipe.expire(key, lifetime)
                    pipe.execute()
            if progress is not None:
                progress(len(batch))

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write as :meth:`online_write_batch` does, in a thread."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    def _guard(self, client: Any, table: FeatureView) -> tuple[Any, str, bytes]:
        """Return the script of a view, the feature that guards it (empty: its event time) and its time field."""
        if self._scripts is None:
            self._scripts = {name: client.register_script(name) for name in (RAISE_STATE, RAISE_TIME)}
        source = table.batch_source
        entity = None if source is None else tagged_entity(source.tags)
        stamp = timestamp_field(table.name)
        if entity is None:
            return self._scripts[RAISE_TIME], "", stamp
        return self._scripts[RAISE_STATE], f"{entity}_revision", stamp


def _arguments(view: str, guard: str, stamp: bytes, values: Mapping[str, Value], time: datetime) -> list[bytes]:
    moment = encode_moment((make_tzaware(time) - _EPOCH) // timedelta(microseconds=1))
    pairs = [part for name, value in values.items() for part in (feature_field(view, name), value.SerializeToString())]
    if not guard:
        return [stamp, moment, *pairs]
    revision = values[guard].SerializeToString() if guard in values else b""
    if not revision:
        raise InvalidStoreConfig(f"a row of {view} carries no {guard}; push the state with the revision that made it")
    return [feature_field(view, guard), revision, *pairs, stamp, moment]


def _redis_key(config: RepoConfig, key: EntityKey) -> bytes:
    serialised: bytes = serialize_entity_key(key, config.entity_key_serialization_version)
    return serialised + config.project.encode()
