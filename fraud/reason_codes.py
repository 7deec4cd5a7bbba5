"""The table of reason codes: for every feature its family, its codes and its sentence.

A sentence is a template: ``{value}`` in the feature's form, ``{amount}`` of the transaction, ``(one|many)`` for what
agrees with the number. The low code stands below ``low_below``: a score can be raised by a value because it is small, and
then "many cards" would be a lie.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fraud.features import CONTEXT_FEATURES, CROSS_FEATURES, FEATURE_NAMES
from fraud.windows import ENTITIES, SMALL_AMOUNT_MINOR, VELOCITY_FEATURES, WINDOWS, Entity


@dataclass(frozen=True)
class Wording:
    """How one feature is spoken of.

    Parameters
    ----------
    family
        What it speaks of; a family gives one reason.
    code, low_code, low_below
        Code of a value at or above ``low_below``; of one below.
    form
        How the value is written: ``whole``, ``money``, ``share``, ``times``, ``span`` (seconds), ``hour``, ``weekday`` or
        ``channel``.
    text
        Template of the sentence.
    low_text
        Template below ``low_below``.
    unknown
        What is not known when the value is null.
    unknown_code
        Its code.
    total
        Feature of which the value is a part, when the sentence gives the share; else empty.
    """

    family: str
    code: str
    low_code: str
    low_below: float
    form: str
    text: str
    low_text: str
    unknown: str
    unknown_code: str
    total: str = ""


@dataclass(frozen=True)
class _Row:
    """Wording of a statistic of any entity: ``{E}``, ``{at}``, ``{on}``, ``{the}`` and ``{span}`` are filled in."""

    theme: str
    code: str
    low_code: str
    form: str
    text: str
    unknown: str
    low: float = 1.0
    low_long: float = 0.0
    """Bound of windows of a day and longer, when it differs."""
    low_text: str = ""
    total: bool = False


_NOUNS: Final[dict[Entity, dict[str, str]]] = {
    "card": {"at": "by this card", "on": "on this card", "the": "the card"},
    "device": {"at": "from this device", "on": "on this device", "the": "the device"},
    "merchant": {"at": "at this merchant", "on": "at this merchant", "the": "the merchant"},
}
SPANS: Final = {"1m": "1 min", "10m": "10 min", "1h": "1 h", "24h": "24 h", "7d": "7 days", "30d": "30 days"}

_STATISTICS: Final[dict[str, _Row]] = {
    "transaction_count": _Row(
        "velocity",
        "{E}_BURST",
        "{E}_QUIET",
        "whole",
        "{value} payment(|s) {at} in {span}",
        "how many payments {at} in {span}",
        low_long=2,
    ),
    "amount_sum": _Row(
        "velocity", "{E}_SPENDING", "{E}_QUIET", "money", "{value} paid {at} in {span}", "what was paid {at} in {span}"
    ),
    "previous_seconds": _Row(
        "velocity", "{E}_QUIET", "{E}_BURST", "span", "{value} since the last payment {at}", "any earlier payment {at}", 600
    ),
    "amount_mean": _Row(
        "amount",
        "AMOUNT_UNUSUAL_FOR_{E}",
        "AMOUNT_UNUSUAL_FOR_{E}",
        "money",
        "payments {at} average {value} in {span}, this one is {amount}",
        "the mean payment {at} in {span}",
    ),
    "amount_max": _Row(
        "amount",
        "AMOUNT_UNUSUAL_FOR_{E}",
        "AMOUNT_UNUSUAL_FOR_{E}",
        "money",
        "largest payment {at} in {span} was {value}, this one is {amount}",
        "the largest payment {at} in {span}",
    ),
    "amount_std": _Row(
        "amount",
        "AMOUNT_UNUSUAL_FOR_{E}",
        "AMOUNT_UNUSUAL_FOR_{E}",
        "money",
        "payments {at} scatter by {value} in {span}, this one is {amount}",
        "how payments {at} scatter in {span}",
    ),
    "card_distinct": _Row(
        "sharing",
        "{E}_MANY_CARDS",
        "{E}_FEW_CARDS",
        "whole",
        "{value} card(|s) {on} in {span}",
        "how many cards {on} in {span}",
        low=2,
    ),
    "merchant_distinct": _Row(
        "spread",
        "{E}_MANY_MERCHANTS",
        "{E}_FEW_MERCHANTS",
        "whole",
        "{value} merchant(|s) paid {at} in {span}",
        "how many merchants were paid {at} in {span}",
        low=2,
    ),
    "device_distinct": _Row(
        "sharing",
        "{E}_MANY_DEVICES",
        "{E}_FEW_DEVICES",
        "whole",
        "{value} device(|s) used {at} in {span}",
        "how many devices were used {at} in {span}",
        low=2,
    ),
    "country_distinct": _Row(
        "place",
        "{E}_MANY_COUNTRIES",
        "{E}_FEW_COUNTRIES",
        "whole",
        "payments {at} in {value} countr(y|ies) in {span}",
        "the countries of payments {at} in {span}",
        low=2,
    ),
    "declined_count": _Row(
        "declines",
        "{E}_DECLINES",
        "{E}_NO_DECLINES",
        "whole",
        "{value} declined payment(|s) {at} in {span}",
        "how many payments {at} were declined in {span}",
        total=True,
    ),
    "declined_share": _Row(
        "declines",
        "{E}_DECLINES",
        "{E}_NO_DECLINES",
        "share",
        "{value} of the payments {at} in {span} were declined",
        "the share of declined payments {at} in {span}",
        low=1e-9,
    ),
    "small_count": _Row(
        "testing",
        "{E}_SMALL_PAYMENTS",
        "{E}_NO_SMALL_PAYMENTS",
        "whole",
        "{value} payment(|s) of at most {small} {at} in {span}",
        "how many small payments {at} in {span}",
        total=True,
    ),
    "small_share": _Row(
        "testing",
        "{E}_SMALL_PAYMENTS",
        "{E}_NO_SMALL_PAYMENTS",
        "share",
        "{value} of the payments {at} in {span} were of at most {small}",
        "the share of small payments {at} in {span}",
        low=1e-9,
    ),
    "report_count": _Row(
        "reports",
        "{E}_REPORTED_FRAUD",
        "{E}_NO_REPORTS",
        "whole",
        "{value} fraud report(|s) {on} in {span}",
        "how many fraud reports {on} in {span}",
    ),
    "report_share": _Row(
        "reports",
        "{E}_REPORTED_FRAUD",
        "{E}_NO_REPORTS",
        "share",
        "fraud reports {on} in {span} come to {value} of the payments",
        "the share of fraud reports {on} in {span}",
        low=1e-9,
    ),
    "merchant_known_30d": _Row(
        "novelty",
        "{E}_KNOWN_MERCHANT",
        "{E}_NEW_MERCHANT",
        "whole",
        "this merchant was paid {at} before, within 30 days",
        "whether this merchant was paid {at} before",
        low_text="first payment {at} at this merchant in 30 days",
    ),
    "card_known_30d": _Row(
        "novelty",
        "{E}_KNOWN_CARD",
        "{E}_NEW_CARD",
        "whole",
        "this card was used {on} before, within 30 days",
        "whether this card was used {on} before",
        low_text="first use of this card {on} in 30 days",
    ),
    "distance_km": _Row(
        "place",
        "{E}_DISTANCE",
        "{E}_NEARBY",
        "whole",
        "{value} km from the last payment {at}",
        "how far the last payment {at} was",
        low=50,
    ),
    "speed_kmh": _Row(
        "place",
        "{E}_SPEED",
        "{E}_SLOW",
        "whole",
        "{value} km/h between the last payment {at} and this one",
        "how fast {the} would have moved",
        low=100,
    ),
}

_MEDIAN = "average"
_PLAIN: Final[dict[str, Wording]] = {}


def _plain(
    family: str,
    codes: str,
    low_below: float,
    form: str,
    text: str,
    unknown: str = "",
    low_text: str = "",
    unknown_code: str = "",
) -> Wording:
    code, _, low_code = codes.partition("/")
    return Wording(
        family, code, low_code or code, low_below, form, text, low_text or text, unknown or "the value", unknown_code or code
    )


_NEVER: Final = float("-inf")
_RATIO: Final = "amount {{value}} times the {0}"


def _ratio(entity: str, usual: str) -> Wording:
    text = f"amount {{value}} times {usual}"
    return _plain(
        f"{entity}.amount",
        f"AMOUNT_UNUSUAL_FOR_{entity.upper()}/AMOUNT_SMALL_FOR_{entity.upper()}",
        1.0,
        "times",
        text,
        usual,
        unknown_code=f"{entity.upper()}_HISTORY_UNKNOWN",
    )
