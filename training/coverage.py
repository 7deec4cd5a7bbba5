"""Which days a log has: a set of days that it does not reach is refused, days without a payment are told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.windows import DAY
from training.errors import InvalidSplit
from training.transaction_log import day_text, log_days


@dataclass(frozen=True)
class Coverage:
    """Days of a set: the first and the last with a payment, and those without one between its ends."""

    first_day: str
    last_day: str
    days_without_rows: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "first_day": self.first_day,
            "last_day": self.last_day,
            "days_without_rows": list(self.days_without_rows),
        }


def require_covered(lake: Path, start_ms: int, end_ms: int) -> None:
    """Refuse a span that begins before the first day of a log or ends after its last.

    Raises
    ------
    InvalidSplit
        It does; the message has both days.
    UnreadableSource
        There is no log.
    """
    days = log_days(lake)
    first, last = day_text(start_ms), day_text(end_ms - 1)
    if first < days[0] or last > days[-1]:
        raise InvalidSplit(
            f"{first} to {last} is not all in the log, which has {days[0]} to {days[-1]}: ask for days that it has"
        )


def coverage_of(event_time_ms: npt.NDArray[np.int64] | Sequence[int], start_ms: int, end_ms: int) -> Coverage:
    """Return which days of ``[start_ms, end_ms)`` have payments.

    Parameters
    ----------
    event_time_ms
        Of every payment in the span, at least one.

    Examples
    --------
    >>> coverage_of([86_400_000, 3 * 86_400_000], 86_400_000, 5 * 86_400_000)
    Coverage(first_day='1970-01-02', last_day='1970-01-04', days_without_rows=('1970-01-03', '1970-01-05'))
    """
    found = np.unique(np.asarray(event_time_ms, np.int64) // DAY)
    empty = np.setdiff1d(np.arange(start_ms // DAY, -(-end_ms // DAY)), found)
    return Coverage(
        day_text(int(found[0]) * DAY),
        day_text(int(found[-1]) * DAY),
        tuple(day_text(int(day) * DAY) for day in empty),
    )
