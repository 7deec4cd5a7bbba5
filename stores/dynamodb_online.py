"""An online store for Feast in DynamoDB with guarded writes: an older value never replaces a newer one.

Registered by its dotted path: ``online_store: {type: stores.dynamodb_online.GuardedDynamoDBOnlineStore}``. Items stand
in the layout of Feast's own DynamoDB store, whose reads find them. That store itself is not built upon: it puts
unconditionally, so that a late batch wins; it takes keys that a busy service left unanswered for absent; it asks for
one view after the other; it waits without bound; and its import needs a second, asynchronous AWS library that pins
botocore to old versions.

Here a view whose batch source is tagged ``velocity`` is written only over a smaller revision that is not newer, and
joined with one that is; any other only when its event time is not older. Each row is one conditional put; and one
request reads all views of a question.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from feast import Entity, FeatureView, RepoConfig, utils
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel

from fraud.windows import Entity as VelocityEntity
from stores.dynamodb_joining import join_items
from stores.dynamodb_layout import ID, REVISION, TIME, VALUES, Item, Put, hashed_id, item, raise_state, raise_time
from stores.dynamodb_layout import table_name as name_of
from stores.dynamodb_tables import Tables, Wanted, connect_tables
from stores.errors import InvalidStoreConfig
from stores.online_store import Row, expand_variables
from stores.tags import tagged_entity

Found = tuple[datetime | None, dict[str, Value] | None]
"""What Feast is told of one entity: event time and values, both null when there is no item."""

ATTEMPTS: Final = 3
"""How often a request is sent whose answer is lost. A guarded write that is repeated changes nothing."""

MOST_WORKERS: Final = 64

BATCH: Final = 500
"""Rows between two reports of progress."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class GuardedDynamoDBOnlineStoreConfig(FeastConfigBaseModel):
    """Configuration of :class:`GuardedDynamoDBOnlineStore`.

    ``${NAME:-default}`` in region and endpoint stands for an environment variable. Tables are always named
    ``{project}.{view}``: the stream and the scorer, which know no configuration of Feast's, find them by it.

    Parameters
    ----------
    region
        AWS region.
    endpoint_url
        Another endpoint than Amazon's; empty for Amazon's.
    consistent_reads
        Whether an acknowledged write is always seen; without, a read costs half.
    workers
        Requests under way at a time, 1 to 64.
    """

    type: Literal["stores.dynamodb_online.GuardedDynamoDBOnlineStore"] = (
        "stores.dynamodb_online.GuardedDynamoDBOnlineStore"
    )
    region: str = "${TOLLGATE_REGION:-eu-west-1}"
    endpoint_url: str = "${TOLLGATE_AWS_ENDPOINT:-}"
    consistent_reads: bool = True
    workers: int = 16

    def model_post_init(self, _context: Any) -> None:
        """Raise :class:`InvalidStoreConfig` for a number out of bounds."""
        if not 1 <= self.workers <= MOST_WORKERS:
            raise InvalidStoreConfig(f"workers: {self.workers} is not in 1..{MOST_WORKERS}")


class GuardedDynamoDBOnlineStore(OnlineStore):
    """DynamoDB, written by conditional puts."""

    def __init__(self) -> None:
        super().__init__()
        self._tables: Tables | None = None
        self._opening = threading.Lock()

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Reads and writes both have an asynchronous form, in a thread."""
        return SupportedAsyncMethods(read=True, write=True)

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows that are newer than what is stored, each by one conditional put.

        Parameters
        ----------
        data
            Key, values, event time and created time of each row; of several rows of a key the newest stays.
        progress
            Called with the number of rows that were looked at.

        Raises
        ------
        InvalidStoreConfig
            A velocity row carries no revision. Nothing was written.
        StoreUnavailable
            The service did not take a row. Earlier ones were written; all may be written again.
        """
        tables, entity = self._connected(config), _velocity_of(table)
        puts = _puts(config, table, data, entity)
        for start in range(0, len(data), BATCH):
            some = puts[start : start + BATCH]
            taken = tables.put(some)
            left = [put["Item"] for put, written in zip(some, taken, strict=True) if not written]
            if left and entity is not None:
                join_items(tables, entity, _table_name(config, table), left)
            if progress is not None:
                progress(min(BATCH, len(data) - start))

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write as :meth:`online_write_batch` does, in a thread."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[Found]:
        """Return what is held of each entity in one view, in order.

        Raises
        ------
        StoreUnavailable
            The service did not answer for every key.
        """
        (found,) = self._read(config, [(table, entity_keys, requested_features)])
        return found

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[Found]:
        """Read as :meth:`online_read` does, in a thread."""
        return await asyncio.to_thread(self.online_read, config, table, entity_keys, requested_features)

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],  # noqa: ARG002 - entities have no tables
        entities_to_keep: Sequence[Entity],  # noqa: ARG002
        partial: bool,  # noqa: ARG002, FBT001
    ) -> None:
        """Create the tables that are missing, leave those that exist as they are, and delete those of dropped views.

        Raises
        ------
        InvalidStoreConfig
            A table is missing and may not be created here.
        """
        tables = self._connected(config)
        tables.create([_table_name(config, view) for view in tables_to_keep])
        tables.delete([_table_name(config, view) for view in tables_to_delete])

    def teardown(
        self,
        config: RepoConfig,
        tables: Sequence[FeatureView],
        entities: Sequence[Entity],  # noqa: ARG002 - entities have no tables
    ) -> None:
        """Delete the tables of views; one that is gone already is no error."""
        self._connected(config).delete([_table_name(config, view) for view in tables])

    async def close(self) -> None:
        """End its threads and connections."""
        with self._opening:
            tables, self._tables = self._tables, None
        if tables is not None:
            tables.close()

    def _read_features_per_fv(
        self,
        config: RepoConfig,
        grouped_refs: list[tuple[FeatureView, list[str]]],
        join_key_values: dict[str, Any],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: Any,
        full_feature_names: bool,  # noqa: FBT001
        include_feature_view_version_metadata: bool,  # noqa: FBT001
    ) -> None:
        """Read all views of a question together, where Feast would ask for one after the other."""
        unique = [
            utils._get_unique_entities(view, join_key_values, entity_name_to_join_key_map)  # noqa: SLF001 - as Feast's
            for view, _ in grouped_refs
        ]
        questions = [
            (view, utils._get_entity_key_protos(entities), features)  # noqa: SLF001 - as Feast's own stores do
            for (view, features), (entities, _, _) in zip(grouped_refs, unique, strict=True)
        ]
        answers = self._read(config, questions)
        for (view, features), (_, places, count), rows in zip(grouped_refs, unique, answers, strict=True):
            utils._populate_response_from_feature_data(  # noqa: SLF001 - as Feast's own stores do
                features,
                rows,
                places,
                online_features_response,
                full_feature_names,
                view,
                count,
                include_feature_view_version_metadata,
            )

    async def _read_features_per_fv_async(self, *arguments: Any, **named: Any) -> None:
        await asyncio.to_thread(self._read_features_per_fv, *arguments, **named)

    def _read(
        self, config: RepoConfig, questions: Sequence[tuple[FeatureView, Sequence[EntityKey], Sequence[str] | None]]
    ) -> list[list[Found]]:
        places: list[list[tuple[str, str]]] = []
        wanted: dict[str, dict[str, None]] = {}
        for view, keys, features in questions:
            name = _table_name(config, view)
            places.append([(name, _key(config, key)) for key in keys])
            wanted.setdefault(name, {}).update(dict.fromkeys(features or [field.name for field in view.features]))
        asked = [
            Wanted(name, [key for some in places for table, key in some if table == name], tuple(features))
            for name, features in wanted.items()
        ]
        found = self._connected(config).read(asked)
        return [[_found(found.get(place)) for place in some] for some in places]

    def _connected(self, config: RepoConfig) -> Tables:
        with self._opening:
            if self._tables is None:
                options = config.online_store
                region, endpoint = (expand_variables(t, os.environ) for t in (options.region, options.endpoint_url))
                self._tables = connect_tables(
                    region,
                    endpoint,
                    workers=options.workers,
                    attempts=ATTEMPTS,
                    consistent=options.consistent_reads,
                )
            return self._tables


def _velocity_of(table: FeatureView) -> VelocityEntity | None:
    """Return whose velocity a view holds; null for an ordinary one."""
    source = table.batch_source
    return None if source is None else tagged_entity(source.tags)


def _puts(config: RepoConfig, table: FeatureView, data: Sequence[Row], entity: VelocityEntity | None) -> list[Put]:
    """Return one guarded put for each key: side by side, two of one key would have no order."""
    name = _table_name(config, table)
    newest: dict[str, Item] = {}
    for key, values, time, _ in data:
        time_us = (utils.make_tzaware(time) - _EPOCH) // timedelta(microseconds=1)
        serialised = {feature: value.SerializeToString() for feature, value in values.items()}
        revision = None if entity is None else _revision(table.name, f"{entity}_revision", values)
        made = item(_key(config, key), serialised, time_us, revision)
        held = newest.get(made[ID]["S"])
        if held is None or _wins(made, held):
            newest[made[ID]["S"]] = made
    guarded = raise_time if entity is None else raise_state
    return [guarded(name, made) for made in newest.values()]


def _wins(made: Item, held: Item) -> bool:
    """Return what the guard would say of ``made`` after ``held``."""
    if REVISION in made:
        return int(made[REVISION]["N"]) > int(held[REVISION]["N"])
    newer: bool = made[TIME]["S"] >= held[TIME]["S"]
    return newer


def _revision(view: str, feature: str, values: Mapping[str, Value]) -> int:
    value = values.get(feature)
    if value is None or value.WhichOneof("val") != "int64_val":
        raise InvalidStoreConfig(f"a row of {view} carries no {feature}; push the state with the revision that made it")
    return int(value.int64_val)


def _found(held: Item | None) -> Found:
    if held is None:
        return None, None
    values = {}
    for feature, data in held.get(VALUES, {"M": {}})["M"].items():
        values[feature] = Value()
        values[feature].ParseFromString(data["B"])
    return utils.make_tzaware(datetime.fromisoformat(held[TIME]["S"])), values


def _table_name(config: RepoConfig, view: FeatureView) -> str:
    return name_of(config.project, compute_versioned_name(view, config.registry.enable_online_feature_view_versioning))


def _key(config: RepoConfig, key: EntityKey) -> str:
    return hashed_id(serialize_entity_key(key, config.entity_key_serialization_version))
