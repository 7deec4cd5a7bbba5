"""From states, profiles and a transaction to the feature vector: the same arithmetic for training and scoring.

Feast calls it column-wise from the on-demand views (:func:`velocity_columns`, :func:`context_columns`), the scorer
row-wise (:func:`evaluate`); the offline store replaces only the reading of states by the log's twin and shares the
rest. NaN is null everywhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud import velocity
from fraud.hashing import hash32
from fraud.ring import NOWHERE
from fraud.states import looks_like_state
from fraud.transaction import CHANNELS, Transaction
from fraud.vector import fill_vector
from fraud.velocity import FloatArray, Question
from fraud.windows import DAY, ENTITIES, HOUR, PARTIES, VELOCITY_FEATURES, Entity

SERVICE: Final = "fraud_score_v1"


@dataclass(frozen=True)
class Feature:
    """A named column: ``Int64`` in Feast when ``whole``, else ``Float64``."""

    name: str
    whole: bool


CONTEXT_FEATURES: Final = (
    Feature("transaction_amount", whole=True),  # minor units
    Feature("transaction_hour", whole=True),  # 0..23, UTC
    Feature("transaction_weekday", whole=True),  # 0 is Monday, UTC
    Feature("transaction_channel", whole=True),  # position in CHANNELS
    Feature("transaction_merchant_category", whole=True),
    Feature("transaction_has_device", whole=True),
    Feature("transaction_foreign", whole=False),  # 1 when not in the card's home country; null without a profile
    Feature("amount_to_card_median_30d", whole=False),
    Feature("amount_to_merchant_median_30d", whole=False),
)
CROSS_FEATURES: Final = (
    Feature("amount_to_card_mean_30d", whole=False),
    Feature("amount_to_card_max_30d", whole=False),
    Feature("amount_zscore_card_30d", whole=False),
    Feature("amount_to_merchant_mean_30d", whole=False),
)
CARD_PROFILE_FEATURES: Final = (
    Feature("card_age_days", whole=True),
    Feature("card_amount_median_30d", whole=False),
    Feature("card_online_share_30d", whole=False),
)
MERCHANT_PROFILE_FEATURES: Final = (
    Feature("merchant_age_days", whole=True),
    Feature("merchant_amount_median_30d", whole=False),
    Feature("merchant_card_distinct_30d", whole=True),
)
HOME_COUNTRY: Final = "card_home_country"
"""The one profile value that is text: it feeds ``transaction_foreign`` and is no model input."""

VELOCITY: Final = tuple(
    Feature(feature.name, feature.whole) for entity in ENTITIES for feature in VELOCITY_FEATURES[entity]
)
FEATURES: Final = CONTEXT_FEATURES + VELOCITY + CROSS_FEATURES + CARD_PROFILE_FEATURES + MERCHANT_PROFILE_FEATURES
FEATURE_NAMES: Final = tuple(feature.name for feature in FEATURES)
_AT: Final = {name: index for index, name in enumerate(feature.name for feature in VELOCITY)}
_CROSS_INPUTS: Final = tuple(
    _AT[name]
    for name in ("card_amount_mean_30d", "card_amount_max_30d", "card_amount_std_30d", "merchant_amount_mean_30d")
)


@dataclass(frozen=True)
class Profiles:
    """The batch profiles of a transaction's card and merchant; null where there is none.

    ``card`` and ``merchant`` hold the values of :data:`CARD_PROFILE_FEATURES` and :data:`MERCHANT_PROFILE_FEATURES`, in
    that order, NaN where null.
    """

    home_country: str | None
    card: tuple[float, ...]
    merchant: tuple[float, ...]


NO_PROFILES: Final = Profiles(
    None, (math.nan,) * len(CARD_PROFILE_FEATURES), (math.nan,) * len(MERCHANT_PROFILE_FEATURES)
)


def evaluate(
    transaction: Transaction,
    states: Mapping[Entity, bytes],
    profiles: Profiles,
    scratch: npt.NDArray[np.int64],
) -> FloatArray:
    """Return the feature vector of ``transaction``, shape ``(len(FEATURE_NAMES),)``, in that order.

    Parameters
    ----------
    states
        Velocity state of each entity; empty bytes for one never seen (and for a transaction without a device).
    scratch
        From :func:`fraud.ring.new_scratch`; one per thread.

    Raises
    ------
    InvalidState
        A state is not one.
    """
    home = profiles.home_country
    vector = np.empty(len(FEATURE_NAMES))
    known = fill_vector(
        states["card"],
        states["device"],
        states["ip"],
        states["merchant"],
        transaction.card_id.encode(),
        transaction.merchant_id.encode(),
        transaction.event_time_ms,
        transaction.amount_minor,
        CHANNELS.index(transaction.channel),
        transaction.merchant_category,
        bool(transaction.device_id),
        math.nan if home is None else float(transaction.country != home),
        _degrees(transaction.latitude),
        _degrees(transaction.longitude),
        profiles.card,
        profiles.merchant,
        scratch,
        vector,
    )
    return vector if known else evaluate_in_parts(transaction, states, profiles, scratch)


def evaluate_in_parts(
    transaction: Transaction,
    states: Mapping[Entity, bytes],
    profiles: Profiles,
    scratch: npt.NDArray[np.int64],
) -> FloatArray:
    """Return what :func:`evaluate` does, bit for bit, part by part; it also reads states of older versions.

    Raises
    ------
    InvalidState
        A state is not one.
    """
    pieces = [velocity.read(e, states[e], velocity.question(e, transaction), scratch) for e in ENTITIES]
    seen = np.concatenate(pieces)
    context = context_values(
        transaction.event_time_ms,
        transaction.amount_minor,
        transaction.channel,
        transaction.merchant_category,
        transaction.country,
        bool(transaction.device_id),
        profiles.home_country,
        profiles.card[1],
        profiles.merchant[1],
    )
    crossed = cross_values(transaction.amount_minor, *(float(seen[index]) for index in _CROSS_INPUTS))
    return np.concatenate((context, seen, crossed, profiles.card, profiles.merchant))


def context_values(
    event_time_ms: int,
    amount_minor: int,
    channel: str,
    merchant_category: int,
    country: str,
    has_device: bool,
    home_country: str | None,
    card_median: float,
    merchant_median: float,
) -> tuple[float, ...]:
    """Return the values of :data:`CONTEXT_FEATURES` for one transaction; a median that is NaN is null."""
    return (
        float(amount_minor),
        float(event_time_ms % DAY // HOUR),
        float((event_time_ms // DAY + 3) % 7),
        float(CHANNELS.index(channel)),
        float(merchant_category),
        1.0 if has_device else 0.0,
        math.nan if home_country is None else float(country != home_country),
        _ratio(amount_minor, card_median),
        _ratio(amount_minor, merchant_median),
    )


def cross_values(
    amount_minor: int, card_mean: float, card_max: float, card_std: float, merchant_mean: float
) -> tuple[float, float, float, float]:
    """Return the values of :data:`CROSS_FEATURES` for one transaction; NaN in, NaN out."""
    spread = (amount_minor - card_mean) / card_std if card_std > 0.0 else math.nan
    return (
        _ratio(amount_minor, card_mean),
        _ratio(amount_minor, card_max),
        spread,
        _ratio(amount_minor, merchant_mean),
    )


def _ratio(amount_minor: int, usual: float) -> float:
    return amount_minor / usual if usual > 0.0 else math.nan


def cross_columns(amount_minor: npt.NDArray[np.int64], seen: FloatArray) -> FloatArray:
    """Return :func:`cross_values` of many rows, shape ``(n, 4)``; bit for bit the same.

    ``seen`` holds the velocity values of all entities, shape ``(n, len(VELOCITY))``.
    """
    mean, top, std, merchant_mean = (seen[:, index] for index in _CROSS_INPUTS)
    amount = amount_minor.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = (
            np.where(mean > 0.0, amount / mean, np.nan),
            np.where(top > 0.0, amount / top, np.nan),
            np.where(std > 0.0, (amount - mean) / std, np.nan),
            np.where(merchant_mean > 0.0, amount / merchant_mean, np.nan),
        )
    return np.stack(columns, axis=1)


# --- Feast's side: what the on-demand views call, column-wise -------------------------------------------------------

Columns = Mapping[str, Sequence[Any]]


def velocity_columns(inputs: Columns) -> dict[str, list[float] | list[int]]:
    """Return every velocity and cross feature for columns of states and request values.

    Parameters
    ----------
    inputs
        ``card_state``, ``device_state``, ``ip_state``, ``merchant_state`` (bytes or null), ``event_time_ms``,
        ``amount_minor``, ``card_token``, ``merchant_token``, ``latitude``, ``longitude`` (null when unknown),
        equally long.
    """
    from fraud.ring import new_scratch

    scratch = new_scratch()
    rows = []
    for index, as_of in enumerate(inputs["event_time_ms"]):
        place = _degrees(inputs["latitude"][index]), _degrees(inputs["longitude"][index])
        party = {e: hash32(_text(inputs[f"{PARTIES[e][0]}_token"][index])) for e in ENTITIES}
        seen = [
            velocity.read(e, _state(inputs[f"{e}_state"][index]), Question(int(as_of or 0), party[e], *place), scratch)
            for e in ENTITIES
        ]
        rows.append(np.concatenate(seen))
    table = np.array(rows).reshape(len(rows), len(VELOCITY))
    amount = np.array([value or 0 for value in inputs["amount_minor"]], np.int64)
    return typed_columns(VELOCITY + CROSS_FEATURES, np.hstack((table, cross_columns(amount, table))))


def context_columns(inputs: Columns) -> dict[str, list[float] | list[int]]:
    """Return every context feature for columns of profile and request values.

    Parameters
    ----------
    inputs
        ``event_time_ms``, ``amount_minor``, ``channel``, ``merchant_category``, ``country``, ``device_token`` (empty
        when there is none), ``card_home_country``, ``card_amount_median_30d``, ``merchant_amount_median_30d``.
    """
    names = (
        "event_time_ms",
        "amount_minor",
        "channel",
        "merchant_category",
        "country",
        "device_token",
        HOME_COUNTRY,
        "card_amount_median_30d",
        "merchant_amount_median_30d",
    )
    rows = [
        context_values(
            int(time or 0),
            int(amount or 0),
            channel if channel in CHANNELS else CHANNELS[0],
            int(category or 0),
            country or "",
            bool(device),
            home or None,
            _number(card_median),
            _number(merchant_median),
        )
        for time, amount, channel, category, country, device, home, card_median, merchant_median in zip(
            *(inputs[name] for name in names), strict=True
        )
    ]
    return typed_columns(CONTEXT_FEATURES, np.array(rows).reshape(len(rows), len(CONTEXT_FEATURES)))


def typed_columns(features: Sequence[Feature], table: FloatArray) -> dict[str, list[float] | list[int]]:
    """Return the columns of ``table``, shape ``(n, len(features))``, as Python lists of each feature's type."""
    return {
        feature.name: table[:, index].astype(np.int64).tolist() if feature.whole else table[:, index].tolist()
        for index, feature in enumerate(features)
    }


def _state(value: Any) -> bytes:
    """Feast tries a view on random bytes when it is applied, and gives null for an unseen entity."""
    held = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""
    return held if looks_like_state(held) else b""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _degrees(value: Any) -> int:
    return NOWHERE if value is None or math.isnan(value) else round(value * 1e5)
