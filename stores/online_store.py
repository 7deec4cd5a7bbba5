"""Feast's Redis online store with guarded writes: an older value never replaces a newer one.

Registered by its dotted path: ``online_store: {type: stores.online_store.GuardedRedisOnlineStore}``. Rows stand in
Feast's own layout and are read by Feast's own code. A view whose batch source is tagged ``velocity`` is written only
over a smaller revision that is not newer, and joined with one that is (:mod:`stores.joining`); any other only when its
event time is not older. Comparison and write are one atomic script (:mod:`stores.guards`), also on a cluster.
Connections give up after seconds instead of hanging and never send a command twice, unless the connection string says
otherwise.
"""

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final, Literal

from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig, RedisType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import make_tzaware

from fraud.settings import read_settings
from fraud.windows import Entity as VelocityEntity
from stores.access import redis_access
from stores.encoded_columns import EncodedColumns
from stores.errors import InvalidStoreConfig
from stores.guards import RAISE_STATE, RAISE_TIME, state_view
from stores.joining import counted, join_rows
from stores.layout import encode_moment, feature_field, timestamp_field
from stores.scripts import GuardedRows, write_rows
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

    ``${NAME:-default}`` in the connection string stands for an environment variable. TLS, user and password come from
    the settings (``TOLLGATE_REDIS_TLS``, ``..._PASSWORD_FILE`` and so on) unless the connection string has its own, and
    so do ``redis_type: redis_cluster`` (``TOLLGATE_REDIS_CLUSTER``) and ``key_ttl_seconds``
    (``TOLLGATE_REDIS_KEY_TTL_S``), of which the stream must know. What would take the guards away
    (``skip_dedup``) is refused.
    """

    type: Literal["stores.online_store.GuardedRedisOnlineStore"] = "stores.online_store.GuardedRedisOnlineStore"  # type: ignore[assignment]  # Feast's own is "redis"
    connection_string: str = "${TOLLGATE_REDIS_HOST:-127.0.0.1}:${TOLLGATE_REDIS_PORT:-6379}"

    def model_post_init(self, _context: Any) -> None:
        """Raise :class:`InvalidStoreConfig` for what this store does not do."""
        if self.skip_dedup:
            raise InvalidStoreConfig("skip_dedup would let older values win; leave it out")
        settings = read_settings(os.environ)
        if self.redis_type == RedisType.redis and settings.redis_cluster:
            self.redis_type = RedisType.redis_cluster
        if (self.key_ttl_seconds or settings.redis_key_ttl_s) != settings.redis_key_ttl_s:
            raise InvalidStoreConfig("key_ttl_seconds: set TOLLGATE_REDIS_KEY_TTL_S, which the stream renews too")
        self.key_ttl_seconds = settings.redis_key_ttl_s or None


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

    @staticmethod
    def _parse_connection_string(connection_string: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
        text = expand_variables(connection_string, os.environ)
        nodes, parameters = RedisOnlineStore._parse_connection_string(text)  # noqa: SLF001 - the method it replaces
        if "password" in parameters:
            parameters["password"] = str(parameters["password"])  # Feast reads digits as a number
        access = redis_access(read_settings(os.environ))
        return nodes, {**PATIENCE, **access.client_options(), **parameters}

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows that are newer than what is stored, each compared and written at once.

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
        for start in range(0, len(data), BATCH):
            batch = data[start : start + BATCH]
            for names, alike in groupby(batch, lambda row: tuple(row[1])):
                self.online_write_columns(config, table, _columns(config, names, list(alike)))
            if progress is not None:
                progress(len(batch))

    def online_write_columns(self, config: RepoConfig, table: FeatureView, columns: EncodedColumns) -> None:
        """Write as :meth:`online_write_batch` does, rows that are serialised already.

        Raises
        ------
        InvalidStoreConfig
            A velocity row carries no revision.
        """
        source = table.batch_source
        entity = None if source is None else tagged_entity(source.tags)
        script, rows = _guarded_rows(config.project, table, columns, entity)
        lifetime, client = config.online_store.key_ttl_seconds or 0, self._get_client(config.online_store)
        newer = write_rows(client, script, rows, lifetime)
        if newer and entity is not None:
            states, revisions = (columns.features[f"{entity}_{part}"] for part in ("state", "revision"))
            batch = [(rows.keys[place], counted(states[place], revisions[place])) for place in newer]
            join_rows(client, entity, state_view(entity, table.name), batch, lifetime)

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write as :meth:`online_write_batch` does, in a thread."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)


def _columns(config: RepoConfig, names: tuple[str, ...], rows: Sequence[Row]) -> EncodedColumns:
    """Return rows that hold the same features, serialised."""
    version = config.entity_key_serialization_version
    return EncodedColumns(
        [serialize_entity_key(key, version) for key, _, _, _ in rows],
        [encode_moment((make_tzaware(time) - _EPOCH) // timedelta(microseconds=1)) for _, _, time, _ in rows],
        {name: [values[name].SerializeToString() for _, values, _, _ in rows] for name in names},
    )


def _guarded_rows(
    project: str, table: FeatureView, columns: EncodedColumns, entity: VelocityEntity | None
) -> tuple[str, GuardedRows]:
    """Return the script of a view and its rows, what guards them first."""
    suffix = project.encode()
    fields = {feature_field(table.name, name): column for name, column in columns.features.items()}
    stamp = {timestamp_field(table.name): columns.times}
    if entity is not None:
        guard = f"{entity}_revision"
        revisions = columns.features.get(guard, [b""])
        if not all(revisions):
            raise InvalidStoreConfig(
                f"a row of {table.name} carries no {guard}; push the state with the revision that made it"
            )
        fields = {feature_field(table.name, guard): revisions} | stamp | fields
    else:
        fields = stamp | fields
    keys = [key + suffix for key in columns.keys]
    values = list(zip(*fields.values(), strict=True))
    return RAISE_TIME if entity is None else RAISE_STATE, GuardedRows(tuple(fields), keys, values)
