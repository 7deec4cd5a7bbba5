"""What is computed at request time. Feast rebuilds these functions from their source text: they import inside.

The offline store knows both by their tags and answers them for whole columns, bit for bit the same: ``context`` from
the profiles as of each row, ``velocity`` from the transaction log with the kernel that reads the states here.
"""

from typing import Any

from feast.on_demand_feature_view import on_demand_feature_view

from feature_repo.sources import transaction
from feature_repo.views import (
    card_profile,
    card_velocity,
    device_velocity,
    fields,
    ip_velocity,
    merchant_profile,
    merchant_velocity,
)
from fraud.features import CONTEXT_FEATURES, CROSS_FEATURES, HOME_COUNTRY, VELOCITY


@on_demand_feature_view(  # type: ignore[untyped-decorator]
    sources=[
        card_velocity[["card_state"]],
        device_velocity[["device_state"]],
        ip_velocity[["ip_state"]],
        merchant_velocity[["merchant_state"]],
        transaction,
    ],
    schema=fields(VELOCITY + CROSS_FEATURES),
    mode="python",
    tags={"velocity": "windows"},
    description="Every window of the card, the device, the address and the merchant, as of the transaction.",
)
def velocity(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return every velocity and cross feature of columns of states and request values."""
    from fraud.features import velocity_columns

    return velocity_columns(inputs)


@on_demand_feature_view(  # type: ignore[untyped-decorator]
    sources=[
        card_profile[[HOME_COUNTRY, "card_amount_median_30d"]],
        merchant_profile[["merchant_amount_median_30d"]],
        transaction,
    ],
    schema=fields(CONTEXT_FEATURES),
    mode="python",
    tags={"context": "columns"},
    description="The transaction itself, beside what its card and merchant usually do.",
)
def context(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return every context feature of columns of profile and request values."""
    from fraud.features import context_columns

    return context_columns(inputs)
