"""The worker's figures: what became of the records, and how fresh the store was."""

import threading
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from streaming.batches import BatchResult
from streaming.folders import write_whole

METRICS: Final = "metrics.json"
_LONGEST_MS: Final = 600_000


class Figures:
    """Counts and a histogram of freshness (arrival at Kinesis to visible in the store), 1 ms wide up to 10 minutes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lags = np.zeros(_LONGEST_MS + 1, np.int64)
        self._counts = dict.fromkeys(("records", "applied", "repeated", "dead_lettered", "conflicts", "retried"), 0)

    def add(self, result: BatchResult) -> None:
        """Count a batch; arrivals from the first failure on are counted when they come again."""
        with self._lock:
            counts = self._counts
            counts["records"] += result.records if result.failed is None else result.failed
            counts["applied"] += result.applied
            counts["repeated"] += result.repeated
            counts["dead_lettered"] += result.dead_lettered
            counts["conflicts"] += result.conflicts
            counts["retried"] += result.failed is not None
            np.add.at(self._lags, np.clip(np.array(result.lags_ms, np.int64), 0, _LONGEST_MS), 1)

    def discarded(self) -> None:
        """Count a record whose handler raised to the end."""
        with self._lock:
            self._counts["records"] += 1
            self._counts["dead_lettered"] += 1

    def snapshot(self) -> dict[str, Any]:
        """Return all figures; a percentile of nothing is null."""
        with self._lock:
            return {**self._counts, "freshness_ms": {"p50": self._percentile(0.5), "p99": self._percentile(0.99)}}

    def write(self, directory: Path) -> None:
        """Replace ``metrics.json`` in ``directory``."""
        write_whole(directory / METRICS, msgspec.json.encode(self.snapshot()))

    def _percentile(self, share: float) -> int | None:
        running = np.cumsum(self._lags)
        if running[-1] == 0:
            return None
        return int(np.searchsorted(running, share * running[-1]))
