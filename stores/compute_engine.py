"""Feast's materialization, watched and bounded: ``batch_engine: {type: stores.compute_engine.StreamingEngine}``.

Feast's local engine pulls a view whole, turns every value into a protobuf message, and reports no progress. Here the
pulled rows go to the online store some thousands at a time, encoded column by column into the very bytes that the
messages would have, and a bar moves with each batch. A store that takes columns (:mod:`stores.encoded_columns`) gets
columns, any other gets rows. While one batch is written the next is encoded.

Nothing is deleted or marked meanwhile: each row is replaced by one guarded write, so a reader finds the old or the new
values, never none. A run that was killed is simply started again: rows it has written already are refused as not newer
(or written again with the same bytes), the others follow; Feast notes the interval as materialized only at the end.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal

from feast import FeatureView
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.backends.pandas_backend import PandasBackend
from feast.infra.compute_engines.local.compute import LocalComputeEngine, LocalComputeEngineConfig
from feast.infra.compute_engines.local.feature_builder import LocalFeatureBuilder
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.type_map import python_values_to_proto_values

from stores.encoded_columns import ENCODED, TakesColumns, encode_columns, key_messages
from stores.errors import UnreadableSource
from stores.layout import encode_value
from stores.view_join import source_of

ROWS: Final = 10_000
"""Rows handed to the online store at a time, unless ``online_write_batch_size`` says otherwise."""


class StreamingEngineConfig(LocalComputeEngineConfig):
    """Configuration of :class:`StreamingEngine`: nothing but its name."""

    type: Literal["stores.compute_engine.StreamingEngine"] = "stores.compute_engine.StreamingEngine"  # type: ignore[assignment]  # Feast's own is "local"


class EncodedValue:
    """A value as an online store takes it, serialised already.

    It has as much of the message ``feast.types.Value`` as online stores use.
    """

    __slots__ = ("_data", "int64_val")

    def __init__(self, value: Any) -> None:
        self._data = encode_value(value)
        self.int64_val = value if isinstance(value, int) and not isinstance(value, bool) else 0

    def SerializeToString(self) -> bytes:  # noqa: N802 - the message's own method
        """Return the message's bytes."""
        return self._data

    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802 - the message's own method
        """Return which kind of value it is, as far as a revision is told from others."""
        if not self._data:
            return None
        return "int64_val" if self._data[0] == encode_value(0)[0] else "other"


class StreamingEngine(LocalComputeEngine):
    """Writes pulled rows to the online store batch by batch."""

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        view = task.feature_view
        name = f"{view.name}-{task.start_time}-{task.end_time}"
        if getattr(view, "feature_transformation", None) is not None or not view.online or view.offline:
            job: LocalMaterializationJob = super()._materialize_one(registry, task, **kwargs)
            return job
        try:
            self._write(registry, task)
        except Exception as error:  # noqa: BLE001 - Feast raises what a job carries
            return LocalMaterializationJob(name, MaterializationJobStatus.ERROR, error)
        return LocalMaterializationJob(name, MaterializationJobStatus.SUCCEEDED)

    def _write(self, registry: BaseRegistry, task: MaterializationTask) -> None:
        view, source = task.feature_view, source_of(task.feature_view)
        column = LocalFeatureBuilder(registry, task, PandasBackend()).get_column_info(view)
        renamed = column.field_mapping or {}
        settings = self.repo_config.materialization_config
        pull = (
            self.offline_store.pull_latest_from_table_or_query
            if settings.pull_latest_features
            else self.offline_store.pull_all_from_table_or_query
        )
        job = pull(
            config=self.repo_config,
            data_source=source,
            join_key_columns=column.join_keys,
            feature_name_columns=column.feature_cols,
            timestamp_field=column.ts_col,
            created_timestamp_column=column.created_ts_col,
            start_date=task.start_time,
            end_date=task.end_time,
        )
        tables = job.tables() if hasattr(job, "tables") else iter([job.to_arrow()])
        size = settings.online_write_batch_size or ROWS
        with _bar(task, getattr(tables, "rows", 0)) as advance, ThreadPoolExecutor(1) as pool:
            writing: Future[int] | None = None
            for table in tables:
                _refuse_nobody(source.name, table, column.join_keys)
                named = table.rename_columns([renamed.get(name, name) for name in table.column_names])
                for start in range(0, named.num_rows, size):
                    write = self._prepared(view, named.slice(start, size), column.timestamp_column)
                    if writing is not None:
                        advance(writing.result())
                    writing = pool.submit(write)
            if writing is not None:
                advance(writing.result())

    def _prepared(self, view: FeatureView, rows: Any, time: str) -> Callable[[], int]:
        """Return what writes some rows, encoded already, and tells how many there were."""
        config, store = self.repo_config, self.online_store
        write: Callable[[], None]
        if isinstance(store, TakesColumns):
            columns = encode_columns(rows, view, time, config.entity_key_serialization_version)
            write = partial(store.online_write_columns, config, view, columns)
        else:
            write = partial(store.online_write_batch, config, view, list(encoded_rows(rows, view, time)), None)

        def written() -> int:
            write()
            return int(rows.num_rows)

        return written


def _refuse_nobody(source: str, table: Any, keys: Sequence[str]) -> None:
    for name in keys:
        if name in table.column_names and table[name].null_count:
            raise UnreadableSource(
                f"source {source!r} holds {table[name].null_count} nulls in join key {name!r}; "
                "give each row its key, or leave it out of the source"
            )


@contextmanager
def _bar(task: MaterializationTask, rows: int) -> Iterator[Callable[[int], Any]]:
    """Show Feast's own progress bar while the block runs; give what moves it."""
    if task.tqdm_builder is None:
        yield lambda _count: None
        return
    with task.tqdm_builder(rows) as bar:
        yield bar.update


def encoded_rows(
    table: Any, view: FeatureView, time: str
) -> Iterator[tuple[EntityKey, dict[str, Any], datetime, datetime | None]]:
    """Yield rows as an online store takes them: key, values, event time and no created time.

    Parameters
    ----------
    table
        Arrow table of join keys, features and time.
    view
        Whose rows.
    time
        Name of the column of event times.
    """
    features = [field.name for field in view.features]
    columns = [_encoded(table[field.name], field.dtype) for field in view.features]
    keys = key_messages(table, [field.name for field in view.entity_columns])
    times = table[time].to_pylist()
    for key, moment, values in zip(keys, times, zip(*columns, strict=True), strict=True):
        yield key, dict(zip(features, values, strict=True)), moment, None


def _encoded(column: Any, dtype: Any) -> list[Any]:
    if dtype in ENCODED:
        return [EncodedValue(value) for value in column.cast(ENCODED[dtype]).to_pylist()]
    return list(python_values_to_proto_values(column.to_pylist(), dtype.to_value_type()))
