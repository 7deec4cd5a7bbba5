"""Ordinary views joined to the rows asked about, as of each row's time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.feature_view_projection import FeatureViewProjection
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.types import from_feast_to_pyarrow_type

from stores.as_known import AsKnown
from stores.asof import EVER, Moments, newest_rows, sort_rows
from stores.columns import IntArray, find_keys, joined, microseconds, number_keys
from stores.errors import InvalidEntityFrame, UnreadableSource, UnsupportedRequest
from stores.files import Location, Span, read_files
from stores.tags import PIT_TAG

NO_KEY: Final = "use an empty string where there is no key"


@dataclass(frozen=True)
class Rows:
    """The rows asked about.

    Parameters
    ----------
    table
        As it came, an Arrow table.
    as_of_us
        Time of each row, epoch microseconds.
    """

    table: Any
    as_of_us: IntArray


def join_view(
    rows: Rows, view: FeatureView, features: Sequence[str], location: Location, *, as_known: AsKnown | None = None
) -> dict[str, Any]:
    """Return the features of an ordinary view that each row sees, null where there is none.

    A row of the source is seen from its time until its time plus the view's ``ttl``, both inclusive. Of several the
    newest counts, and of those of one time the one created last. As known, rows that had not arrived are not there.

    Raises
    ------
    InvalidEntityFrame
        A join key is missing from the rows, or null in them.
    UnreadableSource
        The source's files are.
    """
    return ViewRows(view, features, location, rows.as_of_us).join(rows, as_known)


class ViewRows:
    """The rows of an ordinary view's source, read and sorted once, to be joined part by part.

    Parameters
    ----------
    view, features
        What is wanted of it.
    location
        Where its files lie.
    as_of_us
        The times of all questions: only rows that one of them may see are read.
    """

    def __init__(self, view: FeatureView, features: Sequence[str], location: Location, as_of_us: IntArray) -> None:
        names = stored_names(view)
        self._view, self._location = view, location
        self._asked_keys = [asked for _, asked in join_keys(view)]
        self._wanted = {feature: names.of(feature) for feature in features}
        self._lifetime = (view.ttl or timedelta(0)) // timedelta(microseconds=1)
        self._strict = int(view.tags.get(PIT_TAG) == "strict")
        stored, times = names.keys, names.times
        first, last = (int(as_of_us.min()), int(as_of_us.max())) if len(as_of_us) else (0, 0)
        span = Span(first - self._lifetime if self._lifetime else None, last - self._strict)
        columns = list(dict.fromkeys((*stored, *self._wanted.values(), *times)))
        table = read_files(location, columns, times[0], span, whole=(*stored, *times))
        self._keys = RowKeys(table, stored)
        self._sorted = sort_rows(
            self._keys.numbers, microseconds(table[times[0]]), microseconds(table[times[1]]), self._keys.count
        )
        self._columns = {name: joined(table[name]) for name in self._wanted.values()}

    def join(self, rows: Rows, as_known: AsKnown | None) -> dict[str, Any]:
        """Return the features that each row sees, null where there is none."""
        require_columns(rows.table, self._asked_keys, nulls=False)
        ever = np.full(len(rows.as_of_us), EVER, np.int64)
        oldest = rows.as_of_us - self._lifetime if self._lifetime else -ever
        known = ever if as_known is None else as_known.newest_arrival_us(rows.as_of_us)
        asked = self._keys.find(rows.table, self._asked_keys)
        place = newest_rows(self._sorted, Moments(asked, rows.as_of_us - self._strict, oldest, known))
        index = pa.array(place, mask=place < 0)
        types = {field.name: from_feast_to_pyarrow_type(field.dtype) for field in self._view.features}
        return {
            feature: _cast(self._columns[name].take(index), types[feature], self._location, name)
            for feature, name in self._wanted.items()
        }


def source_of(view: FeatureView) -> DataSource:
    """Return a view's batch source.

    Raises
    ------
    UnsupportedRequest
        It has none.
    """
    if view.batch_source is None:
        raise UnsupportedRequest(f"view {view.name} has no batch source, so it has no history")
    return view.batch_source


@dataclass(frozen=True)
class StoredNames:
    """What the files behind a view call its columns.

    Parameters
    ----------
    keys
        Its join keys.
    times
        Event time and created time; event time twice where there is no other.
    original
        By the name in the view, of the columns that the source renames.
    """

    keys: Sequence[str]
    times: tuple[str, str]
    original: Mapping[str, str]

    def of(self, name: str) -> str:
        """Return the name in the files of a column of the view."""
        return self.original.get(name, name)


def stored_names(view: FeatureView) -> StoredNames:
    """Return what the files behind a view call its columns."""
    source = source_of(view)
    original = {new: old for old, new in (source.field_mapping or {}).items()}
    time, created = (
        original.get(name, name)
        for name in (source.timestamp_field, source.created_timestamp_column or source.timestamp_field)
    )
    return StoredNames([original.get(name, name) for name, _ in join_keys(view)], (time, created), original)


def view_name(view: FeatureView | OnDemandFeatureView | FeatureViewProjection) -> str:
    """Return the name that references to a view use."""
    projection = view if isinstance(view, FeatureViewProjection) else view.projection
    return str(projection.name_to_use())  # type: ignore[no-untyped-call]


def join_keys(view: FeatureView) -> list[tuple[str, str]]:
    """Return each join key as the source has it and as the rows have it; none of a view without entities."""
    renamed = view.projection.join_key_map
    return [
        (column.name, renamed.get(column.name, column.name))
        for column in view.entity_columns
        if column.name != DUMMY_ENTITY_ID
    ]


class RowKeys:
    """The join keys of a source's rows as numbers: one number for all keys of a row together.

    -1 is a key that no row has. An empty string is nobody's key.
    """

    def __init__(self, table: Any, stored: Sequence[str]) -> None:
        self.numbers: IntArray = np.zeros(table.num_rows, np.int64)
        self.count = 1
        self._keys: list[tuple[Any, Any]] = []
        for name in stored:
            keys, (numbers,) = number_keys([table[name]])
            self._keys.append((keys, table[name].type))
            self.numbers = np.where((numbers < 0) | (self.numbers < 0), -1, self.numbers * len(keys) + numbers)
            self.count *= len(keys)

    def find(self, asked: Any, names: Sequence[str]) -> IntArray:
        """Return the number of each row asked about, whose keys have these names."""
        out = np.zeros(asked.num_rows, np.int64)
        for (keys, kind), name in zip(self._keys, names, strict=True):
            found = find_keys(keys, pc.cast(_as_stored(asked[name], kind, name), pa.string()))
            out = np.where((found < 0) | (out < 0), -1, out * len(keys) + found)
        return out


def _as_stored(column: Any, wanted: Any, name: str) -> Any:
    """Return a join key in the type its source has, so that 7 and 7.0 are one key and not two texts."""
    try:
        return pc.cast(column, wanted)
    except pa.ArrowException as error:
        raise InvalidEntityFrame(f"column {name!r} is {column.type}, its source has {wanted}: {error}") from error


def _cast(array: Any, wanted: Any, location: Location, name: str) -> Any:
    if array.type == wanted:
        return array
    try:
        return pc.cast(array, wanted)
    except pa.ArrowException as error:
        raise UnreadableSource(f"{location.address}: column {name!r} is {array.type}, not {wanted}: {error}") from error


def require_columns(table: Any, names: Sequence[str], *, nulls: bool = True, advice: str = NO_KEY) -> None:
    """Raise :class:`InvalidEntityFrame` unless the rows asked about have these columns, and no null if so wanted.

    ``advice`` says what to put in a null's place.
    """
    for name in names:
        if name not in table.column_names:
            raise InvalidEntityFrame(f"the rows have no column {name!r}; they have {table.column_names}")
        if not nulls and table[name].null_count:
            row = pc.index(table[name].is_null(), pa.scalar(value=True)).as_py()
            raise InvalidEntityFrame(
                f"column {name!r} holds {table[name].null_count} nulls, the first in row {row}; {advice}"
            )


def require_numbers(table: Any, name: str, kind: Any) -> None:
    """Raise :class:`InvalidEntityFrame` when a column of the rows asked about holds what is no number of an Arrow type.

    Its message has the first such value, and its row.
    """
    try:
        pc.cast(table[name], kind)
    except pa.ArrowException:
        for row, value in enumerate(table[name]):
            try:
                pc.cast(value, kind)
            except pa.ArrowException:
                raise InvalidEntityFrame(
                    f"column {name!r} holds {value.as_py()!r} in row {row}, which is no {kind}"
                ) from None
        raise
