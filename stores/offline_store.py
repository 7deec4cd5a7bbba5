"""Feast's offline store over Parquet: joins as of a time, velocity from the transaction log, append-only writes.

Registered by its dotted path: ``offline_store: {type: stores.offline_store.AsOfOfflineStore}``. Every row asked about
comes back, in order, whatever its key, time or repetition. Times without a zone are UTC. Views are recognised by tags:

* a batch source tagged ``velocity: card`` (``device``, ``merchant``) is the transaction log; the view's state is what
  that log leaves behind, and ``feast materialize`` rebuilds the online store from it;
* an on-demand view tagged ``velocity: windows`` is evaluated from the log, at each row's own time;
* a view tagged ``pit: strict`` shows a row only to later questions, not to one of the same time.

``as_known: true`` and ``lag_ms: 2000`` beside ``type`` make every request see only what had arrived, see
:mod:`stores.as_known`.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView, RepoConfig
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel
from feast.utils import make_tzaware

from stores.appending import append_rows, fitted
from stores.as_known import AsKnown, asked_as_known
from stores.columns import microseconds
from stores.errors import InvalidEntityFrame, InvalidStoreConfig, UnsupportedRequest
from stores.files import Location, Span
from stores.history_request import HistoryRequest
from stores.offline_job import AsOfRetrievalJob
from stores.pull import Pull
from stores.tags import tagged_entity
from stores.velocity_slabs import MOST_ROWS
from stores.view_join import Rows, require_columns, source_of, stored_names, view_name


class AsOfOfflineStoreConfig(FeastConfigBaseModel):
    """Configuration of :class:`AsOfOfflineStore`.

    Parameters
    ----------
    as_known
        Whether every request for history sees a row only once it had arrived, see :mod:`stores.as_known`.
    lag_ms
        How long after its created time a row is there to be read, of requests as known.
    log_rows
        How many rows of the transaction log one request may hold in memory; a longer log is read in stretches.
    """

    type: Literal["stores.offline_store.AsOfOfflineStore"] = "stores.offline_store.AsOfOfflineStore"
    as_known: bool = False
    lag_ms: int = 0
    log_rows: int = MOST_ROWS

    def model_post_init(self, _context: Any) -> None:
        """Raise :class:`InvalidStoreConfig` for a number out of bounds."""
        if self.log_rows < 1:
            raise InvalidStoreConfig(f"log_rows: {self.log_rows} is not at least 1")
        if self.lag_ms < 0:
            raise InvalidStoreConfig(f"lag_ms: {self.lag_ms} is negative; nothing is known before it arrives")


class AsOfOfflineStore(OfflineStore):
    """Answers Feast from Parquet files and the transaction log."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,  # noqa: FBT001, FBT002 - Feast's signature
        **kwargs: Any,
    ) -> AsOfRetrievalJob:
        """Return a job whose answer is ``entity_df`` with one column for each feature, null where there is none.

        Parameters
        ----------
        entity_df
            Join keys, ``event_timestamp``, and the request values that the on-demand views want. ``event_time_ms``
            must be ``event_timestamp`` in epoch milliseconds.
        kwargs
            ``filter_by_created_timestamp`` asks for history as known, see :mod:`stores.as_known`.

        Raises
        ------
        InvalidEntityFrame
            The frame misses a column, holds a null key or time, or contradicts itself.
        UnsupportedRequest
            No frame was given.
        """
        offline = config.offline_store
        flag = bool(kwargs.pop("filter_by_created_timestamp", False))
        as_known = asked_as_known(AsKnown(offline.lag_ms) if flag or offline.as_known else None)
        if not isinstance(entity_df, pd.DataFrame) or kwargs:
            raise UnsupportedRequest("features are joined to a pandas DataFrame; neither SQL nor a date range is taken")
        frame, time = _entity_rows(entity_df)
        request = HistoryRequest(
            rows=frame,
            refs=[_split(ref) for ref in feature_refs],
            views={view_name(view): view for view in feature_views},
            on_demand={
                view_name(view): view
                for view in OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
            },
            locations={view_name(view): _located(config, view.batch_source) for view in feature_views},
            full_names=full_feature_names,
            as_known=as_known,
            log_rows=offline.log_rows,
        )
        keys = [name for name in frame.table.column_names if name != time]
        return AsOfRetrievalJob(
            request.tables,
            partial(_place, config),
            _metadata(feature_refs, keys, frame),
            full_feature_names=full_feature_names,
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> AsOfRetrievalJob:
        """Return a job for the newest row of each key from ``start_date`` to ``end_date``, both inclusive.

        Of a velocity source: each entity's state as of ``end_date``, if it changed since ``start_date``.
        """
        pull = _pull(
            config, data_source, join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column,
            _span(start_date, end_date),
        )  # fmt: skip
        entity = tagged_entity(data_source.tags)
        return AsOfRetrievalJob(
            pull.newest if entity is None else partial(pull.states, entity), partial(_place, config)
        )

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> AsOfRetrievalJob:
        """Return a job for every row from ``start_date`` to ``end_date``, both inclusive; null is no bound.

        Of a velocity source there is one row for each entity, as in :meth:`pull_latest_from_table_or_query`: a state
        is what the whole past left, and no history of states is kept.
        """
        pull = _pull(
            config, data_source, join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column,
            _span(start_date, end_date),
        )  # fmt: skip
        entity = tagged_entity(data_source.tags)
        return AsOfRetrievalJob(pull.every if entity is None else partial(pull.states, entity), partial(_place, config))

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Append rows to a view's batch source as new part files, in the types of those that lie there.

        Raises
        ------
        UnfitRows
            A key or a time is null, or a column is missing or does not fit the files that lie there.
        UnsupportedRequest
            The source is the transaction log, which holds transactions and no states, or is one file.
        """
        source = source_of(feature_view)
        if tagged_entity(source.tags) is not None:
            raise UnsupportedRequest(
                f"{feature_view.name} is computed from the transaction log; append transactions there"
            )
        where, names = _located(config, source), stored_names(feature_view)
        append_rows(where, fitted(where, table, whole=(*names.keys, *names.times)), time=names.times[0])
        if progress is not None:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,  # noqa: ARG004 - Feast's signature
        logging_config: LoggingConfig,
        registry: BaseRegistry,  # noqa: ARG004 - Feast's signature
    ) -> None:
        """Append logged features to their destination, a folder of Parquet files.

        Raises
        ------
        UnsupportedRequest
            The destination is no folder of files.
        """
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise UnsupportedRequest(f"{type(destination).__name__} is no folder; log to a FileLoggingDestination")
        table = data if isinstance(data, pa.Table) else pq.read_table(data)
        where = _place(config, destination.path, destination.s3_endpoint_override)
        append_rows(where, table, partitions=destination.partition_by or ())


def _pull(
    config: RepoConfig,
    source: DataSource,
    keys: Sequence[str],
    features: Sequence[str],
    time: str,
    created: str | None,
    span: Span,
) -> Pull:
    named = tuple(key for key in keys if key != DUMMY_ENTITY_ID)
    return Pull(_located(config, source), named, tuple(features), time, created or "", span)


def _entity_rows(frame: pd.DataFrame) -> tuple[Rows, str]:
    """Return the rows asked about and the name of their time."""
    twice = frame.columns[frame.columns.duplicated()].unique().tolist()
    if twice:
        raise InvalidEntityFrame(f"column {twice[0]!r} is there more than once; drop or rename the others")
    try:
        time = infer_event_timestamp_from_entity_df(dict(zip(frame.columns, frame.dtypes, strict=True)))
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except pa.ArrowException as error:
        raise InvalidEntityFrame(f"the rows cannot be read: {error}") from error
    if not pa.types.is_timestamp(table[time].type):
        if len(frame):
            raise InvalidEntityFrame(
                f"column {time!r} is {table[time].type}, not a time; convert it with pandas.to_datetime(..., utc=True)"
            )
        table = table.set_column(table.column_names.index(time), time, pa.array([], pa.timestamp("us", "UTC")))
    require_columns(table, (time,), nulls=False, advice="every row needs its time")
    return Rows(table, microseconds(table[time])), time


def _metadata(refs: list[str], keys: list[str], rows: Rows) -> RetrievalMetadata:
    times = rows.as_of_us
    bounds = (times.min(), times.max()) if len(times) else (None, None)
    low, high = (None if time is None else pd.Timestamp(time, unit="us", tz="UTC").to_pydatetime() for time in bounds)
    return RetrievalMetadata(features=refs, keys=keys, min_event_timestamp=low, max_event_timestamp=high)


def _split(ref: str) -> tuple[str, str]:
    view, _, feature = ref.rpartition(":")
    return view, feature


def _span(start: datetime | None, end: datetime | None) -> Span:
    first, last = (
        None if time is None else int(pd.Timestamp(make_tzaware(time)).value // 1000) for time in (start, end)
    )
    return Span(first, last)


def _located(config: RepoConfig, source: DataSource | None) -> Location:
    if not isinstance(source, FileSource):
        raise UnsupportedRequest(f"{type(source).__name__} is no FileSource; this store reads Parquet files")
    return _place(config, source.file_options.uri, source.file_options.s3_endpoint_override)


def _place(config: RepoConfig, address: str, endpoint: str) -> Location:
    """Return the location of an address in a registry; a relative path is relative to the repository of definitions."""
    return Location(FileSource.get_uri_for_file_path(config.repo_path, address), endpoint)
