"""Stable 64-bit hashes of identifiers, the same for one string and for a column of strings.

FNV-1a over the UTF-8 bytes, finished with the MurmurHash3 mixer so that the low 32 bits are as good as all 64. These
are content hashes for deduplication and distinct counts, not security.
"""

import functools

import numpy as np
import numpy.typing as npt

from fraud.kernels import kernel

U64Array = npt.NDArray[np.uint64]

_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)


@kernel
def _hash_slice(data: npt.NDArray[np.uint8], start: int, stop: int) -> np.uint64:
    h = _FNV_OFFSET
    for i in range(start, stop):
        h = (h ^ np.uint64(data[i])) * _FNV_PRIME
    h ^= h >> _SHIFT
    h *= _MIX_1
    h ^= h >> _SHIFT
    h *= _MIX_2
    h ^= h >> _SHIFT
    return h


@kernel
def hash_slices(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> U64Array:
    """Return the hash of each slice ``data[offsets[i]:offsets[i + 1]]``, shape ``(len(offsets) - 1,)``."""
    out = np.empty(len(offsets) - 1, np.uint64)
    for i in range(len(out)):
        out[i] = _hash_slice(data, offsets[i], offsets[i + 1])
    return out


@functools.lru_cache(maxsize=1 << 16)
def hash64(identifier: str) -> int:
    """Return the 64-bit hash of one identifier.

    Examples
    --------
    >>> hash64("m00017") == hash64("m00017"), hash64("m00017") == hash64("m00018")
    (True, False)
    """
    data = np.frombuffer(identifier.encode(), np.uint8)
    return int(_hash_slice(data, 0, len(data)))


def hash32(identifier: str) -> int:
    """Return the low 32 bits of :func:`hash64`: what a state keeps of a merchant, card or device."""
    return hash64(identifier) & 0xFFFFFFFF
