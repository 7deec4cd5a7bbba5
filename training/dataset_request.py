"""What is asked of a training set: which rows, which labels, what history could be seen, how many are kept."""

from dataclasses import dataclass
from typing import Any

from fraud.features import SERVICE
from fraud.windows import DAY
from stores.as_known import AsKnown
from training.durations import duration_text
from training.errors import InvalidSplit
from training.sampling import EVERY_ROW, Sampling
from training.transaction_log import day_text


@dataclass(frozen=True)
class DatasetRequest:
    """A training set, in words.

    Parameters
    ----------
    start_ms, end_ms
        The transactions with ``start_ms <= event time < end_ms``, epoch ms.
    label_delay_ms
        Age at which a label counts as settled; younger rows are left out and counted.
    as_of_ms
        When the labels are read; null is as soon as all rows are old enough.
    as_known
        Lets each row see only what had arrived by its time; null lets it see what had happened.
    sampling
        Which legitimate rows are kept.
    service
        Feast's feature service.

    Raises
    ------
    InvalidSplit
        The span is empty, no row is old enough, or the service has no feature contract.
    """

    start_ms: int
    end_ms: int
    label_delay_ms: int = 30 * DAY
    as_of_ms: int | None = None
    as_known: AsKnown | None = None
    sampling: Sampling = EVERY_ROW
    service: str = SERVICE

    def __post_init__(self) -> None:
        """Refuse what no row can answer."""
        if self.start_ms >= self.end_ms:
            raise InvalidSplit(f"start {day_text(self.start_ms)} is not before end {day_text(self.end_ms)}")
        if self.service != SERVICE:
            raise InvalidSplit(f"service {self.service!r} has no feature contract here; there is {SERVICE}")
        if self.mature_end_ms <= self.start_ms:
            raise InvalidSplit(
                f"no row from {day_text(self.start_ms)} on is {duration_text(self.label_delay_ms)} old at "
                f"{day_text(self.labels_at_ms)}: take a later as-of, an earlier start or a shorter label delay"
            )

    @property
    def labels_at_ms(self) -> int:
        """When the labels are read, epoch ms."""
        return self.end_ms + self.label_delay_ms if self.as_of_ms is None else self.as_of_ms

    @property
    def mature_end_ms(self) -> int:
        """The end of the rows that are old enough then, exclusive, epoch ms."""
        return min(self.end_ms, self.labels_at_ms - self.label_delay_ms + 1)

    def as_data(self) -> dict[str, Any]:
        """Return the request as plain data, times as text."""
        return {
            "start": day_text(self.start_ms),
            "end": day_text(self.end_ms),
            "service": self.service,
            "labels_as_of_ms": self.labels_at_ms,
            "label_delay": duration_text(self.label_delay_ms),
            "as_known": self.as_known is not None,
            "lag_ms": None if self.as_known is None else self.as_known.lag_ms,
        }
