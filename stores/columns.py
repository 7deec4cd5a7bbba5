"""Arrow columns as the flat arrays that kernels read: times, hashes of strings, numbers of keys."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.hashing import U64Array, hash_slices

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

MOMENT: Final = pa.timestamp("us", "UTC")
"""How every time stands in Arrow and Parquet."""


def joined(column: Any) -> Any:
    """Return a column as one array, whatever number of chunks it came in."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)])


def moments(column: Any) -> Any:
    """Return a column of times as ``timestamp[us, UTC]``; a time without a zone is UTC, as Feast has it.

    Finer fractions are cut off, so that a time never moves forward.
    """
    if column.type.tz is None:
        return pc.cast(pc.cast(column, pa.timestamp("us"), safe=False), MOMENT)
    return pc.cast(column, MOMENT, safe=False)


def microseconds(column: Any) -> IntArray:
    """Return a column of times, without nulls, as epoch microseconds."""
    return integers(pc.cast(moments(column), pa.int64()))


def milliseconds(column: Any) -> IntArray:
    """Return a column of times, without nulls, as epoch milliseconds, rounded down."""
    return microseconds(column) // 1000


def integers(column: Any, *, null: int = 0) -> IntArray:
    """Return a column of whole numbers; nulls become ``null``."""
    filled = pc.fill_null(pc.cast(column, pa.int64()), null)
    return np.asarray(joined(filled).to_numpy(zero_copy_only=False), np.int64)


def floats(column: Any) -> FloatArray:
    """Return a column of numbers; nulls become NaN."""
    filled = pc.fill_null(pc.cast(column, pa.float64()), float("nan"))
    return np.asarray(joined(filled).to_numpy(zero_copy_only=False), np.float64)


def hash_strings(strings: Any) -> U64Array:
    """Return :func:`fraud.hashing.hash64` of every string of an array without nulls, shape ``(n,)``."""
    wide = pc.cast(strings, pa.large_string())
    if len(wide) == 0:
        return np.empty(0, np.uint64)
    _, offsets, body = wide.buffers()
    places = np.frombuffer(offsets, np.int64, len(wide) + 1, wide.offset * 8)
    return hash_slices(np.frombuffer(body or b"", np.uint8), places)


def hash_column(column: Any) -> U64Array:
    """Return the hash of every string of a column; a null is hashed as the empty string."""
    distinct = joined(pc.fill_null(pc.cast(column, pa.string()), "")).dictionary_encode()
    return hash_strings(distinct.dictionary)[integers(distinct.indices)]


def number_keys(columns: Sequence[Any]) -> tuple[Any, list[IntArray]]:
    """Return the distinct strings of some columns, and each column as their numbers.

    Returns
    -------
    keys
        The distinct strings; a string's number is its place. The empty string is nobody's key.
    numbers
        The numbers of each column, -1 for null and for the empty string.
    """
    strings = [pc.cast(joined(column), pa.string()) for column in columns]
    whole = pa.concat_arrays(strings)
    whole = pc.if_else(pc.equal(whole, ""), pa.scalar(None, pa.string()), whole).dictionary_encode()
    numbers = integers(whole.indices, null=-1)
    bounds = np.cumsum([0, *(len(column) for column in strings)])
    return whole.dictionary, [numbers[a:b] for a, b in pairwise(bounds)]


class KeyNumbers:
    """Numbers the strings of columns that come in parts; see :func:`number_keys`."""

    def __init__(self) -> None:
        self._dictionaries: list[Any] = []
        self._indices: list[IntArray] = []

    def add(self, column: Any) -> None:
        """Take in the next part."""
        part = joined(pc.cast(column, pa.string())).dictionary_encode()
        self._dictionaries.append(part.dictionary)
        self._indices.append(integers(part.indices, null=-1).astype(np.int32))

    def finish(self) -> tuple[Any, IntArray]:
        """Return the distinct strings, and the number of each string of all parts, -1 for null and for empty."""
        strings = pa.concat_arrays([*self._dictionaries, pa.array([], pa.string())])
        keys = pc.unique(strings.filter(pc.not_equal(strings, "")))
        numbers = np.append(integers(pc.index_in(strings, value_set=keys), null=-1), -1)  # place -1 is null's
        first = 0
        parts = []
        for dictionary, indices in zip(self._dictionaries, self._indices, strict=True):
            parts.append(numbers[np.where(indices < 0, -1, indices + first)])
            first += len(dictionary)
        return keys, np.concatenate([np.empty(0, np.int64), *parts])


def find_keys(keys: Any, asked: Any) -> IntArray:
    """Return the number of each asked string among ``keys``, -1 where it is not there."""
    found = pc.index_in(pc.cast(joined(asked), keys.type), value_set=keys, skip_nulls=True)
    return integers(found, null=-1)


def nullable(values: FloatArray) -> Any:
    """Return numbers as an Arrow array in which NaN is null."""
    return pa.array(np.ascontiguousarray(values), from_pandas=True)


def same_bits(found: FloatArray, expected: FloatArray) -> npt.NDArray[np.bool_]:
    """Return where two arrays hold the same bits; any NaN equals any other, and 0.0 equals -0.0 does not hold."""
    both_null = np.isnan(found) & np.isnan(expected)
    left = np.ascontiguousarray(found).view(np.int64)
    right = np.ascontiguousarray(expected).view(np.int64)
    return np.asarray(both_null | (left == right), np.bool_)
