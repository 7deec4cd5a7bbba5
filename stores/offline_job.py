"""What the offline store returns to Feast: an answer that is computed when it is asked for."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage

from stores.errors import UnsupportedRequest
from stores.files import Location
from stores.table_writing import write_tables


class Tables(Iterator[Any]):
    """Arrow tables one after the other, and how many rows they will have together."""

    def __init__(self, rows: int, tables: Iterator[Any]) -> None:
        self.rows = rows
        self._tables = tables

    def __next__(self) -> Any:
        """Return the next table."""
        return next(self._tables)


class AsOfRetrievalJob(RetrievalJob):
    """A retrieval whose answer holds the on-demand features already.

    Feast would run every on-demand view again over the whole table, states expanded to Python objects; this job says
    that there is none left to run.

    Parameters
    ----------
    compute
        Begins the answer: its rows in order, in one Arrow table or several.
    locate
        Turns an address as Feast has it into a location.
    metadata
        What was asked, for saved datasets.
    full_feature_names
        Whether features are named ``view__feature``.
    """

    def __init__(
        self,
        compute: Callable[[], Iterator[Any]],
        locate: Callable[[str, str], Location],
        metadata: RetrievalMetadata | None = None,
        *,
        full_feature_names: bool = False,
    ) -> None:
        self._compute = compute
        self._locate = locate
        self._metadata = metadata
        self._full_feature_names = full_feature_names

    @property
    def full_feature_names(self) -> bool:
        """Whether features are named ``view__feature``."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """No view is left to run."""
        return []

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002 - Feast's signature
        whole = pa.concat_tables(self._compute())
        # Feast's writers read the first chunk only; an answer to a question goes to none of them, and may be large
        return whole if self._metadata is not None else whole.combine_chunks()

    def tables(self) -> Iterator[Any]:
        """Yield the rows in order, in Arrow tables: for a reader that does not want them all at once."""
        return self._compute()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        table = self._to_arrow_internal(timeout)
        frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)
        return frame

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,  # noqa: FBT001, FBT002 - Feast's signature
        timeout: int | None = None,  # noqa: ARG002 - Feast's signature
    ) -> None:
        """Write the answer as one Parquet file, part by part: it is never in memory whole.

        Raises
        ------
        UnsupportedRequest
            The storage is not a file, or there is one already and ``allow_overwrite`` is false.
        UnreadableSource
            The file cannot be written. None is left behind.
        """
        if not isinstance(storage, SavedDatasetFileStorage):
            raise UnsupportedRequest(f"{type(storage).__name__} is no file; save to a SavedDatasetFileStorage")
        location = self._locate(storage.file_options.uri, storage.file_options.s3_endpoint_override)
        if location.exists() and not allow_overwrite:
            raise UnsupportedRequest(f"{location.address} exists; allow overwriting or choose another path")
        write_tables(self._compute(), location)
