"""Ordinary views joined to the rows asked about, as of each row's time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView
from feast.data_source import DataSource
from feast.feature_view_projection import FeatureViewProjection
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.types import from_feast_to_pyarrow_type

from stores.as_known import AsKnown
from stores.asof import EVER, Moments, newest_rows, sort_rows
from stores.columns import IntArray, find_keys, joined, microseconds, number_keys
from stores.errors import InvalidEntityFrame, UnreadableSource, UnsupportedRequest
from stores.files import Location, Span, read_files
from stores.tags import PIT_TAG


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
    source = source_of(view)
    keys = join_keys(view)
    require_columns(rows.table, [asked for _, asked in keys], nulls=False)
    original = {new: old for old, new in (source.field_mapping or {}).items()}
    stored = [original.get(name, name) for name, _ in keys]
    wanted = [original.get(name, name) for name in features]
    created = source.created_timestamp_column or source.timestamp_field
    times = (source.timestamp_field, created)
    until = rows.as_of_us - (view.tags.get(PIT_TAG) == "strict")
    lifetime = (view.ttl or timedelta(0)) // timedelta(microseconds=1)
    oldest = until * 0 - EVER if lifetime == 0 else rows.as_of_us - lifetime
    last = int(until.max()) if len(until) else 0
    span = Span(None if lifetime == 0 or not len(oldest) else int(oldest.min()), last)
    table = read_files(location, list(dict.fromkeys((*stored, *wanted, *times))), source.timestamp_field, span)
    refuse_nulls(location, table, (*stored, *times))
    row_key, asked_key, count = number_rows(table, stored, rows.table, [asked for _, asked in keys])
    ordered = sort_rows(row_key, microseconds(table[times[0]]), microseconds(table[times[1]]), count)
    ever = np.full(len(until), EVER, np.int64)
    known = ever if as_known is None else as_known.newest_arrival_us(rows.as_of_us)
    place = newest_rows(ordered, Moments(asked_key, until, oldest, known))
    index = pa.array(place, mask=place < 0)
    types = {field.name: from_feast_to_pyarrow_type(field.dtype) for field in view.features}
    return {
        feature: _cast(joined(table[name]).take(index), types[feature], location, name)
        for feature, name in zip(features, wanted, strict=True)
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


def view_name(view: FeatureView | OnDemandFeatureView | FeatureViewProjection) -> str:
    """Return the name that references to a view use."""
    projection = view if isinstance(view, FeatureViewProjection) else view.projection
    return str(projection.name_to_use())  # type: ignore[no-untyped-call]


def join_keys(view: FeatureView) -> list[tuple[str, str]]:
    """Return each join key as the source has it and as the rows have it."""
    renamed = view.projection.join_key_map
    return [(column.name, renamed.get(column.name, column.name)) for column in view.entity_columns]


def number_rows(table: Any, stored: Sequence[str], asked: Any, names: Sequence[str]) -> tuple[IntArray, IntArray, int]:
    """Return one number for the keys of each source row and of each question, and how many numbers there are.

    Both are numbered alike; -1 is a key that no row has. An empty string is nobody's key.
    """
    row_key, asked_key, count = np.zeros(table.num_rows, np.int64), np.zeros(asked.num_rows, np.int64), 1
    for old, new in zip(stored, names, strict=True):
        keys, (numbers,) = number_keys([table[old]])
        found = find_keys(keys, pc.cast(_as_stored(asked[new], table[old].type, new), pa.string()))
        row_key = np.where((numbers < 0) | (row_key < 0), -1, row_key * len(keys) + numbers)
        asked_key = np.where((found < 0) | (asked_key < 0), -1, asked_key * len(keys) + found)
        count *= len(keys)
    return row_key, asked_key, count


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


def require_columns(table: Any, names: Sequence[str], *, nulls: bool = True) -> None:
    """Raise :class:`InvalidEntityFrame` unless the rows asked about have these columns, and no null if so wanted."""
    for name in names:
        if name not in table.column_names:
            raise InvalidEntityFrame(f"the rows have no column {name!r}; they have {table.column_names}")
        if not nulls and table[name].null_count:
            raise InvalidEntityFrame(
                f"column {name!r} holds {table[name].null_count} nulls; use an empty string where there is no key"
            )


def refuse_nulls(location: Location, table: Any, names: Sequence[str]) -> None:
    """Raise :class:`UnreadableSource` when a source holds nulls where it must not."""
    for name in names:
        if table[name].null_count:
            raise UnreadableSource(f"{location.address} holds {table[name].null_count} nulls in column {name!r}")
