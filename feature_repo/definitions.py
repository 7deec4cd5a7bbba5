"""All that ``feast apply`` registers.

Feast imports this one file; ``.feastignore`` hides the others from it, because Feast would import them a second time
under another name and find every object twice.
"""

from feature_repo.entities import card, device, ip, merchant
from feature_repo.on_demand import context, velocity
from feature_repo.services import fraud_score_v1
from feature_repo.views import (
    card_profile,
    card_velocity,
    device_velocity,
    ip_velocity,
    merchant_profile,
    merchant_velocity,
)

__all__ = [
    "card",
    "card_profile",
    "card_velocity",
    "context",
    "device",
    "device_velocity",
    "fraud_score_v1",
    "ip",
    "ip_velocity",
    "merchant",
    "merchant_profile",
    "merchant_velocity",
    "velocity",
]
