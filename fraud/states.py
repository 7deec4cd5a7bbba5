"""The bytes of a velocity state: little endian, a version and a kind in front, exactly as long as they say.

A ring (version 1): ``version u8, kind u8 = 1, unused u16, length u32``, then entries of :data:`fraud.ring.ENTRY`.

Tiles (version 2): ``version u8, kind u8 = 2, pending u16, watermark i64, tiles u16 x 6, unused u32``, then the pending
of :data:`fraud.tiles.PENDING`, then the tiles of each resolution, :data:`fraud.tiles.TILE`. Version 1 had tiles without
the count of unusually large amounts; it is read as if there had been none, and written back as version 2.
"""

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud import ring, tiles
from fraud.errors import InvalidState
from fraud.windows import WINDOWS

Records = npt.NDArray[np.void]
IntArray = npt.NDArray[np.int64]

RING: Final = 1
TILES: Final = 2
RING_VERSION: Final = 1
TILE_VERSION: Final = 2
_KNOWN: Final = frozenset({(RING_VERSION, RING), (1, TILES), (TILE_VERSION, TILES)})

_RING_HEADER: Final = struct.Struct("<BBHI")
_TILE_HEADER: Final = struct.Struct("<BBHq6HI")
_TILE_1: Final = np.dtype([(name, tiles.TILE[name]) for name in (tiles.TILE.names or ()) if name != "large"])


def looks_like_state(held: bytes) -> bool:
    """Return whether bytes begin like a state of a version that can be read."""
    return len(held) >= _RING_HEADER.size and (held[0], held[1]) in _KNOWN


def pack_ring(entries: Records) -> bytes:
    """Return the state of sorted ``entries``."""
    return _RING_HEADER.pack(RING_VERSION, RING, 0, len(entries)) + entries.tobytes()


def unpack_ring(state: bytes) -> Records:
    """Return the entries of a ring; empty bytes are a new entity.

    Raises
    ------
    InvalidState
        Not a ring of a known version, or torn.
    """
    if not state:
        return np.empty(0, ring.ENTRY)
    if len(state) < _RING_HEADER.size:
        raise InvalidState(f"a ring state of {len(state)} bytes has no header")
    version, kind, _, length = _RING_HEADER.unpack_from(state)
    if (version, kind) != (RING_VERSION, RING):
        raise InvalidState(f"version {version} kind {kind} is not a ring of version {RING_VERSION}")
    if len(state) != _RING_HEADER.size + length * ring.ENTRY.itemsize:
        raise InvalidState(f"a ring of {length} entries cannot have {len(state)} bytes")
    return np.frombuffer(state, ring.ENTRY, length, _RING_HEADER.size)


def newest_of_ring(state: bytes) -> int:
    """Return the time of the last entry of a whole ring, epoch ms; 0 of one without."""
    place = len(state) - ring.ENTRY.itemsize
    return int.from_bytes(state[place : place + 8], "little", signed=True) if place > 0 else 0


def newest_of_tiles(state: bytes) -> int:
    """Return the time of the last of the pending of whole tiles, epoch ms; 0 of a state without."""
    held = int.from_bytes(state[2:4], "little")
    place = _TILE_HEADER.size + (held - 1) * tiles.PENDING.itemsize
    return int.from_bytes(state[place : place + 8], "little", signed=True) if held else 0


def pack_tiles(pending: Records, watermark: int, grid: Records, counts: IntArray) -> bytes:
    """Return the state of sorted ``pending`` and of the first ``counts[w]`` tiles of each row ``w`` of ``grid``."""
    header = _TILE_HEADER.pack(TILE_VERSION, TILES, len(pending), watermark, *counts.tolist(), 0)
    return header + pending.tobytes() + b"".join(grid[row, :count].tobytes() for row, count in enumerate(counts))


def unpack_tiles(state: bytes) -> tuple[Records, int, Records, IntArray]:
    """Return pending, watermark, tiles of all resolutions one after another, and how many each has.

    Raises
    ------
    InvalidState
        Not tiles of a known version, or torn.
    """
    if not state:
        return np.empty(0, tiles.PENDING), 0, np.empty(0, tiles.TILE), np.zeros(len(WINDOWS), np.int64)
    if len(state) < _TILE_HEADER.size:
        raise InvalidState(f"a tile state of {len(state)} bytes has no header")
    version, kind, held, watermark, *counts, _ = _TILE_HEADER.unpack_from(state)
    if kind != TILES or version not in (1, TILE_VERSION):
        raise InvalidState(f"version {version} kind {kind} is not tiles of version {TILE_VERSION}")
    layout = tiles.TILE if version == TILE_VERSION else _TILE_1
    body = _TILE_HEADER.size + held * tiles.PENDING.itemsize
    if len(state) != body + sum(counts) * layout.itemsize:
        raise InvalidState(f"{held} pending and {sum(counts)} tiles cannot have {len(state)} bytes")
    pending = np.frombuffer(state, tiles.PENDING, held, _TILE_HEADER.size)
    flat = np.frombuffer(state, layout, sum(counts), body)
    return pending, watermark, flat if layout is tiles.TILE else _with_large(flat), np.array(counts, np.int64)


def _with_large(old: Records) -> Records:
    flat = np.zeros(len(old), tiles.TILE)
    for name in old.dtype.names or ():
        flat[name] = old[name]
    return flat
