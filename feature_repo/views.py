"""What is stored for each entity: velocity states, pushed by the stream, and batch profiles."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from feast import Entity, FeatureView, Field, PushSource
from feast.types import Bytes, Float64, Int64, String

from feature_repo.entities import card, device, ip, merchant
from feature_repo.sources import (
    card_profiles,
    card_velocity_push,
    device_velocity_push,
    ip_velocity_push,
    merchant_profiles,
    merchant_velocity_push,
)
from fraud.features import CARD_PROFILE_FEATURES, HOME_COUNTRY, MERCHANT_PROFILE_FEATURES, Feature


def fields(features: Sequence[Feature]) -> list[Field]:
    """Return the Feast fields of declared features: whole numbers as ``Int64``, others as ``Float64``."""
    return [Field(name=feature.name, dtype=Int64 if feature.whole else Float64) for feature in features]


def _velocity(entity: Entity, source: PushSource) -> FeatureView:
    return FeatureView(
        name=f"{entity.name}_velocity",
        entities=[entity],
        ttl=timedelta(0),  # a state never expires: reading it as of a time makes it fade
        source=source,
        schema=[
            Field(name=entity.join_key, dtype=String),
            Field(name=f"{entity.name}_state", dtype=Bytes),
            Field(name=f"{entity.name}_revision", dtype=Int64),
        ],
        description=f"The velocity state of each {entity.name}, and how many changes made it.",
    )


card_velocity: Final = _velocity(card, card_velocity_push)
device_velocity: Final = _velocity(device, device_velocity_push)
ip_velocity: Final = _velocity(ip, ip_velocity_push)
merchant_velocity: Final = _velocity(merchant, merchant_velocity_push)

card_profile: Final = FeatureView(
    name="card_profile",
    entities=[card],
    ttl=timedelta(0),
    source=card_profiles,
    schema=[
        Field(name=card.join_key, dtype=String),
        Field(name=HOME_COUNTRY, dtype=String),
        *fields(CARD_PROFILE_FEATURES),
    ],
    description="What a card usually does, as of the last day's end.",
)
merchant_profile: Final = FeatureView(
    name="merchant_profile",
    entities=[merchant],
    ttl=timedelta(0),
    source=merchant_profiles,
    schema=[Field(name=merchant.join_key, dtype=String), *fields(MERCHANT_PROFILE_FEATURES)],
    description="What a merchant usually sells, as of the last day's end.",
)
