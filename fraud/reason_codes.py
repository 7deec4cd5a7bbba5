"""The table of reason codes: for every feature its family, its codes and its sentence.

Those of velocity features are generated (:mod:`fraud.velocity_wordings`); what is written out here speaks of the
payment itself, of its amount beside what is usual, and of profiles.
"""

import math
from typing import Final

from fraud.velocity_wordings import VELOCITY_WORDINGS
from fraud.windows import SMALL_AMOUNT_MINOR, Entity
from fraud.wording import Wording


def _own(
    family: str,
    codes: str,
    form: str,
    text: str,
    *,
    low: float = -math.inf,
    low_text: str = "",
    unknown: str = "",
    unknown_code: str = "",
) -> Wording:
    """Return the wording of a feature that is no velocity statistic; ``codes`` is ``CODE`` or ``CODE/LOW_CODE``."""
    code, _, low_code = codes.partition("/")
    return Wording(
        family, code, low_code or code, low, form, text, low_text or text, unknown or "its value", unknown_code or code
    )


def _ratio(entity: Entity, usual: str, form: str = "times", text: str = "amount {value} times ") -> Wording:
    owner = entity.upper()
    return _own(
        f"{entity}.amount",
        f"AMOUNT_UNUSUAL_FOR_{owner}/AMOUNT_SMALL_FOR_{owner}",
        form,
        text + usual,
        low=0.0 if form == "sigmas" else 1.0,
        unknown=usual,
        unknown_code=f"{owner}_HISTORY_UNKNOWN",
    )


_OTHERS: Final = {
    "transaction_amount": _own(
        "card.amount", "AMOUNT_HIGH/AMOUNT_SMALL", "money", "amount {value}", low=SMALL_AMOUNT_MINOR + 1
    ),
    "transaction_hour": _own("context.time", "UNUSUAL_HOUR", "hour", "paid at {value} UTC"),
    "transaction_weekday": _own("context.time", "UNUSUAL_WEEKDAY", "weekday", "paid on a {value}"),
    "transaction_channel": _own("context.channel", "RISKY_CHANNEL", "channel", "paid by channel {value}"),
    "transaction_merchant_category": _own("context.category", "RISKY_CATEGORY", "whole", "merchant category {value}"),
    "transaction_has_device": _own(
        "context.channel",
        "DEVICE_KNOWN/DEVICE_ABSENT",
        "whole",
        "paid from a device",
        low=1,
        low_text="no device is known",
    ),
    "transaction_foreign": _own(
        "card.place",
        "FOREIGN_COUNTRY/HOME_COUNTRY",
        "whole",
        "not in the card's home country",
        low=1,
        low_text="in the card's home country",
        unknown="the card's home country",
        unknown_code="CARD_HISTORY_UNKNOWN",
    ),
    "amount_to_card_median_30d": _ratio("card", "the card's 30-day median"),
    "amount_to_card_mean_30d": _ratio("card", "the card's 30-day mean"),
    "amount_to_card_max_30d": _ratio("card", "the card's 30-day maximum"),
    "amount_zscore_card_30d": _ratio(
        "card", "the card's 30-day mean", "sigmas", "amount {value} standard deviations off "
    ),
    "amount_to_merchant_median_30d": _ratio("merchant", "the merchant's 30-day median"),
    "amount_to_merchant_mean_30d": _ratio("merchant", "the merchant's 30-day mean"),
    "card_age_days": _own(
        "card.history",
        "CARD_OLD/CARD_NEW",
        "whole",
        "card first seen {value} day(|s) ago",
        low=90,
        unknown="when the card was first seen",
        unknown_code="CARD_HISTORY_UNKNOWN",
    ),
    "card_amount_median_30d": _own(
        "card.amount",
        "AMOUNT_UNUSUAL_FOR_CARD",
        "money",
        "the card's 30-day median is {value}, this payment is {amount}",
        unknown="the card's 30-day median",
        unknown_code="CARD_HISTORY_UNKNOWN",
    ),
    "card_online_share_30d": _own(
        "card.history",
        "CARD_ONLINE_SHARE",
        "share",
        "{value} of the card's payments in 30 days were online",
        unknown="the card's share of online payments",
        unknown_code="CARD_HISTORY_UNKNOWN",
    ),
    "merchant_age_days": _own(
        "merchant.history",
        "MERCHANT_OLD/MERCHANT_NEW",
        "whole",
        "merchant first seen {value} day(|s) ago",
        low=90,
        unknown="when the merchant was first seen",
        unknown_code="MERCHANT_HISTORY_UNKNOWN",
    ),
    "merchant_amount_median_30d": _own(
        "merchant.amount",
        "AMOUNT_UNUSUAL_FOR_MERCHANT",
        "money",
        "the merchant's 30-day median is {value}, this payment is {amount}",
        unknown="the merchant's 30-day median",
        unknown_code="MERCHANT_HISTORY_UNKNOWN",
    ),
    "merchant_card_distinct_30d": _own(
        "merchant.history",
        "MERCHANT_MANY_CARDS/MERCHANT_FEW_CARDS",
        "whole",
        "{value} card(|s) at this merchant in 30 days",
        low=100,
        unknown="how many cards paid at this merchant",
        unknown_code="MERCHANT_HISTORY_UNKNOWN",
    ),
}


WORDINGS: Final[dict[str, Wording]] = {**VELOCITY_WORDINGS, **_OTHERS}
"""Wording of every feature name."""
