"""Rows on their way to an online store, serialised column by column in Feast's own layout.

A value's bytes are those of the message ``feast.types.Value``, a key's those of Feast's serialised entity key, a time's
those of ``google.protobuf.Timestamp``; a test holds all of them to Feast's own. What repeats is serialised once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.types import Bool, Bytes, Float64, Int64, String

from stores.columns import joined, microseconds
from stores.layout import DOUBLE_TAG, encode_moment, encode_value, entity_keys

ENCODED: Final = {
    Bytes: pa.binary(),
    String: pa.string(),
    Int64: pa.int64(),
    Float64: pa.float64(),
    Bool: pa.bool_(),
}
"""Types whose values stand in Feast's layout as :func:`stores.layout.encode_value` writes them."""

KEY_VERSION: Final = 3
"""Version of Feast's serialised entity keys that :func:`stores.layout.entity_keys` writes."""


@dataclass(frozen=True)
class EncodedColumns:
    """Serialised rows of one view.

    Parameters
    ----------
    keys
        Serialised entity key of each row, without a project.
    times
        Event time of each row.
    features
        Column of each feature; null is empty bytes.
    """

    keys: Sequence[bytes]
    times: Sequence[bytes]
    features: Mapping[str, Sequence[bytes]]


@runtime_checkable
class TakesColumns(Protocol):
    """An online store that takes serialised rows."""

    def online_write_columns(self, config: RepoConfig, table: FeatureView, columns: EncodedColumns) -> None:
        """Write as ``online_write_batch`` does."""


def encode_columns(table: Any, view: FeatureView, time: str, key_version: int) -> EncodedColumns:
    """Return the rows of an Arrow table as an online store holds them.

    Parameters
    ----------
    table
        Join keys, features and time.
    view
        Whose rows.
    time
        Name of the column of event times.
    key_version
        Feast's ``entity_key_serialization_version``.
    """
    times, places = np.unique(microseconds(table[time]), return_inverse=True)
    moments = [encode_moment(moment) for moment in times.tolist()]
    return EncodedColumns(
        _keys(table, [field.name for field in view.entity_columns], key_version),
        [moments[place] for place in places.tolist()],
        {field.name: encode_column(table[field.name], field.dtype) for field in view.features},
    )


def encode_column(column: Any, dtype: Any) -> list[bytes]:
    """Return the serialised values of a column whose Feast type is ``dtype``; null is empty bytes."""
    if dtype not in ENCODED:
        messages = python_values_to_proto_values(column.to_pylist(), dtype.to_value_type())
        return [message.SerializeToString() for message in messages]
    whole = joined(column.cast(ENCODED[dtype]))
    if dtype == Float64:
        return _doubles(whole)
    if dtype == Bytes:
        return [encode_value(value) for value in whole.to_pylist()]
    distinct = whole.dictionary_encode()
    encoded = [*(encode_value(value) for value in distinct.dictionary.to_pylist()), b""]
    return [encoded[place] for place in pc.fill_null(distinct.indices, -1).to_pylist()]


def _doubles(column: Any) -> list[bytes]:
    """Return numbers, NaN as null: Feast holds them for one."""
    values = np.asarray(column.to_numpy(zero_copy_only=False), "<f8")
    rows = np.empty((len(values), 9), np.uint8)
    rows[:, 0] = DOUBLE_TAG
    rows[:, 1:] = values.view(np.uint8).reshape(len(values), 8)
    data = rows.tobytes()
    encoded = [data[place : place + 9] for place in range(0, len(data), 9)]
    for place in np.flatnonzero(np.isnan(values)).tolist():
        encoded[place] = b""
    return encoded


def _keys(table: Any, names: Sequence[str], version: int) -> list[bytes]:
    columns = [table[name] for name in names]
    if version == KEY_VERSION and len(columns) == 1 and pa.types.is_string(columns[0].type):
        return entity_keys(names[0], columns[0].cast(pa.binary()).to_pylist(), "")
    return [serialize_entity_key(key, version) for key in key_messages(table, names)]


def key_messages(table: Any, names: Sequence[str]) -> list[EntityKey]:
    """Return the join keys of each row as Feast's message."""
    columns = [table[name] for name in names]
    if all(pa.types.is_string(column.type) for column in columns):
        texts = zip(*(column.to_pylist() for column in columns), strict=True)
        return [EntityKey(join_keys=names, entity_values=[Value(string_val=text) for text in row]) for row in texts]
    values = zip(*(python_values_to_proto_values(column.to_pylist()) for column in columns), strict=True)
    return [EntityKey(join_keys=names, entity_values=list(row)) for row in values]
