"""Whom features are about."""

from typing import Final

from feast import Entity, ValueType

card: Final = Entity(name="card", join_keys=["card_id"], value_type=ValueType.STRING, description="The card that pays.")
device: Final = Entity(
    name="device",
    join_keys=["device_id"],
    value_type=ValueType.STRING,
    description="The device the payment came from; an empty id is none, and reads as never seen.",
)
ip: Final = Entity(
    name="ip",
    join_keys=["ip"],
    value_type=ValueType.STRING,
    description="The network address the payment came from, as a token; an empty one is none, and reads as never seen.",
)
merchant: Final = Entity(
    name="merchant", join_keys=["merchant_id"], value_type=ValueType.STRING, description="The merchant that is paid."
)
