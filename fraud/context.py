"""The transaction beside its profiles, for many rows at once: the twin of :func:`fraud.features.context_values`."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud.features import CONTEXT_FEATURES
from fraud.velocity import FloatArray
from fraud.windows import DAY, HOUR


@dataclass(frozen=True)
class ContextColumns:
    """What :func:`context_table` reads of many rows, equally long.

    Parameters
    ----------
    event_time_ms, amount_minor, channel, merchant_category
        Whole numbers; a channel is its position in ``CHANNELS``.
    has_device
        Whether the row names one.
    foreign
        1 when not in the card's home country, else 0; NaN without a profile.
    card_median, merchant_median
        Of the last 30 days; NaN where null.
    """

    event_time_ms: npt.NDArray[np.int64]
    amount_minor: npt.NDArray[np.int64]
    channel: npt.NDArray[np.int64]
    merchant_category: npt.NDArray[np.int64]
    has_device: npt.NDArray[np.bool_]
    foreign: FloatArray
    card_median: FloatArray
    merchant_median: FloatArray


def context_table(rows: ContextColumns) -> FloatArray:
    """Return :func:`~fraud.features.context_values` of many rows, bit for bit.

    Its shape is ``(n, len(CONTEXT_FEATURES))``, in Fortran order.
    """
    table = np.empty((len(rows.event_time_ms), len(CONTEXT_FEATURES)), order="F")
    amount = rows.amount_minor.astype(np.float64)
    table[:, 0] = amount
    table[:, 1] = rows.event_time_ms % DAY // HOUR
    table[:, 2] = (rows.event_time_ms // DAY + 3) % 7
    table[:, 3] = rows.channel
    table[:, 4] = rows.merchant_category
    table[:, 5] = rows.has_device
    table[:, 6] = rows.foreign
    with np.errstate(all="ignore"):
        table[:, 7] = np.where(rows.card_median > 0.0, amount / rows.card_median, np.nan)
        table[:, 8] = np.where(rows.merchant_median > 0.0, amount / rows.merchant_median, np.nan)
    return table
