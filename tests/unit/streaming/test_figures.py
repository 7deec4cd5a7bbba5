"""The worker's figures."""

import json
from pathlib import Path

from fraud.errors import StoreUnavailable
from streaming.batches import BatchResult
from streaming.figures import METRICS, Figures


def test_percentiles_are_those_of_the_lags(tmp_path: Path) -> None:
    figures = Figures()
    figures.add(BatchResult(100, applied=100, lags_ms=list(range(1, 101)), ages_ms=list(range(1_001, 1_101))))
    figures.write(tmp_path)
    told = json.loads((tmp_path / METRICS).read_bytes())
    assert told["freshness_ms"] == {"p50": 50, "p99": 99}
    assert told["event_freshness_ms"] == {"p50": 1_050, "p99": 1_099}
    assert (told["records"], told["applied"]) == (100, 100)


def test_nothing_applied_has_no_freshness() -> None:
    assert Figures().snapshot()["freshness_ms"] == {"p50": None, "p99": None}


def test_records_after_a_failure_are_counted_when_they_come_again() -> None:
    figures = Figures()
    figures.add(BatchResult(10, applied=4, failed=4, error=StoreUnavailable("down")))
    figures.add(BatchResult(6, applied=3, repeated=2, too_late=1))
    told = figures.snapshot()
    assert (told["records"], told["applied"], told["repeated"], told["too_late"]) == (10, 7, 2, 1)
    assert told["retried"] == 1


def test_lag_beyond_the_histogram_is_counted_at_its_end() -> None:
    figures = Figures()
    figures.add(BatchResult(1, applied=1, lags_ms=[10**12]))
    assert figures.snapshot()["freshness_ms"]["p50"] == 600_000
