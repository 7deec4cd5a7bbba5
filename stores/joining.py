"""When a batch is about less than the store holds: the two states are made one instead of one replacing the other.

The guards of :mod:`stores.guards` and :mod:`stores.dynamodb_layout` leave out a state of more changes whose newest is
older than what is stored: the stream began anew before the history was loaded. Such rows are rare. They are read,
joined by :mod:`fraud.merging` and written over what was read, again when another writer came first.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from fraud.errors import InvalidState, StateConflict
from fraud.merging import merge
from fraud.velocity import newest_time_ms
from fraud.windows import Entity
from stores.guards import SWAP_STATE, StateView, state_fields
from stores.layout import decode_value

ATTEMPTS: Final = 8
"""How often a state that other writers change meanwhile is read and joined again."""


@dataclass(frozen=True)
class Counted:
    """A state and its revision; no bytes and 0 of an entity that is not held."""

    state: bytes
    revision: int


@dataclass(frozen=True)
class Joined:
    """A state of a batch and of the stream in one.

    Its revision, the sum of both, is greater than either, so that a writer that read one of them writes no more.
    """

    state: bytes
    revision: int
    newest_ms: int


def counted(state: bytes | None, revision: bytes | None) -> Counted:
    """Return what two serialised values say."""
    held, number = decode_value(state), decode_value(revision)
    return Counted(held if isinstance(held, bytes) else b"", number if isinstance(number, int) else 0)


def join(entity: Entity, batch: Counted, stored: Counted) -> Joined | None:
    """Return what to write over ``stored``; null where that stays: it holds all of ``batch``, or cannot be joined.

    A stored state that cannot be joined with a batch is logged, without its key.
    """
    try:
        merged = merge(entity, batch.state, stored.state)
    except InvalidState:
        merged = None
    if merged is None:
        logging.getLogger(__name__).warning(
            "a %s state newer than its batch was kept, and could not be joined with it; "
            "docs/runbook.md says how to rebuild the online store",
            entity,
        )
    if merged is None or merged == stored.state:
        return None
    return Joined(merged, batch.revision + stored.revision, newest_time_ms(entity, merged))


def join_rows(
    client: Any, entity: Entity, view: StateView, rows: Iterable[tuple[bytes, Counted]], lifetime_s: int
) -> None:
    """Join states of a batch with what Redis holds.

    Parameters
    ----------
    client
        redis-py's, of a node or a cluster.
    rows
        Key of each entity, as Redis has it, and its state in the batch.
    lifetime_s
        After which Redis forgets an entity that was written; 0 for never.

    Raises
    ------
    StateConflict
        Other writers changed one of them ``ATTEMPTS`` times over.
    """
    for key, batch in rows:
        for _ in range(ATTEMPTS):
            state, revision = client.hmget(key, [view.state, view.revision])
            made = join(entity, batch, counted(state, revision))
            if made is None:
                break
            fields = state_fields(view, made.state, made.revision, made.newest_ms)
            if client.eval(SWAP_STATE, 1, key, view.revision, revision or b"", lifetime_s, *fields):
                break
        else:
            raise StateConflict(f"other writers changed a {entity} {ATTEMPTS} times over")
