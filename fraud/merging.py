"""Two states of one entity made one: what a batch knows, and what the stream has brought since.

Needed when the stream began anew, from an empty store, before the history was loaded. A ring is a set of changes, and
the union of two is exactly the ring of all of them. Of tiles the same is true as long as the stream has folded nothing
yet. What it has folded are sums, which can be added to the batch's only when both are about different changes: when all
that the stream brought is newer than the batch. Then every sum is exact. What was *unusually large* stays as it was
judged when it was folded, by what the stream knew of the merchant then, and is right again once that has left the
windows. Where sums may overlap, nothing is joined.
"""

import numpy as np
import numpy.typing as npt

from fraud import ring, tiles
from fraud.states import pack_tiles, unpack_ring, unpack_tiles
from fraud.velocity import Changes, newest_time_ms, update
from fraud.windows import KINDS, WINDOWS, Entity

Records = npt.NDArray[np.void]
IntArray = npt.NDArray[np.int64]

_EVERY = np.iinfo(np.int64).max


def merge(entity: Entity, batch: bytes, streamed: bytes) -> bytes | None:
    """Return the state that holds both; null where they may share changes that cannot be told apart any more.

    Parameters
    ----------
    batch
        Of the history up to its newest change, complete but for what comes late.
    streamed
        What the stream has made of an empty state, or of an earlier batch.

    Raises
    ------
    InvalidState
        One of them is not a state of this kind of entity.
    """
    if KINDS[entity] == "ring":
        return update(entity, batch, unpack_ring(streamed))[0]
    pending, watermark, flat, counts = unpack_tiles(streamed)
    if watermark == 0:
        return update(entity, batch, _whole(pending))[0]
    if _oldest_ms(flat, counts) <= newest_time_ms(entity, batch):
        return None
    grid, held = _folded(batch)
    joined = np.zeros_like(grid)
    start = 0
    for window, count in enumerate(counts):
        both = _added(grid[window, : held[window]], flat[start : start + count])
        both = both[both["bucket"] >= tiles.oldest_kept(int(both["bucket"][-1]), window)]
        joined[window, : len(both)] = both
        held[window] = len(both)
        start += count
    return pack_tiles(pending, watermark, joined, held)


def _whole(pending: Records) -> Changes:
    """Return pending as the changes that made them; what tiles do not keep is empty."""
    changes = np.zeros(len(pending), ring.ENTRY)
    for name in ("time", "id", "amount", "flags"):
        changes[name] = pending[name]
    return changes


def _oldest_ms(flat: Records, counts: IntArray) -> int:
    """Return a time that no folded change lies before, as late as the tiles can tell.

    Every resolution that has not yet dropped a tile has folded as many changes as that of the longest window.
    """
    rows = np.split(flat, np.cumsum(counts)[:-1])
    folded = [int(row["count"].sum()) + int(row["report"].sum()) for row in rows]
    firsts = [int(row["bucket"][0]) * int(tiles.TILES[window]) if len(row) else 0 for window, row in enumerate(rows)]
    return max(first for first, count in zip(firsts, folded, strict=True) if count == folded[tiles.MONTH])


def _folded(batch: bytes) -> tuple[Records, IntArray]:
    """Return the tiles of a state once all of it is folded: a row for each resolution, and how many each has."""
    pending, watermark, flat, counts = unpack_tiles(batch)
    grid = np.zeros((len(WINDOWS), tiles.ROOM), tiles.TILE)
    start = 0
    for window, count in enumerate(counts):
        grid[window, :count] = flat[start : start + count]
        start += count
    tiles.fold_before(pending.copy(), len(pending), _EVERY, watermark, grid, counts)
    return grid, counts


def _added(one: Records, other: Records) -> Records:
    both = np.concatenate([one, other])
    buckets, place = np.unique(both["bucket"], return_inverse=True)
    out = np.zeros(len(buckets), tiles.TILE)
    for name in tiles.TILE.names or ():
        np.add.at(out[name], place, both[name])
    out["bucket"] = buckets
    return out
