"""Parts of the rows that a total may hide: channel, country, merchant category group, amount band."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.dataset import TrainingSet, read_log
from training.errors import IncompleteTrainingSet
from training.ranking import IntArray

COUNTRIES: Final = 5
"""The commonest are parts of their own; the others are one."""

BANDS: Final = ((1_000, "under 10"), (5_000, "10 to 50"), (20_000, "50 to 200"), (100_000, "200 to 1,000"))
"""Upper ends in minor units of a currency with two digits."""
ABOVE: Final = "1,000 and more"

GROUPS: Final = (
    (3300, "airlines"),
    (3500, "car rental"),
    (4000, "lodging"),
    (4800, "transport"),
    (5000, "telecom, utilities"),
    (5600, "retail"),
    (5700, "clothing"),
    (6000, "shops, restaurants"),
    (7300, "money, lodging, personal"),
    (8000, "business, leisure"),
)
"""Upper ends of merchant category codes (ISO 18245), by the ranges card schemes group them in."""
OTHERS: Final = "professional, public"


def segments_of(rows: TrainingSet, lake: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the part that each row is in, as text, for each partition.

    Parameters
    ----------
    rows
        A training set of the lake.
    lake
        Folder of the data set: place and category stand in its log only.

    Raises
    ------
    IncompleteTrainingSet
        The log no longer has the rows of the training set.
    """
    log = read_log(lake, int(rows.event_time_ms[0]), int(rows.event_time_ms[-1]) + 1)
    place = pc.index_in(rows.transaction_id, log["transaction_id"].combine_chunks())
    if place.null_count:
        raise IncompleteTrainingSet(f"{lake} no longer has {place.null_count} transactions of the training set")
    found = log.take(place)
    countries = pc.value_counts(found["country"]).to_pylist()
    common = [entry["values"] for entry in sorted(countries, key=lambda one: -one["counts"])[:COUNTRIES]]
    country = pc.if_else(pc.is_in(found["country"], pa.array(common)), found["country"], "elsewhere")
    category = found["merchant_category"].to_numpy().astype(np.int64)
    return {
        "channel": np.asarray(found["channel"].to_pylist(), object),
        "country": np.asarray(country.to_pylist(), object),
        "category": _binned(category, GROUPS, OTHERS),
        "amount": _binned(rows.amount_minor, BANDS, ABOVE),
    }


def _binned(values: IntArray, bands: tuple[tuple[int, str], ...], above: str) -> npt.NDArray[Any]:
    names = np.array([*(name for _, name in bands), above], object)
    return names[np.searchsorted([end for end, _ in bands], values, side="right")]
