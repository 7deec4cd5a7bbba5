"""Many entities' updates in one compiled call: what :func:`fraud.velocity.update` does one by one, to the same bits.

A call into a kernel costs more than the update itself, and a batch of the stream touches hundreds of entities a few
times each. So the states are laid end to end, updated in one pass, and cut apart again.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud import ring, tiles
from fraud.errors import InvalidState
from fraud.kernels import kernel
from fraud.ring import Entries
from fraud.states import pack_ring, pack_tiles, unpack_ring, unpack_tiles
from fraud.windows import RING_KEEP, WINDOWS

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_RING_HEAD: Final = 8
"""Bytes in front of a ring's entries; :func:`_ring_head` takes them from the layout itself."""


@dataclass(frozen=True)
class Updates:
    """What became of many states.

    Parameters
    ----------
    states
        After the update; the very same bytes where nothing changed.
    fates
        What became of each change (``TOOK``, ``REPEATED`` or ``TOO_LATE`` of :mod:`fraud.ring`), shape ``(n,)``.
    refused
        By place, why a state could not be read; its bytes stay and none of its changes took.
    """

    states: list[bytes]
    fates: npt.NDArray[np.int8]
    refused: dict[int, InvalidState] = field(default_factory=dict)

    @property
    def took(self) -> BoolArray:
        """Whether each change changed anything."""
        return np.asarray(self.fates == ring.TOOK, np.bool_)


def update_rings(states: Sequence[bytes], changes: Entries, starts: IntArray) -> Updates:
    """Return the rings after their changes; ``changes[starts[i]:starts[i + 1]]`` belong to ``states[i]``."""
    done = Updates(list(states), np.zeros(len(changes), np.int8))
    lengths, bodies = [], []
    for place, state in enumerate(states):
        try:
            lengths.append(ring_length(state))
        except InvalidState as error:
            done.refused[place] = error
            lengths.append(0)
        else:
            bodies.append(state[_RING_HEAD:])
    held = np.frombuffer(bytearray().join(bodies), ring.ENTRY)
    length = np.array(lengths, np.int64)
    room = _starts(np.minimum(length + np.diff(starts), RING_KEEP + 1))
    out = np.empty(room[-1], ring.ENTRY)
    after = np.zeros(len(states), np.int64)
    usable = _usable(len(states), done.refused)
    _insert_many(held, _starts(length), changes, starts, usable, out, room, after, done.fates)
    changed = _changed(done.took, starts)
    whole, size = out.tobytes(), ring.ENTRY.itemsize
    for place, first, count, new in zip(range(len(states)), room.tolist(), after.tolist(), changed, strict=False):
        if new:
            done.states[place] = _ring_head(count) + whole[first * size : (first + count) * size]
    return done


def update_tiles(states: Sequence[bytes], changes: Entries, starts: IntArray) -> Updates:
    """Return the tiles after their changes; ``changes[starts[i]:starts[i + 1]]`` belong to ``states[i]``."""
    done = Updates(list(states), np.zeros(len(changes), np.int8))
    counts = np.zeros((len(states), len(WINDOWS)), np.int64)
    watermarks = np.zeros(len(states), np.int64)
    lengths = np.zeros(len(states), np.int64)
    waiting, tiled = [], []
    for place, state in enumerate(states):
        try:
            pending, watermark, tiled_here, count = _bounded_tiles(state)
        except InvalidState as error:
            done.refused[place] = error
            continue
        watermarks[place], counts[place], lengths[place] = watermark, count, len(pending)
        waiting.append(pending.tobytes())
        tiled.append(tiled_here.tobytes())
    held = np.frombuffer(bytearray().join(waiting), tiles.PENDING)
    flat = np.frombuffer(bytearray().join(tiled), tiles.TILE)
    room = _starts(np.minimum(lengths + np.diff(starts), tiles.PENDING_KEEP) + 1)
    out = np.empty(room[-1], tiles.PENDING)
    grids = np.empty((len(states), len(WINDOWS), tiles.ROOM), tiles.TILE)
    usable = _usable(len(states), done.refused)
    items = as_pending(changes)
    _apply_many(held, flat, items, starts, usable, out, room, lengths, watermarks, grids, counts, done.fates)
    for place, new in enumerate(_changed(done.took, starts)):
        if new:
            left = out[room[place] : room[place] + lengths[place]]
            done.states[place] = pack_tiles(left, int(watermarks[place]), grids[place], counts[place])
    return done


def as_pending(changes: Entries) -> Entries:
    """Return what the pending of :mod:`fraud.tiles` keep of ``changes``."""
    items = np.zeros(len(changes), tiles.PENDING)
    for name in ("time", "id", "amount", "flags"):
        items[name] = changes[name]
    return items


def _starts(lengths: IntArray) -> IntArray:
    out = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    return out


def _usable(count: int, refused: dict[int, InvalidState]) -> BoolArray:
    usable = np.ones(count, np.bool_)
    usable[list(refused)] = False
    return usable


def _changed(took: BoolArray, starts: IntArray) -> list[int]:
    """Return how many changes of each entity changed anything."""
    counts: list[int] = np.diff(_starts(took.astype(np.int64))[starts]).tolist()
    return counts


def ring_length(state: bytes) -> int:
    """Return how many entries a ring holds.

    Raises
    ------
    InvalidState
        Not a ring of a known version, torn, or longer than its bound.
    """
    if not state:
        return 0
    length, rest = divmod(len(state) - _RING_HEAD, ring.ENTRY.itemsize)
    if rest == 0 and 0 <= length <= RING_KEEP and state[:_RING_HEAD] == _ring_head(length):
        return length
    held = len(unpack_ring(state))  # says what is wrong
    raise InvalidState(f"a ring of {held} entries is longer than {RING_KEEP}")


def _bounded_tiles(state: bytes) -> tuple[Entries, int, Entries, IntArray]:
    """Return what :func:`fraud.states.unpack_tiles` does, refusing what no update can have left behind."""
    pending, watermark, flat, counts = unpack_tiles(state)
    if len(pending) > tiles.PENDING_KEEP or counts.max() > tiles.ROOM:
        raise InvalidState(f"{len(pending)} pending and {counts.max()} tiles of one window are more than are ever kept")
    return pending, watermark, flat, counts


@functools.cache
def _ring_head(length: int) -> bytes:
    return pack_ring(np.zeros(length, ring.ENTRY))[:_RING_HEAD]


@kernel
def _insert_many(  # noqa: PLR0913, PLR0917  # a kernel takes flat arrays
    held: Entries,
    held_starts: IntArray,
    changes: Entries,
    starts: IntArray,
    usable: BoolArray,
    out: Entries,
    room_starts: IntArray,
    after: IntArray,
    fates: npt.NDArray[np.int8],
) -> None:
    for key in range(len(usable)):
        room = out[room_starts[key] : room_starts[key + 1]]
        length = held_starts[key + 1] - held_starts[key]
        for index in range(length):
            room[index] = held[held_starts[key] + index]
        for index in range(starts[key], starts[key + 1] if usable[key] else starts[key]):
            longer = ring.insert_entry(room, length, changes[index : index + 1])
            if longer < 0:
                fates[index] = -1 - longer
                continue
            fates[index] = ring.TOOK
            first = ring.first_kept(room, longer)
            for place in range(first, longer if first > 0 else 0):
                room[place - first] = room[place]
            length = longer - first
        after[key] = length


@kernel
def _apply_many(  # noqa: PLR0913, PLR0917  # a kernel takes flat arrays
    held: Entries,
    flat: Entries,
    items: Entries,
    starts: IntArray,
    usable: BoolArray,
    out: Entries,
    room_starts: IntArray,
    lengths: IntArray,
    watermarks: IntArray,
    grids: Entries,
    counts: IntArray,
    fates: npt.NDArray[np.int8],
) -> None:
    next_held = 0
    next_tile = 0
    for key in range(len(usable)):
        room = out[room_starts[key] : room_starts[key + 1]]
        length = lengths[key]
        for index in range(length):
            room[index] = held[next_held]
            next_held += 1
        for window in range(counts.shape[1]):
            for index in range(counts[key, window]):
                grids[key, window, index] = flat[next_tile]
                next_tile += 1
        watermark = watermarks[key]
        for index in range(starts[key], starts[key + 1] if usable[key] else starts[key]):
            item = items[index : index + 1]
            length, watermark, fates[index] = tiles.apply_pending(
                room, length, watermark, item, grids[key], counts[key]
            )
        lengths[key] = length
        watermarks[key] = watermark
