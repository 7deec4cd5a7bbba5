"""The worker's figures: what became of the records, and how fresh the store was."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from streaming.batches import BatchResult
from streaming.folders import write_whole

METRICS: Final = "metrics.json"
_LONGEST_MS: Final = 600_000
_SHARES: Final = {"p50": 0.5, "p99": 0.99}
_COUNTED: Final = ("records", "applied", "repeated", "too_late", "dead_lettered", "conflicts", "retried")


class _Histogram:
    """Milliseconds, each counted alone up to 10 minutes."""

    def __init__(self) -> None:
        self._counts = np.zeros(_LONGEST_MS + 1, np.int64)

    def add(self, values_ms: Sequence[int]) -> None:
        np.add.at(self._counts, np.clip(np.array(values_ms, np.int64), 0, _LONGEST_MS), 1)

    def summary(self) -> dict[str, int | None]:
        """Return p50 and p99; of nothing they are null."""
        running = np.cumsum(self._counts)
        if running[-1] == 0:
            return dict.fromkeys(_SHARES)
        return {name: int(np.searchsorted(running, share * running[-1])) for name, share in _SHARES.items()}


class Figures:
    """Counts, and how fresh the store was: from arrival at Kinesis, and from the event itself, to being visible.

    The second holds what the sender and the network took as well, and the difference between two machines' clocks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lags, self._ages = _Histogram(), _Histogram()
        self._counts = dict.fromkeys(_COUNTED, 0)

    def add(self, result: BatchResult) -> None:
        """Count a batch; arrivals from the first failure on are counted when they come again."""
        with self._lock:
            counts = self._counts
            counts["records"] += result.records if result.failed is None else result.failed
            counts["applied"] += result.applied
            counts["repeated"] += result.repeated
            counts["too_late"] += result.too_late
            counts["dead_lettered"] += result.dead_lettered
            counts["conflicts"] += result.conflicts
            counts["retried"] += result.failed is not None
            self._lags.add(result.lags_ms)
            self._ages.add(result.ages_ms)

    def discarded(self) -> None:
        """Count a record whose handler raised to the end."""
        with self._lock:
            self._counts["records"] += 1
            self._counts["dead_lettered"] += 1

    def snapshot(self) -> dict[str, Any]:
        """Return all figures; a percentile of nothing is null."""
        with self._lock:
            fresh = {"freshness_ms": self._lags.summary(), "event_freshness_ms": self._ages.summary()}
            return {**self._counts, **fresh}

    def write(self, directory: Path) -> None:
        """Replace ``metrics.json`` in ``directory``."""
        write_whole(directory / METRICS, msgspec.json.encode(self.snapshot()))
