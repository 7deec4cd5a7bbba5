"""How settled the labels of a training set are: how long frauds took to become known, and what may still come."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.windows import DAY
from stores.columns import milliseconds
from training.dataset import TrainingSet
from training.labels import read_labels
from training.profiles import last_day

AGES: Final = (1, 3, 7, 14, 21, 30, 45, 60, 90)
"""Days after a payment at which the share of its set's frauds that are known is told."""


@dataclass(frozen=True)
class Maturity:
    """Labels of a set.

    Parameters
    ----------
    known_until_ms
        The newest moment of which the lake knows anything: the log's end or the newest label's arrival, epoch ms.
    age_days
        After its payment each fraud became known, sorted, shape ``(frauds,)``.
    sources
        Statements about the set's rows that had arrived, by source.
    """

    known_until_ms: int
    age_days: npt.NDArray[np.float64]
    sources: dict[str, int]

    def known_by(self, days: float) -> float | None:
        """Return the share of the set's frauds that were known so many days after their payment."""
        if not len(self.age_days):
            return None
        return float(np.searchsorted(self.age_days, days, side="right") / len(self.age_days))

    def as_data(self, label_delay_ms: int, labels_at_ms: int) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "known_until_ms": self.known_until_ms,
            "complete": self.known_until_ms >= labels_at_ms,
            "known_by_days": {str(days): self.known_by(days) for days in AGES},
            "known_by_label_delay": self.known_by(label_delay_ms / DAY),
            "statements": self.sources,
        }


def maturity_of(rows: TrainingSet, lake: Path) -> Maturity:
    """Return how settled the labels of a set are.

    A fraud became known with the first statement that says so.
    """
    statements = read_labels(lake)
    created = milliseconds(statements["created_timestamp"])
    end = int(np.datetime64(last_day(lake), "ms").astype(np.int64)) + DAY
    place = pc.fill_null(pc.index_in(statements["transaction_id"], rows.transaction_id), -1)
    where = place.to_numpy() if isinstance(place, pa.ChunkedArray) else place.to_numpy(zero_copy_only=False)
    about = (where >= 0) & (created <= rows.as_of_ms)
    said = statements["is_fraud"].to_numpy() & about
    said &= np.where(where >= 0, rows.is_fraud[where], False)  # noqa: FBT003  # NumPy takes it by place
    first = np.full(len(rows.is_fraud), np.iinfo(np.int64).max)
    np.minimum.at(first, where[said], created[said])
    known = first < np.iinfo(np.int64).max
    counted = pc.value_counts(statements["source"].filter(pa.array(about)).combine_chunks()).to_pylist()
    return Maturity(
        known_until_ms=max(end, int(created.max(initial=0))),
        age_days=np.sort((first[known] - rows.event_time_ms[known]) / DAY),
        sources={row["values"]: row["counts"] for row in sorted(counted, key=lambda row: str(row["values"]))},
    )
