"""Where in the replies of a read plan each thing lies that serving needs, worked out once a bundle."""

from typing import Final

import msgspec

from fraud.features import CARD_PROFILE_FEATURES, HOME_COUNTRY, MERCHANT_PROFILE_FEATURES
from fraud.windows import ENTITIES, Entity
from stores.plan import PlannedEntity, ReadPlan

_PROFILES: Final[dict[Entity, tuple[str, ...]]] = {
    "card": tuple(feature.name for feature in CARD_PROFILE_FEATURES),
    "device": (),
    "ip": (),
    "merchant": tuple(feature.name for feature in MERCHANT_PROFILE_FEATURES),
}
NOWHERE: Final = -1


class EntityPlaces(msgspec.Struct, frozen=True):
    """Where one entity's values lie.

    Parameters
    ----------
    index
        Of the entity's reply among all replies.
    state, revision, home
        Places in that reply; ``NOWHERE`` when it is not read.
    numbers
        Places of the profile features, in their declared order.
    profiles, times
        Views that are batch profiles and can be stale; all views: name and place of the event time.
    length
        Of the reply.
    """

    entity: Entity
    index: int
    state: int
    revision: int
    home: int
    numbers: tuple[int, ...]
    profiles: tuple[tuple[str, int], ...]
    times: tuple[tuple[str, int], ...]
    length: int


def find_places(plan: ReadPlan) -> tuple[EntityPlaces, ...]:
    """Return the places of each entity, in the order of ``ENTITIES``; the plan reads all that serving needs."""
    found = {planned.entity: (index, planned) for index, planned in enumerate(plan.entities)}
    return tuple(_find(entity, *found[entity]) for entity in ENTITIES)


def _find(entity: Entity, index: int, planned: PlannedEntity) -> EntityPlaces:
    at = {field.feature: place for place, field in enumerate(planned.fields)}
    times = tuple((view, len(planned.fields) + place) for place, view in enumerate(planned.views))
    return EntityPlaces(
        entity,
        index,
        at[f"{entity}_state"],
        at.get(f"{entity}_revision", NOWHERE),
        at[HOME_COUNTRY] if entity == "card" else NOWHERE,
        tuple(at[name] for name in _PROFILES[entity]),
        tuple((view, place) for view, place in times if not view.endswith("_velocity")),
        times,
        len(planned.fields) + len(planned.views),
    )
