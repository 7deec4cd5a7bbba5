"""Opaque identifiers: a number becomes an id by a keyed permutation, so neither order nor range tells anything."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from simulation.randomness import IntArray

U64Array = npt.NDArray[np.uint64]

_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_MULTIPLIERS: Final = (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xCA9B0D5AD7F5A36B)


def scramble(numbers: IntArray, *, bits: int, key: int) -> U64Array:
    """Permute ``0..2**bits-1`` by ``key`` (multiply by odd constants, xor with the shifted upper half).

    Distinct numbers stay distinct. ``bits`` is even and at most 64.

    Examples
    --------
    >>> len(set(scramble(np.arange(1000), bits=32, key=7).tolist()))
    1000
    """
    mask = np.uint64((1 << bits) - 1)
    half = np.uint64(bits // 2)
    x = (numbers.astype(np.uint64) + np.uint64(key * 0x632BE59BD9B4E019 & (1 << bits) - 1)) & mask
    for multiplier in _MULTIPLIERS:
        x = (x * np.uint64(multiplier)) & mask
        x ^= x >> half
    return x


def hexadecimal(numbers: U64Array, *, prefix: str, digits: int) -> pa.StringArray:
    """Return ``prefix`` and the low ``digits`` hexadecimal digits of each number; order of ids is order of numbers."""
    width = len(prefix) + digits
    text = np.empty((len(numbers), width), np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix.encode(), np.uint8)
    for digit in range(digits):
        shift = np.uint64(4 * (digits - 1 - digit))
        text[:, len(prefix) + digit] = _HEX[((numbers >> shift) & np.uint64(15)).astype(np.intp)]
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * np.int32(width)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text))


def numbered(count: int, *, prefix: str, digits: int) -> pa.StringArray:
    """Return ``prefix`` and the zero-padded decimal number for ``0..count-1``."""
    return pa.array([f"{prefix}{number:0{digits}d}" for number in range(count)], pa.string())
