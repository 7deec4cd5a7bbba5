"""Tiers: which model scores a transaction, by what there is to score it from.

``full`` takes everything. When something cannot be read, a model fitted to exactly that absence is better than one that
meets it for the first time, so a bundle carries three more:

- ``partial``: some entities could not be read, fitted on rows from which whole entities were taken away at random;
- ``no_velocity``: the stream is behind, so that profiles and the transaction's own fields are what can be trusted;
- ``request_only``: nothing could be read, only the transaction itself.

*Absent is not unread.* A card that the store has answered for and does not know is a new card: its counts are zero, its
profile is null, ``full`` was trained on first-time cards, and so ``full`` scores it.
"""

from collections.abc import Collection
from typing import Final, Literal

from fraud.features import (
    CARD_PROFILE_FEATURES,
    CONTEXT_FEATURES,
    CROSS_FEATURES,
    FEATURE_NAMES,
    MERCHANT_PROFILE_FEATURES,
)
from fraud.windows import ENTITIES, VELOCITY_FEATURES, Entity

Tier = Literal["full", "partial", "no_velocity", "request_only"]
FULL: Final[Tier] = "full"
FALLBACKS: Final[tuple[Tier, ...]] = ("partial", "no_velocity", "request_only")
TIERS: Final[tuple[Tier, ...]] = (FULL, *FALLBACKS)

PROFILED: Final[frozenset[Entity]] = frozenset({"card", "merchant"})
"""Entities with a batch profile: ``no_velocity`` needs both."""

_PROFILES: Final[dict[Entity, tuple[str, ...]]] = {
    "card": tuple(feature.name for feature in CARD_PROFILE_FEATURES),
    "merchant": tuple(feature.name for feature in MERCHANT_PROFILE_FEATURES),
}


def tier_for(unread: Collection[Entity], *, behind: bool) -> Tier:
    """Return the tier of a transaction.

    Parameters
    ----------
    unread
        Entities of which nothing could be read; one that was never seen is not among them.
    behind
        Whether the stream is further behind than allowed, so that no velocity can be trusted.

    Examples
    --------
    >>> tier_for((), behind=False), tier_for(("card",), behind=False), tier_for(ENTITIES, behind=False)
    ('full', 'partial', 'request_only')
    >>> tier_for((), behind=True), tier_for(("device",), behind=True), tier_for(("card",), behind=True)
    ('no_velocity', 'no_velocity', 'request_only')
    """
    if len(set(unread)) == len(ENTITIES):
        return "request_only"
    if behind:
        return "request_only" if PROFILED.intersection(unread) else "no_velocity"
    return "partial" if unread else FULL


def owner(feature: str) -> Entity | None:
    """Return the entity without which a feature is null; null for one that the transaction alone gives.

    Examples
    --------
    >>> owner("amount_to_merchant_mean_30d"), owner("device_card_distinct_24h"), owner("transaction_hour")
    ('merchant', 'device', None)
    """
    return _OWNERS[feature]


def _owner(feature: str) -> Entity | None:
    for entity in ENTITIES:
        if any(feature == held.name for held in VELOCITY_FEATURES[entity]) or feature in _PROFILES.get(entity, ()):
            return entity
    if feature == "transaction_foreign":
        return "card"
    if feature in _REQUEST:
        return None
    return next(entity for entity in ENTITIES if entity in feature.split("_"))


_REQUEST: Final = tuple(
    feature.name
    for feature in CONTEXT_FEATURES
    if feature.name.startswith("transaction_") and feature.name != "transaction_foreign"
)
_OWNERS: Final = {name: _owner(name) for name in FEATURE_NAMES}
_WITHOUT_VELOCITY: Final = frozenset(
    {
        *(feature.name for feature in CONTEXT_FEATURES),
        *(name for names in _PROFILES.values() for name in names),
    }
    - {feature.name for feature in CROSS_FEATURES}
)


def tier_features(tier: Tier) -> tuple[str, ...]:
    """Return the features a tier may take, in the order of ``FEATURE_NAMES``.

    Examples
    --------
    >>> tier_features("request_only")[:3], len(tier_features("full")) == len(FEATURE_NAMES)
    (('transaction_amount', 'transaction_hour', 'transaction_weekday'), True)
    """
    if tier == "request_only":
        return _REQUEST
    if tier == "no_velocity":
        return tuple(name for name in FEATURE_NAMES if name in _WITHOUT_VELOCITY)
    return FEATURE_NAMES
