"""The offline value of every feature, by the kernels of the offline store: the log, its windows, the as-of join.

Takes seconds for a million rows. ``python -m monitoring prove`` holds it to Feast's ``get_historical_features``, and
every training set that is built holds its own rows to it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud.features import (
    CARD_PROFILE_FEATURES,
    CONTEXT_FEATURES,
    CROSS_FEATURES,
    FEATURE_NAMES,
    HOME_COUNTRY,
    MERCHANT_PROFILE_FEATURES,
    VELOCITY,
    context_columns,
)
from fraud.windows import JOIN_KEYS, Entity
from stores.as_known import AsKnown
from stores.asof import EVER, Moments, newest_rows, sort_rows
from stores.columns import IntArray, find_keys, floats, integers, joined, microseconds, number_keys
from stores.files import Location, Span, read_files
from stores.log import load_log
from stores.windows_join import Asked, velocity_arrays
from training.dataset import entity_rows

FloatArray = npt.NDArray[np.float64]
Evaluate = Callable[[Path, pa.Table], FloatArray]
"""From a lake and rows of a transaction log to their features, shape ``(rows, len(FEATURE_NAMES))``, NaN for null."""

PROFILES: Final[dict[Entity, tuple[str, ...]]] = {
    "card": (HOME_COUNTRY, *(feature.name for feature in CARD_PROFILE_FEATURES)),
    "merchant": tuple(feature.name for feature in MERCHANT_PROFILE_FEATURES),
}
"""The values of the profiles that a lake has."""


def history_vectors(lake: Path, rows: pa.Table, as_known: AsKnown | None = None) -> FloatArray:
    """Return the features of ``rows`` as of their own times, from the lake's log and profiles, by the store's kernels.

    Parameters
    ----------
    lake
        Folder of the data set; without ``profiles`` in it every profile is null.
    rows
        In the schema of the transaction log, in any order; they need not be in the lake.
    as_known
        Lets a row see only what had arrived, if given.
    """
    if not rows.num_rows:
        return np.empty((0, len(FEATURE_NAMES)))
    asked = entity_rows(rows)
    as_of_us = microseconds(asked["event_timestamp"])
    as_of_ms = as_of_us // 1000
    log = load_log(
        Location(str(lake)), first_ms=int(as_of_ms.min()), last_ms=int(as_of_ms.max()), arrivals=as_known is not None
    )
    until = None if as_known is None else as_known.newest_arrival_us(as_of_us)
    windows = velocity_arrays(
        log,
        Asked(asked, as_of_ms, integers(asked["amount_minor"]), until),
        [feature.name for feature in VELOCITY + CROSS_FEATURES],
    )
    profiles = {name: column for entity in PROFILES for name, column in _profile(lake, entity, asked, until).items()}
    inputs = {name: asked[name].to_pylist() for name in _CONTEXT_INPUTS}
    inputs |= {name: profiles[name].to_pylist() for name in _CONTEXT_PROFILES}
    context = context_columns(inputs)
    columns = {name: floats(column) for name, column in windows.items()}
    columns |= {feature.name: np.asarray(context[feature.name], np.float64) for feature in CONTEXT_FEATURES}
    columns |= {name: floats(column) for name, column in profiles.items() if name != HOME_COUNTRY}
    return np.stack([columns[name] for name in FEATURE_NAMES], axis=1)


_CONTEXT_INPUTS: Final = (
    "event_time_ms",
    "amount_minor",
    "channel",
    "merchant_category",
    "country",
    "device_token",
)
_CONTEXT_PROFILES: Final = (HOME_COUNTRY, "card_amount_median_30d", "merchant_amount_median_30d")


def profile_columns(entity: Entity) -> tuple[str, ...]:
    """Return the columns of an entity's profiles: its key, their values, when they were published and known."""
    return (JOIN_KEYS[entity], *PROFILES[entity], "event_timestamp", "created_timestamp")


def _profile(lake: Path, entity: Entity, asked: pa.Table, until: IntArray | None) -> dict[str, Any]:
    """Return the profile columns that each row sees: the newest published at or before its time."""
    location = Location(str(lake)).within(f"profiles/{entity}")
    names = PROFILES[entity]
    if not location.exists():
        empty = {name: pa.nulls(asked.num_rows, pa.float64()) for name in names}
        return empty | ({HOME_COUNTRY: pa.nulls(asked.num_rows, pa.string())} if entity == "card" else {})
    as_of_us = microseconds(asked["event_timestamp"])
    key = JOIN_KEYS[entity]
    table = read_files(location, profile_columns(entity), "event_timestamp", Span(None, int(as_of_us.max())))
    keys, (numbers,) = number_keys([table[key]])
    rows = sort_rows(
        numbers, microseconds(table["event_timestamp"]), microseconds(table["created_timestamp"]), len(keys)
    )
    ever = np.full(len(as_of_us), EVER, np.int64)
    known = ever if until is None else until
    place = newest_rows(rows, Moments(find_keys(keys, asked[key]), as_of_us, -ever, known))
    index = pa.array(place, mask=place < 0)
    return {name: joined(table[name]).take(index) for name in names}
