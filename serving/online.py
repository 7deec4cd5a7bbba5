"""What the online store knows of a transaction's card, device and merchant: read once, told honestly.

A view that could not be read is *missing*: its features are null, never zero, because zero means "never seen". A
profile older than allowed is used and reported *stale*.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import hiredis

from fraud import velocity
from fraud.errors import InvalidState, StoreUnavailable
from fraud.features import CARD_PROFILE_FEATURES, HOME_COUNTRY, MERCHANT_PROFILE_FEATURES, NO_PROFILES, Profiles
from fraud.transaction import Transaction
from fraud.windows import ENTITIES, Entity
from serving.connection import Reply
from serving.model import Model
from serving.store import OnlineStore
from stores.layout import Value
from stores.plan import Reading

_CARD: Final = tuple(feature.name for feature in CARD_PROFILE_FEATURES)
_MERCHANT: Final = tuple(feature.name for feature in MERCHANT_PROFILE_FEATURES)
_STATES: Final = tuple((entity, f"{entity}_state", f"{entity}_revision") for entity in ENTITIES)
_NOTHING: Final = Reading({}, {})
_UNREADABLE: Final = (InvalidState, IndexError, TypeError, ValueError)
"""What decoding raises on bytes that are no value: none of it may cost the customer an answer."""


@dataclass(frozen=True, slots=True)
class Online:
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
    revisions
        Per entity, the number of changes behind its state.
    times_ms
        Per view, the event time of what was read; null when it was never written.
    """

    states: dict[Entity, bytes]
    profiles: Profiles
    unread: tuple[Entity, ...]
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    revisions: dict[str, int]
    times_ms: dict[str, int | None]


async def read_online(transaction: Transaction, model: Model, store: OnlineStore, *, stale_after_ms: int) -> Online:
    """Read all views of a transaction's entities in one round trip; what cannot be read is missing, never an error."""
    keys = {
        "card_id": transaction.card_id,
        "device_id": transaction.device_id or "",
        "merchant_id": transaction.merchant_id,
    }
    try:
        replies = await store.read(model.reader.commands(keys))
    except StoreUnavailable:
        return _unread(model)
    readings = _decode(model, replies)
    if any(readings.values()):
        store.answered()
    else:
        store.failed()
    return _gather(transaction, model, readings, stale_after_ms)


def _unread(model: Model) -> Online:
    views = tuple(view for planned in model.reader.plan.entities for view in planned.views)
    return Online(dict.fromkeys(ENTITIES, b""), NO_PROFILES, ENTITIES, views, (), {}, {})


def _decode(model: Model, replies: Sequence[Reply]) -> dict[str, Reading | None]:
    """Return the reading of each entity, null for one whose reply is an error or does not decode."""
    try:
        return {**model.reader.readings(replies)}
    except _UNREADABLE:
        return _decode_singly(model, replies)


def _decode_singly(model: Model, replies: Sequence[Reply]) -> dict[str, Reading | None]:
    """Decode one entity at a time, so that one bad value does not cost the others."""
    readings: dict[str, Reading | None] = {}
    blank: list[list[bytes | None]] = [
        [None] * (len(planned.fields) + len(planned.views)) for planned in model.reader.plan.entities
    ]
    for index, planned in enumerate(model.reader.plan.entities):
        readings[planned.entity] = None
        if isinstance(replies[index], hiredis.ReplyError):
            continue
        try:
            one = [*blank[:index], replies[index], *blank[index + 1 :]]
            readings[planned.entity] = model.reader.readings(one)[planned.entity]
        except _UNREADABLE:
            continue
    return readings


def without_invalid_states(online: Online, model: Model) -> Online:
    """Return ``online`` with every entity whose state is no state made unread."""
    broken = [entity for entity in ENTITIES if not _is_state(entity, online.states[entity])]
    views = [view for planned in model.reader.plan.entities if planned.entity in broken for view in planned.views]
    return replace(
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
        velocity.newest_time_ms(entity, state)
    except InvalidState:
        return False
    return True


def _gather(transaction: Transaction, model: Model, readings: dict[str, Reading | None], stale_after_ms: int) -> Online:
    states: dict[Entity, bytes] = {}
    revisions: dict[str, int] = {}
    times: dict[str, int | None] = {}
    unread: list[Entity] = []
    missing: list[str] = []
    stale: list[str] = []
    for entity, state, revision in _STATES:
        reading = readings[entity]
        if reading is None:
            unread.append(entity)
            states[entity] = b""
            continue
        held, count = reading.values.get(state), reading.values.get(revision)
        states[entity] = held if isinstance(held, bytes) else b""
        revisions[entity] = count if isinstance(count, int) else 0
        times.update(reading.times_ms)
        for view in model.profile_views[entity]:
            known = reading.times_ms[view]
            if known is not None and transaction.event_time_ms - known > stale_after_ms:
                stale.append(view)
    if unread:
        missing = [view for p in model.reader.plan.entities if p.entity in unread for view in p.views]
    profiles = _profiles(readings["card"] or _NOTHING, readings["merchant"] or _NOTHING)
    return Online(states, profiles, tuple(unread), tuple(missing), tuple(stale), revisions, times)


def _profiles(card: Reading, merchant: Reading) -> Profiles:
    home = card.values.get(HOME_COUNTRY)
    return Profiles(
        home if isinstance(home, str) and home else None,
        tuple([_number(card.values.get(name)) for name in _CARD]),
        tuple([_number(merchant.values.get(name)) for name in _MERCHANT]),
    )


def _number(value: Value) -> float:
    if type(value) is float:
        return value
    return float(value) if isinstance(value, int | float) else math.nan
