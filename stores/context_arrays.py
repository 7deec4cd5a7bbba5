"""The on-demand view ``context`` for whole Arrow columns: what Feast would compute by one Python call for each row."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.context import ContextColumns, context_table
from fraud.features import CONTEXT_FEATURES, HOME_COUNTRY
from fraud.transaction import CHANNELS
from stores.columns import floats, integers, joined, nullable

_CHANNELS: Final = list(CHANNELS)


def context_arrays(inputs: Any, wanted: Sequence[str]) -> dict[str, Any]:
    """Return context features of rows, bit for bit what :func:`fraud.features.context_columns` gives.

    Parameters
    ----------
    inputs
        Arrow table of that function's columns.
    wanted
        Names out of ``CONTEXT_FEATURES``.

    Returns
    -------
    arrays
        One Arrow array for each name: ``int64``, or ``double`` in which null means there was nothing to compare.
    """
    values = context_table(
        ContextColumns(
            event_time_ms=integers(inputs["event_time_ms"]),
            amount_minor=integers(inputs["amount_minor"]),
            channel=integers(pc.index_in(_text(inputs["channel"]), value_set=pa.array(_CHANNELS))),
            merchant_category=integers(inputs["merchant_category"]),
            has_device=_flags(pc.not_equal(_text(inputs["device_token"]), "")),
            foreign=_foreign(_text(inputs["country"]), _text(inputs[HOME_COUNTRY])),
            card_median=floats(inputs["card_amount_median_30d"]),
            merchant_median=floats(inputs["merchant_amount_median_30d"]),
        )
    )
    return {
        feature.name: pa.array(values[:, place].astype(np.int64)) if feature.whole else nullable(values[:, place])
        for place, feature in enumerate(CONTEXT_FEATURES)
        if feature.name in wanted
    }


def _foreign(country: Any, home: Any) -> Any:
    """Return 1 where the countries differ, 0 where they are one, NaN where there is no home."""
    return np.where(_flags(pc.equal(home, "")), np.nan, _flags(pc.not_equal(country, home)).astype(np.float64))


def _text(column: Any) -> Any:
    """Return a column of strings, nulls as empty ones."""
    return pc.fill_null(pc.cast(column, pa.string()), "")


def _flags(column: Any) -> npt.NDArray[np.bool_]:
    return np.asarray(joined(column).to_numpy(zero_copy_only=False), np.bool_)
