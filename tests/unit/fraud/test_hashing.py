"""Hashes of identifiers: one string or a column of them, the same bits, forever."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.hashing import hash32, hash64, hash_slices

MASK = (1 << 64) - 1


def slow_hash(data: bytes) -> int:
    """FNV-1a and the MurmurHash3 mixer in Python's unbounded integers."""
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & MASK
    h ^= h >> 33
    h = (h * 0xFF51AFD7ED558CCD) & MASK
    h ^= h >> 33
    h = (h * 0xC4CEB9FE1A85EC53) & MASK
    return h ^ (h >> 33)


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [("", 17280346270528514342), ("c0001", 0xDE613E2421DCF1D6), ("Händler-7", 0x7191B94D78EF5108)],
)
def test_stored_states_depend_on_these_very_values(identifier: str, expected: int) -> None:
    assert hash64(identifier) == expected


@given(st.text())
def test_hash_equals_its_definition(identifier: str) -> None:
    assert hash64(identifier) == slow_hash(identifier.encode())


@given(st.lists(st.text(max_size=20), max_size=20))
def test_column_hashes_as_its_strings_do(identifiers: list[str]) -> None:
    encoded = [identifier.encode() for identifier in identifiers]
    offsets = np.concatenate(([0], np.cumsum([len(item) for item in encoded]))).astype(np.int64)
    column = hash_slices(np.frombuffer(b"".join(encoded), np.uint8), offsets)
    assert column.tolist() == [hash64(identifier) for identifier in identifiers]


@given(st.text())
def test_short_hash_is_the_low_half(identifier: str) -> None:
    assert hash32(identifier) == hash64(identifier) % 2**32


def test_short_hashes_of_numbered_cards_hardly_collide() -> None:
    cards = {hash32(f"c{number:06d}") for number in range(50_000)}
    # 50 000 values in 2**32 places: 0.29 collisions expected, more than 5 has a chance below one in a million.
    assert len(cards) >= 49_995
