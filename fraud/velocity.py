"""Velocity: what an entity did recently. ``update(state, change) -> state``; ``read(state, as_of) -> values``.

The one algebra of the stream, the backfill, the scorer and the tests. A state is bytes (:mod:`fraud.ring`,
:mod:`fraud.tiles`); no bytes is a new entity. A read takes a time, so a quiet entity's counts fall to zero by
themselves, and sees only what lies strictly before it. A repeat changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud import ring, tiles
from fraud.hashing import hash32, hash64, hash_slices
from fraud.kernels import kernel
from fraud.states import newest_of_ring, newest_of_tiles, pack_ring, pack_tiles, unpack_ring, unpack_tiles
from fraud.transaction import Transaction
from fraud.updates import Updates, as_pending, ring_length, update_rings, update_tiles
from fraud.windows import ENTITIES, JOIN_KEYS, KINDS, PARTIES, RING_KEEP, VELOCITY_FEATURES, WINDOWS, Entity

FloatArray = npt.NDArray[np.float64]
Changes = npt.NDArray[np.void]
"""Records of :data:`fraud.ring.ENTRY`: what happened to one entity, one record each."""

POSITIONS: Final = {
    entity: np.array([feature.position for feature in features], np.int64)
    for entity, features in VELOCITY_FEATURES.items()
}
TABLE_LENGTH: Final = {e: ring.RING_TABLE if KINDS[e] == "ring" else tiles.TILE_TABLE for e in ENTITIES}


@dataclass(frozen=True)
class Question:
    """What is being asked of a state: the windows of a transaction about to be scored.

    Parameters
    ----------
    as_of_ms
        The transaction's event time; nothing at or after it is seen.
    party
        Hash of the entity's counterpart (:data:`fraud.windows.PARTIES`).
    latitude, longitude
        In 1e-5 degrees, or ``NOWHERE``.
    """

    as_of_ms: int
    party: int
    latitude: int = ring.NOWHERE
    longitude: int = ring.NOWHERE


def entity_key(entity: Entity, transaction: Transaction) -> str | None:
    """Return the join key of ``entity`` in ``transaction``; null where it has none (a card payment in a shop)."""
    key: str | None = getattr(transaction, JOIN_KEYS[entity])
    return key


def parties(entity: Entity, transaction: Transaction) -> tuple[int, int]:
    """Return the hashes that the entity's ring keeps as ``party`` and ``other``; 0 is none."""
    party, other = (entity_key(who, transaction) for who in PARTIES[entity])
    return 0 if party is None else hash32(party), 0 if other is None else hash32(other)


def question(entity: Entity, transaction: Transaction) -> Question:
    """Return what a transaction about to be scored asks of its ``entity``."""
    return Question(
        transaction.event_time_ms,
        parties(entity, transaction)[0],
        _place(transaction.latitude),
        _place(transaction.longitude),
    )


def transaction_change(entity: Entity, transaction: Transaction) -> Changes:
    """Return the change, shape ``(1,)``, that a transaction makes to its ``entity``."""
    party, other = parties(entity, transaction)
    flags = ring.DECLINED if transaction.authorised is False else 0
    place = _place(transaction.latitude), _place(transaction.longitude)
    code = country_code(transaction.country)
    key = hash64(transaction.transaction_id)
    row = (transaction.event_time_ms, key, transaction.amount_minor, party, other, *place, code, flags, 0)
    return np.array([row], ring.ENTRY)


def transaction_changes(transactions: Sequence[Transaction]) -> dict[Entity, Changes]:
    """Return :func:`transaction_change` of many, shape ``(n,)``, for each kind of entity."""
    out = np.zeros(len(transactions), ring.ENTRY)
    out["time"] = [transaction.event_time_ms for transaction in transactions]
    out["id"] = _hashes([transaction.transaction_id for transaction in transactions])
    out["amount"] = [transaction.amount_minor for transaction in transactions]
    out["latitude"] = [_place(transaction.latitude) for transaction in transactions]
    out["longitude"] = [_place(transaction.longitude) for transaction in transactions]
    out["country"] = [country_code(transaction.country) for transaction in transactions]
    out["flags"] = [ring.DECLINED if transaction.authorised is False else 0 for transaction in transactions]
    known: set[Entity] = {who for pair in PARTIES.values() for who in pair}
    hashes = {who: _key_hashes(who, transactions) for who in known}
    changes: dict[Entity, Changes] = {entity: out.copy() for entity in ENTITIES}
    for entity, some in changes.items():
        some["party"], some["other"] = (hashes[who] for who in PARTIES[entity])
    return changes


def report_change(transaction_id: str, known_ms: int) -> Changes:
    """Return the change, shape ``(1,)``, of a fraud report that became known at ``known_ms``.

    It is counted by the time it became known, which is what keeps a report out of every value before it.
    """
    row = (known_ms, hash64(transaction_id), 0, 0, 0, ring.NOWHERE, ring.NOWHERE, 0, ring.REPORT, 0)
    return np.array([row], ring.ENTRY)


def country_code(country: str) -> int:
    """Return 1..676 for an alpha-2 code.

    Examples
    --------
    >>> country_code("AA"), country_code("ZZ")
    (1, 676)
    """
    return (ord(country[0]) - 65) * 26 + ord(country[1]) - 64


def _key_hashes(entity: Entity, transactions: Sequence[Transaction]) -> npt.NDArray[np.uint64]:
    """Return the hash that a ring keeps of each transaction's ``entity``; 0 where it has none."""
    keys = [entity_key(entity, transaction) for transaction in transactions]
    hashes = _hashes([key or "" for key in keys]) & np.uint64(0xFFFFFFFF)
    hashes[[key is None for key in keys]] = 0
    return hashes


def _hashes(identifiers: Sequence[str]) -> npt.NDArray[np.uint64]:
    texts = [identifier.encode() for identifier in identifiers]
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return hash_slices(np.frombuffer(b"".join(texts), np.uint8), offsets)


def _place(degrees: float | None) -> int:
    return ring.NOWHERE if degrees is None else round(degrees * 1e5)


def update(entity: Entity, state: bytes, changes: Changes) -> tuple[bytes, int]:
    """Return the state after ``changes``, and how many of them changed anything.

    A repeat, and a transaction beyond the stated lateness, change nothing; then the very same bytes come back.

    Parameters
    ----------
    state
        Bytes of an earlier update; empty for a new entity.
    changes
        Shape ``(n,)``, in any order.

    Raises
    ------
    InvalidState
        ``state`` is not a state of this kind of entity.
    """
    apply = _update_ring if KINDS[entity] == "ring" else _update_tiles
    return apply(state, changes)


def update_many(entity: Entity, states: Sequence[bytes], changes: Changes, starts: npt.NDArray[np.int64]) -> Updates:
    """Return what :func:`update` makes of many states, bit for bit, in one compiled call.

    A state that cannot be read is refused alone, and told in :class:`fraud.updates.Updates`.

    Parameters
    ----------
    states
        As in :func:`update`, each of another entity of one kind.
    changes
        Of all of them; those of ``states[i]`` are ``changes[starts[i]:starts[i + 1]]``, in any order.
    starts
        Shape ``(len(states) + 1,)``.
    """
    apply = update_rings if KINDS[entity] == "ring" else update_tiles
    return apply(states, changes, starts)


def _update_ring(state: bytes, changes: Changes) -> tuple[bytes, int]:
    kept = unpack_ring(state)
    room = np.zeros(min(len(kept) + len(changes), RING_KEEP) + 1, ring.ENTRY)
    room[: len(kept)] = kept
    length, changed = _insert_all(room, len(kept), changes)
    if not changed:
        return state, 0
    return pack_ring(room[:length]), changed


def _update_tiles(state: bytes, changes: Changes) -> tuple[bytes, int]:
    pending, watermark, flat, counts = unpack_tiles(state)
    room = np.zeros(min(len(pending) + len(changes), tiles.PENDING_KEEP) + 1, tiles.PENDING)
    room[: len(pending)] = pending
    grid = np.zeros((len(WINDOWS), tiles.ROOM), tiles.TILE)
    start = 0
    for window, count in enumerate(counts):
        grid[window, :count] = flat[start : start + count]
        start += count
    length, watermark, changed = _apply_all(room, len(pending), watermark, as_pending(changes), grid, counts)
    if not changed:
        return state, 0
    return pack_tiles(room[:length], watermark, grid, counts), changed


@kernel
def _insert_all(room: Changes, length: int, changes: Changes) -> tuple[int, int]:
    changed = 0
    for index in range(len(changes)):
        after = ring.insert_entry(room, length, changes[index : index + 1])
        if after < 0:
            continue
        changed += 1
        first = ring.first_kept(room, after)
        for place in range(first, after if first > 0 else 0):
            room[place - first] = room[place]
        length = after - first
    return length, changed


@kernel
def _apply_all(
    room: Changes, length: int, watermark: int, items: Changes, grid: Changes, counts: npt.NDArray[np.int64]
) -> tuple[int, int, int]:
    changed = 0
    for index in range(len(items)):
        item = items[index : index + 1]
        length, watermark, fate = tiles.apply_pending(room, length, watermark, item, grid, counts)
        changed += fate == ring.TOOK
    return length, watermark, changed


def read(entity: Entity, state: bytes, asked: Question, scratch: npt.NDArray[np.int64]) -> FloatArray:
    """Return every declared value of ``entity`` as of a time, in declared order; NaN is null.

    Parameters
    ----------
    state
        Bytes of :func:`update`; empty for an entity never seen, whose counts are zero.
    scratch
        From :func:`fraud.ring.new_scratch`; one per thread.

    Raises
    ------
    InvalidState
        ``state`` is not a state of this kind of entity.
    """
    table = np.empty(TABLE_LENGTH[entity])
    if KINDS[entity] == "ring":
        entries = unpack_ring(state)
        place = asked.latitude, asked.longitude
        ring.read_entries(entries, 0, len(entries), asked.as_of_ms, asked.party, *place, scratch, table)
    else:
        pending, _, flat, counts = unpack_tiles(state)
        tiles.read_tiles(pending, flat, counts, asked.as_of_ms, table)
    return table[POSITIONS[entity]]


def check_state(entity: Entity, state: bytes) -> None:
    """Raise :class:`InvalidState` for bytes that are no whole state of this kind of entity; empty ones are."""
    if KINDS[entity] == "ring":
        ring_length(state)
    else:
        unpack_tiles(state)


def newest_time_ms(entity: Entity, state: bytes) -> int:
    """Return the time of the newest change a state holds whole, epoch ms; 0 for an empty one.

    ``state`` is of this kind of entity and whole, as :func:`update` leaves it: nothing is checked again.
    """
    return newest_of_ring(state) if KINDS[entity] == "ring" else newest_of_tiles(state)


def state_from_history(entity: Entity, changes: Changes) -> tuple[bytes, int]:
    """Return the state that one entity's whole sorted history leaves behind, and how many changes it took."""
    if KINDS[entity] == "ring":
        return (pack_ring(_kept(changes)) if len(changes) else b""), len(changes)
    return update(entity, b"", changes)


def states_from_history(entity: Entity, changes: Changes, starts: npt.NDArray[np.int64]) -> list[tuple[bytes, int]]:
    """Return :func:`state_from_history` of many entities, whose changes are ``changes[starts[i]:starts[i + 1]]``."""
    bounds = list(pairwise(starts.tolist()))
    if KINDS[entity] == "ring":
        return [state_from_history(entity, changes[first:last]) for first, last in bounds]
    done = update_tiles([b""] * len(bounds), changes, starts)
    return [(state, int(done.took[first:last].sum())) for state, (first, last) in zip(done.states, bounds, strict=True)]


def _kept(changes: Changes) -> Changes:
    """Return what a ring keeps of a sorted history."""
    first = np.searchsorted(changes["time"], changes["time"][-1] - ring.HORIZON_MS)
    return changes[max(int(first), len(changes) - RING_KEEP) :]


def feature_names(entities: Iterable[Entity] = ENTITIES) -> Sequence[str]:
    """Return the names of every velocity feature, entity by entity, in declared order."""
    return [feature.name for entity in entities for feature in VELOCITY_FEATURES[entity]]
