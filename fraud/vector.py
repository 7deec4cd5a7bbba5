"""The feature vector of one transaction in one compiled pass: what :func:`fraud.features.evaluate` runs.

It reads the states where they lie, without a copy, and is bit for bit the sum of its parts (:mod:`fraud.ring`,
:mod:`fraud.tiles`, the context and cross values of :mod:`fraud.features`): a test holds one against the other. A state
it does not know by its header, an older version or none at all, is left to the caller.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from fraud import ring, tiles
from fraud.hashing import _hash_slice
from fraud.kernels import kernel
from fraud.states import RING, RING_VERSION, TILE_VERSION, TILES
from fraud.velocity import POSITIONS
from fraud.windows import DAY, HOUR, VELOCITY_FEATURES, WINDOWS

FloatArray = npt.NDArray[np.float64]
Numbers = tuple[float, ...]

_CARD: Final = POSITIONS["card"]
_DEVICE: Final = POSITIONS["device"]
_IP: Final = POSITIONS["ip"]
_MERCHANT: Final = POSITIONS["merchant"]
_RING_HEADER: Final = 8
_TILE_HEADER: Final = 28
_ENTRY_SIZE: Final = ring.ENTRY.itemsize
_PENDING_SIZE: Final = tiles.PENDING.itemsize
_TILE_SIZE: Final = tiles.TILE.itemsize
_ENTRY: Final = ring.ENTRY
_PENDING: Final = tiles.PENDING
_TILE: Final = tiles.TILE
_RESOLUTIONS: Final = len(WINDOWS)
_CONTEXT: Final = 9
_CROSS: Final = 4


def _place(entity: str, statistic: str) -> int:
    features = VELOCITY_FEATURES["card" if entity == "card" else "merchant"]
    return next(f.position for f in features if f.name == f"{entity}_amount_{statistic}_30d")


_CARD_MEAN: Final = _place("card", "mean")
_CARD_MAX: Final = _place("card", "max")
_CARD_STD: Final = _place("card", "std")
_MERCHANT_MEAN: Final = _place("merchant", "mean")
LENGTH: Final = _CONTEXT + len(_CARD) + len(_DEVICE) + len(_IP) + len(_MERCHANT) + _CROSS + 6


@kernel
def _whole(data: npt.NDArray[np.uint8], start: int, size: int) -> int:
    """Return the little-endian number of ``size`` bytes at ``start``; unsigned below 8 bytes."""
    number = 0
    for index in range(size):
        number |= int(data[start + index]) << (8 * index)
    return number


@kernel
def _is_ring(data: npt.NDArray[np.uint8]) -> bool:
    if len(data) == 0:
        return True
    if len(data) < _RING_HEADER or data[0] != RING_VERSION or data[1] != RING:
        return False
    return len(data) == _RING_HEADER + _whole(data, 4, 4) * _ENTRY_SIZE


@kernel
def _ratio(amount: float, usual: float) -> float:
    return amount / usual if usual > 0.0 else np.nan


@kernel
def _read_ring(  # a kernel takes numbers, and a call in it is not free
    data: npt.NDArray[np.uint8],
    as_of: int,
    party: int,
    latitude: int,
    longitude: int,
    scratch: npt.NDArray[np.int64],
    table: FloatArray,
) -> None:
    entries = data[min(_RING_HEADER, len(data)) :].view(_ENTRY)
    ring.read_entries(entries, 0, len(entries), as_of, party, latitude, longitude, scratch, table)


@kernel
def _read_tiles(data: npt.NDArray[np.uint8], as_of: int, table: FloatArray) -> bool:
    """Fill ``table`` from a tile state; false when its header is not of this version, or it is torn."""
    counts = np.zeros(_RESOLUTIONS, np.int64)
    held = 0
    body = min(_TILE_HEADER, len(data))
    if len(data) > 0:
        if len(data) < _TILE_HEADER or data[0] != TILE_VERSION or data[1] != TILES:
            return False
        held = _whole(data, 2, 2)
        for window in range(_RESOLUTIONS):
            counts[window] = _whole(data, 12 + 2 * window, 2)
        if len(data) != body + held * _PENDING_SIZE + counts.sum() * _TILE_SIZE:
            return False
    pending = data[body : body + held * _PENDING_SIZE].view(_PENDING)
    flat = data[body + held * _PENDING_SIZE :].view(_TILE)
    tiles.read_tiles(pending, flat, counts, as_of, table)
    return True


@kernel
def fill_vector(  # noqa: PLR0913, PLR0917  # a kernel takes numbers, and a call in it is not free
    card: bytes,
    device: bytes,
    ip: bytes,
    merchant: bytes,
    card_id: bytes,
    merchant_id: bytes,
    as_of: int,
    amount: int,
    channel: int,
    category: int,
    has_device: bool,  # noqa: FBT001  # a kernel's arguments have no names
    foreign: float,
    latitude: int,
    longitude: int,
    card_profile: Numbers,
    merchant_profile: Numbers,
    scratch: npt.NDArray[np.int64],
    out: FloatArray,
) -> bool:
    """Fill ``out``, shape ``(LENGTH,)``; false, with ``out`` undefined, when a state is not of the version known here.

    Parameters
    ----------
    card, device, ip, merchant
        States; empty for an entity never seen.
    card_id, merchant_id
        UTF-8.
    foreign
        1 or 0; NaN without a profile.
    latitude, longitude
        In 1e-5 degrees, or ``fraud.ring.NOWHERE``.
    """
    card_data = np.frombuffer(card, np.uint8)
    device_data = np.frombuffer(device, np.uint8)
    ip_data = np.frombuffer(ip, np.uint8)
    if not (_is_ring(card_data) and _is_ring(device_data) and _is_ring(ip_data)):
        return False
    table = np.empty(ring.RING_TABLE)
    tile_table = np.empty(tiles.TILE_TABLE)
    if not _read_tiles(np.frombuffer(merchant, np.uint8), as_of, tile_table):
        return False
    card_name = np.frombuffer(card_id, np.uint8)
    merchant_name = np.frombuffer(merchant_id, np.uint8)
    party = int(_hash_slice(card_name, 0, len(card_name)) & np.uint64(0xFFFFFFFF))
    shop = int(_hash_slice(merchant_name, 0, len(merchant_name)) & np.uint64(0xFFFFFFFF))
    spent = np.float64(amount)
    out[0] = spent
    out[1] = as_of % DAY // HOUR
    out[2] = (as_of // DAY + 3) % 7
    out[3] = channel
    out[4] = category
    out[5] = 1.0 if has_device else 0.0
    out[6] = foreign
    out[7] = _ratio(spent, card_profile[1])
    out[8] = _ratio(spent, merchant_profile[1])
    _read_ring(card_data, as_of, shop, latitude, longitude, scratch, table)
    at = _CONTEXT
    for position in _CARD:
        out[at] = table[position]
        at += 1
    mean, top, std = table[_CARD_MEAN], table[_CARD_MAX], table[_CARD_STD]
    _read_ring(device_data, as_of, party, latitude, longitude, scratch, table)
    for position in _DEVICE:
        out[at] = table[position]
        at += 1
    _read_ring(ip_data, as_of, party, latitude, longitude, scratch, table)
    for position in _IP:
        out[at] = table[position]
        at += 1
    for position in _MERCHANT:
        out[at] = tile_table[position]
        at += 1
    out[at] = _ratio(spent, mean)
    out[at + 1] = _ratio(spent, top)
    out[at + 2] = (spent - mean) / std if std > 0.0 else np.nan
    out[at + 3] = _ratio(spent, tile_table[_MERCHANT_MEAN])
    at += _CROSS
    out[at], out[at + 1], out[at + 2] = card_profile[0], card_profile[1], card_profile[2]
    out[at + 3], out[at + 4], out[at + 5] = merchant_profile[0], merchant_profile[1], merchant_profile[2]
    return True
