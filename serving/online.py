"""What the online store knows of a transaction's card, device, network address and merchant: read once, told honestly.

A view that could not be read is *missing*: its features are null, never zero, because zero means "never seen". A
profile older than allowed is used and reported *stale*.
"""

from collections.abc import Sequence

import msgspec

from fraud import velocity
from fraud.errors import InvalidState, StoreUnavailable
from fraud.features import NO_PROFILES, Profiles
from fraud.transaction import Transaction
from fraud.windows import ENTITIES, Entity
from serving.decoding import (
    UNREADABLE,
    decode_number,
    decode_profile_time,
    decode_revision,
    decode_state,
    decode_text,
    decode_time,
)
from serving.model import Model
from serving.store import OnlineStore, Reply


class Online(msgspec.Struct, frozen=True):
    """What was read for one transaction.

    Parameters
    ----------
    states
        Velocity state of each entity; empty for one never seen.
    profiles
        Batch profiles; null where there is none.
    unread
        Entities of which nothing could be read.
    missing, stale
        Views that could not be read; profile views older than allowed.
    stored_revisions
        Per entity that was read, its revision as stored; empty for one never seen.
    stored_times
        Per view that was read, its event time as stored; null when it was never written.
    """

    states: dict[Entity, bytes]
    profiles: Profiles
    unread: tuple[Entity, ...]
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    stored_revisions: dict[Entity, bytes]
    stored_times: dict[str, bytes | None]

    def revisions(self) -> dict[str, int]:
        """Return per entity the number of changes behind its state."""
        return {entity: decode_revision(stored) for entity, stored in self.stored_revisions.items()}

    def times_ms(self) -> dict[str, int | None]:
        """Return per view the event time of what was read; null when it was never written."""
        return {view: decode_time(stored) for view, stored in self.stored_times.items()}


async def read_online(transaction: Transaction, model: Model, store: OnlineStore, *, stale_after_ms: int) -> Online:
    """Read all views of a transaction's entities in one round trip; what cannot be read is missing, never an error."""
    keys = {
        "card_id": transaction.card_id,
        "device_id": transaction.device_id or "",
        "ip": transaction.ip or "",
        "merchant_id": transaction.merchant_id,
    }
    try:
        replies = await store.fetch(model.reader, keys)
    except StoreUnavailable:
        return nothing_read(model)
    online = gather(replies, model, oldest_ms=transaction.event_time_ms - stale_after_ms)
    if len(online.unread) < len(ENTITIES):
        store.answered()
    else:
        store.failed()
    return online


def nothing_read(model: Model) -> Online:
    """Return what is known without the online store: every view of the model's plan is missing."""
    views = tuple(view for planned in model.reader.plan.entities for view in planned.views)
    return Online(dict.fromkeys(ENTITIES, b""), NO_PROFILES, ENTITIES, views, (), {}, {})


def gather(replies: Sequence[Reply], model: Model, *, oldest_ms: int) -> Online:
    """Return what ``replies`` to the model's plan say; an entity whose reply is an error or does not decode is unread.

    Parameters
    ----------
    oldest_ms
        Profiles of an earlier event time are stale.
    """
    states: dict[Entity, bytes] = {}
    revisions: dict[Entity, bytes] = {}
    times: dict[str, bytes | None] = {}
    numbers = {"card": NO_PROFILES.card, "merchant": NO_PROFILES.merchant}
    home: str | None = None
    unread: list[Entity] = []
    stale: list[str] = []
    for places in model.places:
        reply, entity = replies[places.index], places.entity
        try:
            state = decode_state(reply[places.state])
            found = tuple([decode_number(reply[place]) for place in places.numbers])
            text = decode_text(reply[places.home]) if entity == "card" else None
            aged = [(view, decode_profile_time(reply[place])) for view, place in places.profiles]
        except UNREADABLE:
            unread.append(entity)
            states[entity] = b""
            continue
        states[entity] = state
        numbers[entity] = found
        home = text if entity == "card" else home
        revisions[entity] = reply[places.revision] or b""
        for view, place in places.times:
            times[view] = reply[place]
        stale += [view for view, known in aged if known is not None and known < oldest_ms]
    missing: list[str] = []
    if unread:
        missing = [view for p in model.reader.plan.entities if p.entity in unread for view in p.views]
    profiles = Profiles(home, numbers["card"], numbers["merchant"])
    return Online(states, profiles, tuple(unread), tuple(missing), tuple(stale), revisions, times)


def without_invalid_states(online: Online, model: Model) -> Online:
    """Return ``online`` with every entity whose state is no state made unread."""
    broken = [entity for entity in ENTITIES if not _is_state(entity, online.states[entity])]
    views = [view for planned in model.reader.plan.entities if planned.entity in broken for view in planned.views]
    return msgspec.structs.replace(
        online,
        states={entity: b"" if entity in broken else state for entity, state in online.states.items()},
        profiles=Profiles(
            None if "card" in broken else online.profiles.home_country,
            NO_PROFILES.card if "card" in broken else online.profiles.card,
            NO_PROFILES.merchant if "merchant" in broken else online.profiles.merchant,
        ),
        unread=(*online.unread, *broken),
        missing=(*online.missing, *views),
        stale=tuple(view for view in online.stale if view not in views),
    )


def _is_state(entity: Entity, state: bytes) -> bool:
    try:
        velocity.check_state(entity, state)
    except InvalidState:
        return False
    return True
