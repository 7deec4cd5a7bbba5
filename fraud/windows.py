"""The declared windows and statistics, and the feature names they generate.

A window is ``[as_of - length, as_of)``: the transaction being scored never counts itself. Two kinds of entity keep two
kinds of state. A *ring* (card, device, ip) keeps its recent transactions whole and reads every window exactly, over at
most ``RING_READ`` of them. *Tiles* (merchant) keep sums per bucket, and there the tile-aligned window
``[floor((as_of - length) / tile) * tile, as_of)`` **is** the definition, online and offline alike.
"""

from dataclasses import dataclass
from typing import Final, Literal

Entity = Literal["card", "device", "ip", "merchant"]
Kind = Literal["ring", "tiles"]

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR


@dataclass(frozen=True)
class Window:
    """A trailing span.

    Parameters
    ----------
    label
        As it stands in feature names.
    length_ms
        Length in milliseconds.
    tile_ms
        Bucket of the tiled kind: the far end of a tiled window is rounded down to a multiple of it.
    """

    label: str
    length_ms: int
    tile_ms: int


WINDOWS: Final = (
    Window("1m", MINUTE, 5 * SECOND),
    Window("10m", 10 * MINUTE, MINUTE),
    Window("1h", HOUR, 5 * MINUTE),
    Window("24h", DAY, HOUR),
    Window("7d", 7 * DAY, 6 * HOUR),
    Window("30d", 30 * DAY, DAY),
)
LONGEST_MS: Final = WINDOWS[-1].length_ms

KINDS: Final[dict[Entity, Kind]] = {"card": "ring", "device": "ring", "ip": "ring", "merchant": "tiles"}
ENTITIES: Final[tuple[Entity, ...]] = ("card", "device", "ip", "merchant")

JOIN_KEYS: Final[dict[Entity, str]] = {"card": "card_id", "device": "device_id", "ip": "ip", "merchant": "merchant_id"}
"""The column of a transaction, and of the log, that holds an entity's key."""

RING_READ: Final = 256
"""A ring's window sees at most this many of the newest entries before ``as_of``, online and offline."""

RING_KEEP: Final = 320
"""A ring keeps this many entries: the surplus stays exact for reads that lie up to 64 entries in the past."""

SMALL_AMOUNT_MINOR: Final = 200
"""A card-testing-sized amount, in minor units."""

LARGE_TIMES: Final = 3.0
"""An amount more than this many times the 30-day mean is unusually large: of its card as it is read, of its merchant
as it was when the transaction happened. An anomaly that needs no label."""

LARGE_AFTER: Final = 20
"""Transactions in 30 days before which a merchant has no usual amount, and nothing there is unusually large."""

REPORT_DELAY_MS: Final = 7 * DAY
"""How long before it becomes known a reported payment was made: a *risk* holds the reports of a span against the
payments of the same span this much earlier, so that it is a share of payments whose labels could have come."""

RISK_DAYS: Final = (1, 7, 30)
"""Lengths of a merchant's risks, in whole days (UTC) before today."""

# Columns of the table that one read fills: one row per window, then the scalars.
RING_STATISTICS: Final = (
    "transaction_count",
    "amount_sum",
    "amount_mean",
    "amount_max",
    "amount_std",
    "party_distinct",
    "other_distinct",
    "country_distinct",
    "declined_count",
    "small_count",
    "report_count",
    "large_count",
)
RING_SCALARS: Final = ("previous_seconds", "party_known_30d", "distance_km", "speed_kmh", "report_risk_7d")
TILE_STATISTICS: Final = (
    "transaction_count",
    "amount_sum",
    "amount_mean",
    "declined_count",
    "declined_share",
    "small_share",
    "report_count",
    "report_share",
    "large_share",
)
TILE_SCALARS: Final = ("report_risk_24h", "report_risk_7d", "report_risk_30d", "report_first_days", "report_last_days")
_SCALARS: Final[dict[Entity, tuple[str, ...]]] = {
    "card": RING_SCALARS[:4],
    "device": RING_SCALARS,
    "ip": RING_SCALARS[:2],
    "merchant": TILE_SCALARS,
}
_WHOLE: Final = frozenset(
    {
        "transaction_count",
        "amount_sum",
        "party_distinct",
        "other_distinct",
        "country_distinct",
        "declined_count",
        "small_count",
        "report_count",
        "large_count",
        "party_known_30d",
    }
)
PARTIES: Final[dict[Entity, tuple[Entity, Entity]]] = {
    "card": ("merchant", "device"),
    "device": ("card", "merchant"),
    "ip": ("card", "device"),
    "merchant": ("card", "device"),
}
"""Whose hashes an entity's entries keep, its *party* and the *other*: what can be counted apart, and first met."""


@dataclass(frozen=True)
class VelocityFeature:
    """One value that a velocity state yields at a time.

    Parameters
    ----------
    name
        Generated: ``{entity}_{column}_{statistic}_{window}``.
    entity
        Whose state it is read from.
    position
        Its place in the flat table that one read of that entity fills.
    whole
        Whether it is a whole number (``Int64`` in Feast); else ``Float64``, where NaN means there was nothing to
        average or compare with.
    """

    name: str
    entity: Entity
    position: int
    whole: bool


def _select(entity: Entity) -> dict[str, tuple[str, ...]]:
    every = tuple(window.label for window in WINDOWS)
    if KINDS[entity] == "tiles":
        return {
            "transaction_count": every,
            "amount_sum": every,
            "amount_mean": ("24h", "7d", "30d"),
            "declined_count": ("10m", "1h", "24h"),
            "declined_share": ("1h", "24h"),
            "small_share": ("10m", "1h", "24h"),
            "report_count": ("24h", "7d", "30d"),
            "report_share": ("24h", "7d", "30d"),
            "large_share": ("1h", "24h", "7d"),
        }
    if entity == "ip":  # shared by a household or a whole network: who else is on it tells, its places do not
        return {
            "transaction_count": ("10m", "1h", "24h", "7d"),
            "amount_sum": ("1h", "24h"),
            "party_distinct": ("1h", "24h", "7d"),
            "other_distinct": ("1h", "24h"),
            "declined_count": ("1h", "24h"),
            "small_count": ("1h", "24h"),
            "report_count": ("7d", "30d"),
        }
    return {
        "transaction_count": every,
        "amount_sum": every,
        "amount_mean": ("24h", "7d", "30d"),
        "amount_max": ("24h", "30d"),
        "amount_std": ("7d", "30d"),
        "party_distinct": ("1h", "24h", "7d"),
        "other_distinct": ("24h", "30d"),
        "country_distinct": ("24h", "7d"),
        "declined_count": ("1h", "24h"),
        "small_count": ("1h", "24h"),
        "report_count": ("7d", "30d"),
        "large_count": ("24h", "7d", "30d"),
    }


def reach_ms() -> int:
    """Return how far before its time a question may depend on the log.

    A window reaches its length and a tile. What was unusually large within one was so by the 30 days before *it*, so
    the longest window of such a share reaches that much further; a risk reaches the label delay further.
    """
    month = WINDOWS[-1].length_ms + WINDOWS[-1].tile_ms
    shares = [w for e in ENTITIES for w in WINDOWS if w.label in _select(e).get("large_share", ())]
    return month + max(REPORT_DELAY_MS, *(window.length_ms + window.tile_ms for window in shares))


def _feature_name(entity: Entity, statistic: str, window: str) -> str:
    column = statistic
    party, other = PARTIES[entity]
    column = column.replace("party_", f"{party}_").replace("other_", f"{other}_")
    return f"{entity}_{column}_{window}" if window else f"{entity}_{column}"


def declare(entity: Entity) -> tuple[VelocityFeature, ...]:
    """Return the features of one entity, in the order in which they stand in every vector.

    Examples
    --------
    >>> [feature.name for feature in declare("device")][:2]
    ['device_transaction_count_1m', 'device_transaction_count_10m']
    """
    statistics = RING_STATISTICS if KINDS[entity] == "ring" else TILE_STATISTICS
    labels = [window.label for window in WINDOWS]
    features = [
        VelocityFeature(
            _feature_name(entity, statistic, label),
            entity,
            labels.index(label) * len(statistics) + statistics.index(statistic),
            statistic in _WHOLE,
        )
        for statistic, chosen in _select(entity).items()
        for label in chosen
    ]
    first = len(WINDOWS) * len(statistics)
    features += [
        VelocityFeature(_feature_name(entity, scalar, ""), entity, first + index, scalar in _WHOLE)
        for index, scalar in enumerate(_SCALARS[entity])
    ]
    return tuple(features)


VELOCITY_FEATURES: Final[dict[Entity, tuple[VelocityFeature, ...]]] = {e: declare(e) for e in ENTITIES}
