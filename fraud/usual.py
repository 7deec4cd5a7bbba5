"""What is usual: the same statistic in the days before a short window, from what the vector already holds.

No read is added: a longer window less the shorter one it holds is the time before. Two rules, both exact or silent:

- What adds up (payments, amounts, reports), in a window of a day or less: **the mean of the six days
  before the last 24 hours**, ``(7d - 24h) / 6``, told as a day's. Only when the entity was seen before those seven days
  too (its 30-day count exceeds its 7-day count), for else the six days are not covered by its history and a mean over
  them would make every newcomer busy.
- What is counted apart (cards, merchants, devices, countries) does not add up: **how many others there were in the rest
  of the next longer window**. Silent when a ring may have been cut short (:data:`fraud.windows.RING_READ`).

Nothing is said of an unknown value, or of windows that contradict each other.
"""

from dataclasses import dataclass
from typing import Final

from fraud.velocity import FloatArray
from fraud.windows import ENTITIES, KINDS, RING_READ, VELOCITY_FEATURES, WINDOWS, Entity

_ADDED: Final = ("transaction_count", "amount_sum", "report_count")
_SPANS: Final = {("1h", "24h"): "23 h", ("24h", "7d"): "6 days", ("24h", "30d"): "29 days"}
_LABELS: Final = tuple(window.label for window in WINDOWS)
_DAYS: Final = 6


@dataclass(frozen=True)
class DailyMean:
    """Names of what the first rule takes; ``suffix`` follows the number."""

    day: str
    week: str
    seen_week: str
    seen_month: str
    suffix: str


@dataclass(frozen=True)
class Others:
    """Names of what the second rule takes; ``seen`` is the longer window's count of payments."""

    longer: str
    seen: str
    ring: bool
    span: str


Comparison = DailyMean | Others


def _comparison(entity: Entity, name: str, names: frozenset[str]) -> Comparison | None:
    statistic, _, window = name.removeprefix(f"{entity}_").rpartition("_")
    if window not in _LABELS[:4]:
        return None
    if statistic in _ADDED:
        made = DailyMean(
            f"{entity}_{statistic}_24h",
            f"{entity}_{statistic}_7d",
            f"{entity}_transaction_count_7d",
            f"{entity}_transaction_count_30d",
            "" if window == "24h" else " a day",
        )
        return made if names >= {made.day, made.week, made.seen_week, made.seen_month} else None
    if not statistic.endswith("_distinct"):
        return None
    for (shorter, longer), span in _SPANS.items():
        found = f"{entity}_{statistic}_{longer}"
        if shorter == window and found in names:
            return Others(found, f"{entity}_transaction_count_{longer}", KINDS[entity] == "ring", span)
    return None


def comparisons() -> dict[str, Comparison]:
    """Return what each velocity feature is compared with; features without anything are left out.

    Examples
    --------
    >>> comparisons()["device_card_distinct_24h"]
    Others(longer='device_card_distinct_7d', seen='device_transaction_count_7d', ring=True, span='6 days')
    """
    out: dict[str, Comparison] = {}
    for entity in ENTITIES:
        names = frozenset(feature.name for feature in VELOCITY_FEATURES[entity])
        for feature in VELOCITY_FEATURES[entity]:
            made = _comparison(entity, feature.name, names)
            if made is not None:
                out[feature.name] = made
    return out


def daily_mean(vector: FloatArray, day: int, week: int, seen_week: int, seen_month: int) -> float | None:
    """Return the mean of the six days before the last 24 hours; null when nothing can be said of them.

    The places are those of a :class:`DailyMean`'s names in the vector.
    """
    before = float(vector[week] - vector[day])
    return before / _DAYS if vector[seen_month] > vector[seen_week] and before >= 0.0 else None


def others_before(vector: FloatArray, here: int, longer: int, seen: int, *, ring: bool) -> int | None:
    """Return how many were seen in the longer window and not in the shorter; null when nothing can be said of them."""
    before = float(vector[longer] - vector[here])
    whole = bool(vector[seen] < RING_READ) if ring else bool(vector[seen] >= 0.0)
    return int(before) if whole and before >= 0.0 else None
