"""CloudWatch's embedded metric format: one JSON line on stdout every ten seconds and one more at the end.

CloudWatch turns such a line into metrics by itself, so the container needs neither an agent nor a permission. Counts
are those since the last line, percentiles come from the histogram's bounds (each the bound that holds it), scores are
counted by band. Every metric is there twice: for the scorers as a whole, which alarms watch, and for the model version:
that is how a canary is told from the fleet beside it, which SageMaker's own metrics do not.

The share of declines and the mean score are those of one process, not of the fleet: the largest of them shows a canary
that declines everybody, which a mean over the fleet would thin out. They are left out when a line covers too few
decisions to say anything.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from serving.logs import Seldom
from serving.metrics import Histogram, Metrics

NAMESPACE: Final = "Tollgate"
SERVICE: Final = "scorer"
"""Value of the dimension ``Service``."""

PERIOD_S: Final = 10.0
ENOUGH: Final = 50
"""Decisions that a share of them, or a mean, needs."""

_TIERS: Final = {"TierPartial": "partial", "TierNoVelocity": "no_velocity", "TierRequestOnly": "request_only"}
_OVERRIDES: Final = {
    "OverrideAllowList": "allow_list",
    "OverrideBlockList": "block_list",
    "OverrideDeclineCap": "decline_cap",
    "OverrideControlGroup": "control_group",
}
_STAGES: Final = ("queue", "store", "score", "total")
_SHARES: Final = (("P50", 0.5), ("P95", 0.95), ("P99", 0.99))


class EmbeddedMetrics:
    """Writes what happened since the last line to ``write``.

    Parameters
    ----------
    version
        Gives the model version in service.
    write
        Takes one line, its newline included.
    """

    def __init__(self, metrics: Metrics, *, version: Callable[[], str], write: Callable[[bytes], object]) -> None:
        self._metrics = metrics
        self._version = version
        self._write = write
        self._before: dict[str, int] = {}
        self._counts: dict[str, list[int]] = {}
        self._scored = (0, 0.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="embedded-metrics", daemon=True)
        self._seldom = Seldom()

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def close(self) -> None:
        """Write the last line and stop."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        try:
            self._write(self.line(time.time_ns() // 1_000_000))
        except Exception as error:  # noqa: BLE001  # the outermost loop of this thread: it must not end
            self._seldom.warn("metrics_not_written", error=type(error).__name__)

    def line(self, now_ms: int) -> bytes:
        """Return the line of what happened since the last one."""
        values = self._counters() | self._score_bands()
        values |= self._shape(values["Decline"], values["Decisions"])
        for stage in _STAGES:
            values |= self._percentiles(f"{stage.title()}Latency", self._metrics.latency, (stage,))
        declared = [{"Name": name, "Unit": _unit(name)} for name in values]
        directive = {"Namespace": NAMESPACE, "Dimensions": [["Service"], ["ModelVersion"]], "Metrics": declared}
        line: dict[str, Any] = {
            "_aws": {"Timestamp": now_ms, "CloudWatchMetrics": [directive]},
            "Service": SERVICE,
            "ModelVersion": self._version(),
            **values,
        }
        return msgspec.json.encode(line) + b"\n"

    def _counters(self) -> dict[str, float]:
        metrics = self._metrics
        totals = {
            "Decisions": metrics.decisions.total(),
            "Refusals": metrics.refusals.total(),
            "MissingViews": metrics.missing.total(),
            "StaleViews": metrics.stale.total(),
            "StoreTimeouts": metrics.store_timeouts.total(),
            "StoreRefusals": metrics.store_refusals.total(),
            "ReadsSkipped": metrics.reads_skipped.total(),
            "RequestsShed": metrics.requests_shed.total(),
            "OverBudget": metrics.over_budget.total(),
            "ShadowDecisions": metrics.shadow_decisions.total(),
            "ShadowLost": metrics.shadow_lost.total(),
            "StoreLosses": metrics.store_losses.total(),
            "DecisionsLost": metrics.decisions_lost.total(),
            "ListsRefused": metrics.lists_refused.total(),
            "Errors": _sum(metrics.requests.values, lambda labels: labels[1].startswith("5")),
            "Degraded": _sum(metrics.decisions.values, lambda labels: labels[3] == "true"),
            "Approve": _sum(metrics.decisions.values, lambda labels: labels[2] == "approve"),
            "Review": _sum(metrics.decisions.values, lambda labels: labels[2] == "review"),
            "Decline": _sum(metrics.decisions.values, lambda labels: labels[2] == "decline"),
        }
        for name, tier in _TIERS.items():
            totals[name] = metrics.tiers.values.get((tier,), 0)
        for name, override in _OVERRIDES.items():
            totals[name] = metrics.overrides.values.get((override,), 0)
        since = {name: float(total - self._before.get(name, 0)) for name, total in totals.items()}
        self._before = totals
        return since

    def _shape(self, declined: float, decided: float) -> dict[str, float]:
        """Return the share of declines in percent, and the mean score, since the last line; nothing of too few."""
        count, scores = self._metrics.scores.total()
        before, scores_before = self._scored
        if count - before < ENOUGH or decided < ENOUGH:
            return {}
        self._scored = count, scores
        return {"DeclineShare": 100.0 * declined / decided, "ScoreMean": (scores - scores_before) / (count - before)}

    def _score_bands(self) -> dict[str, float]:
        """Return how many scores of the model in service fell into each band since the last line."""
        version = self._version()
        now = self._metrics.scores.counts((version,))
        before = self._counts.get(version, [0] * len(now))
        self._counts[version] = now
        return {
            f"ScoreBand{band:02d}": float(new - old) for band, (new, old) in enumerate(zip(now, before, strict=True))
        }

    def _percentiles(self, name: str, histogram: Histogram, labels: tuple[str, ...]) -> dict[str, float]:
        """Return the upper bounds, in microseconds, that hold each share of the values since the last line."""
        now = histogram.counts(labels)
        before = self._counts.get(name, [0] * len(now))
        self._counts[name] = now
        since = [new - old for new, old in zip(now, before, strict=True)]
        if not sum(since):
            return {}
        return {f"{name}{label}": _bound(histogram.bounds, since, share) * 1e6 for label, share in _SHARES}


def _unit(name: str) -> str:
    if "Latency" in name:
        return "Microseconds"
    return {"DeclineShare": "Percent", "ScoreMean": "None"}.get(name, "Count")


def _sum(values: Mapping[tuple[str, ...], int], chosen: Callable[[tuple[str, ...]], bool]) -> int:
    return sum(count for labels, count in list(values.items()) if chosen(labels))


def _bound(bounds: Sequence[float], counts: Sequence[int], share: float) -> float:
    """Return the bound that holds the value at ``share``; twice the last one beyond it."""
    wanted, running = share * sum(counts), 0
    for bound, count in zip((*bounds, 2.0 * bounds[-1]), counts, strict=True):
        running += count
        if running >= wanted:
            return bound
    return 2.0 * bounds[-1]


def write_stdout(line: bytes) -> None:
    """Write one line to standard output in one call, so that lines of several processes do not mix."""
    os.write(1, line)
