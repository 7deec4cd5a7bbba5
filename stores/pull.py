"""One reading of a source for materialization, or of a saved dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL

from stores.asof import EVER, Moments, newest_rows, sort_rows
from stores.columns import microseconds
from stores.files import Location, Span, count_rows, read_batches, read_files
from stores.history_request import lake_of
from stores.log import load_log, log_days
from stores.offline_job import Tables
from stores.view_join import RowKeys
from stores.windows_join import LatestStates


@dataclass(frozen=True)
class Pull:
    """One reading of a source for materialization, or of a saved dataset.

    ``created`` is empty where there is none. Of a view without entities there are no ``keys``: all its rows are one
    key's, and come back under the name and value that Feast's own stores give it.
    """

    location: Location
    keys: Sequence[str]
    features: Sequence[str]
    time: str
    created: str
    span: Span

    @property
    def _columns(self) -> list[str]:
        return [name for name in dict.fromkeys((*self.keys, *self.features, self.time, self.created)) if name]

    def every(self) -> Tables:
        """Return every row of the span, read while it is taken."""
        rows = count_rows(self.location, self._columns, self.time, self.span)
        return Tables(rows, map(self._keyed, read_batches(self.location, self._columns, self.time, self.span)))

    def _keyed(self, table: Any) -> Any:
        if self.keys:
            return table
        return table.append_column(DUMMY_ENTITY_ID, pa.array([DUMMY_ENTITY_VAL] * table.num_rows, pa.string()))

    def newest(self) -> Tables:
        """Return the newest row of each key; of two of one time the one created last."""
        created = self.created or self.time
        table = read_files(self.location, self._columns, self.time, self.span, whole=self.keys)
        keys = RowKeys(table, self.keys)
        times = microseconds(table[self.time])
        rows = sort_rows(keys.numbers, times, microseconds(table[created]), keys.count)
        numbers = np.unique(keys.numbers[keys.numbers >= 0])
        bound = np.full(len(numbers), EVER, np.int64)
        newest = self._keyed(table.take(pa.array(newest_rows(rows, Moments(numbers, bound, -bound, bound)))))
        return Tables(newest.num_rows, iter([newest]))

    def states(self, entity: Any) -> Tables:
        """Return the state of each entity that changed in the span, as of its end."""
        last = None if self.span.last_us is None else self.span.last_us // 1000 + 1
        first = -(1 << 62) if self.span.first_us is None else -(-self.span.first_us // 1000)
        lake = lake_of(self.location)
        log_days(lake, last_ms=last)  # refuses a log with a gap: a state is what the whole past left
        log = load_log(lake, last_ms=last)
        latest = LatestStates(log, entity, first_ms=first, columns=self.features, time=self.time)
        return Tables(latest.row_count(), latest.tables())
