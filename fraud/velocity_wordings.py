"""How velocity features are spoken of: a row per statistic, filled in for each entity and window as names are."""

import re
from dataclasses import dataclass
from typing import Final

from fraud.windows import ENTITIES, VELOCITY_FEATURES, Entity
from fraud.wording import Wording


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
    "ip": {"at": "from this network address", "on": "on this network address", "the": "the network address"},
    "merchant": {"at": "at this merchant", "on": "at this merchant", "the": "the merchant"},
}
_LONG: Final = frozenset({"24h", "7d", "30d"})
_SPANS: Final = {"1m": "1 min", "10m": "10 min", "1h": "1 h", "24h": "24 h", "7d": "7 days", "30d": "30 days"}

_STATISTICS: Final[dict[str, _Row]] = {
    "transaction_count": _Row(
        "velocity",
        "{E}_{pace}",
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
        "velocity",
        "{E}_QUIET",
        "{E}_BURST",
        "span",
        "{value} since the last payment {at}",
        "any earlier payment {at}",
        600,
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
        "payments {at} in {value} (country|countries) in {span}",
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
    "large_count": _Row(
        "large",
        "{E}_LARGE_PAYMENTS",
        "{E}_NO_LARGE_PAYMENTS",
        "whole",
        "{value} unusually large payment(|s) {at} in {span}",
        "how many unusually large payments {at} in {span}",
        total=True,
    ),
    "large_share": _Row(
        "large",
        "{E}_LARGE_PAYMENTS",
        "{E}_NO_LARGE_PAYMENTS",
        "share",
        "{value} of the payments {at} in {span} were unusually large",
        "the share of unusually large payments {at} in {span}",
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
    "report_risk": _Row(
        "reports",
        "{E}_REPORTED_FRAUD",
        "{E}_NO_REPORTS",
        "share",
        "fraud reports {on} in {span} come to {value} of the payments a week earlier",
        "the share of payments {on} that were reported within {span}",
        low=1e-9,
    ),
    "report_first_days": _Row(
        "reports",
        "{E}_REPORTED_FRAUD",
        "{E}_REPORTED_FRAUD",
        "whole",
        "fraud reports {on} since {value} day(|s)",
        "any fraud report {on} in 30 days",
    ),
    "report_last_days": _Row(
        "reports",
        "{E}_REPORTED_FRAUD",
        "{E}_REPORTED_FRAUD",
        "whole",
        "last fraud report {on} {value} day(|s) ago",
        "any fraud report {on} in 30 days",
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


def _spoken(entity: Entity, name: str) -> Wording:
    """Return the wording of a velocity feature, generated from its statistic's row as its name was."""
    rest = name.removeprefix(f"{entity}_")
    statistic, _, window = rest.rpartition("_")
    if rest in _STATISTICS:
        statistic, window = rest, ""
    row = _STATISTICS[statistic]
    words = {**_NOUNS[entity], "E": entity.upper(), "span": _SPANS.get(window, "")}
    words["pace"] = "BUSY" if window in ("7d", "30d") else "BURST"

    def fill(text: str) -> str:
        return re.sub(r"\{(E|at|on|the|pace|span)\}", lambda match: words[match[1]], text)

    return Wording(
        family=f"{entity}.{row.theme}",
        code=fill(row.code),
        low_code=fill(row.low_code),
        low_below=row.low_long if row.low_long and window in _LONG else row.low,
        form=row.form,
        text=fill(row.text),
        low_text=fill(row.low_text or row.text),
        unknown=fill(row.unknown),
        unknown_code=f"{entity.upper()}_HISTORY_UNKNOWN",
        total=f"{entity}_transaction_count_{window}" if row.total else "",
    )


VELOCITY_WORDINGS: Final[dict[str, Wording]] = {
    feature.name: _spoken(entity, feature.name) for entity in ENTITIES for feature in VELOCITY_FEATURES[entity]
}
"""Wording of every velocity feature's name."""
