"""CloudWatch's embedded metric format: a JSON line on stdout every ten seconds and one more at the end.

CloudWatch turns such a line into metrics by itself, so the container needs neither an agent nor a permission. Counts
are those since the last line, percentiles come from the histogram's bounds (each the bound that holds it), scores are
counted by band. Every metric is there twice: for the scorers as a whole, which alarms watch, and for the model version:
that is how a canary is told from the fleet beside it, which SageMaker's own metrics do not. After a reload the version
before has a line of its own for what it still decided: nothing of it is credited to its successor. What belongs to no
version, such as refusals, stands in the line of the one in service.

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

from serving.logs import Seldom, place_of
from serving.metrics import Counter, Histogram, Metrics

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
_VERSIONED: Final = frozenset(
    {"Decisions", "MissingViews", "StaleViews", "Degraded", "Approve", "Review", "Decline", *_TIERS, *_OVERRIDES}
)
"""What is counted for each model version apart."""

_STAGES: Final = ("store", "score", "total")
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
        self._before: dict[tuple[str, str], int] = {}
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._scored: dict[str, tuple[int, float]] = {}
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
            for line in self.lines(time.time_ns() // 1_000_000):
                self._write(line)
        except Exception as error:  # noqa: BLE001  # the outermost loop of this thread: it must not end
            self._seldom.warn("metrics_not_written", error=type(error).__name__, at=place_of(error))

    def lines(self, now_ms: int) -> list[bytes]:
        """Return the line of each version that decided anything since the last ones; that in service comes last."""
        serving = self._version()
        versions = dict.fromkeys(labels[0] for labels in list(self._metrics.decisions.values))
        decided = {v: _sum(self._metrics.decisions.values, lambda labels, v=v: labels[0] == v) for v in versions}  # type: ignore[misc]  # v is bound
        before = [v for v in versions if v != serving and decided[v] != self._before.get((v, "Decisions"), 0)]
        return [self._line(version, now_ms) for version in before] + [self._line(serving, now_ms, whole=True)]

    def _line(self, version: str, now_ms: int, *, whole: bool = False) -> bytes:
        totals = self._of_version(version) | (self._of_process() if whole else {})
        values = self._since(version, totals) | self._score_bands(version)
        values |= self._shape(version, values["Decline"], values["Decisions"])
        for stage in _STAGES:
            values |= self._percentiles(f"{stage.title()}Latency", self._metrics.latency, (version, stage))
        declared = [{"Name": name, "Unit": _unit(name)} for name in values]
        directive = {"Namespace": NAMESPACE, "Dimensions": [["Service"], ["ModelVersion"]], "Metrics": declared}
        line: dict[str, Any] = {
            "_aws": {"Timestamp": now_ms, "CloudWatchMetrics": [directive]},
            "Service": SERVICE,
            "ModelVersion": version,
            **values,
        }
        return msgspec.json.encode(line) + b"\n"

    def _of_version(self, version: str) -> dict[str, int]:
        """Return what was counted so far of one version."""
        metrics = self._metrics

        def count(counter: Counter, place: int = 0, value: str = "") -> int:
            return _sum(counter.values, lambda labels: labels[0] == version and (not value or labels[place] == value))

        totals = {
            "Decisions": count(metrics.decisions),
            "MissingViews": count(metrics.missing),
            "StaleViews": count(metrics.stale),
            "Degraded": count(metrics.decisions, 3, "true"),
            "Approve": count(metrics.decisions, 2, "approve"),
            "Review": count(metrics.decisions, 2, "review"),
            "Decline": count(metrics.decisions, 2, "decline"),
        }
        totals |= {name: count(metrics.tiers, 1, tier) for name, tier in _TIERS.items()}
        return totals | {name: count(metrics.overrides, 1, override) for name, override in _OVERRIDES.items()}

    def _of_process(self) -> dict[str, int]:
        """Return what was counted so far, whatever the version."""
        metrics = self._metrics
        return {
            "Refusals": metrics.refusals.total(),
            "StoreTimeouts": metrics.store_timeouts.total(),
            "StoreRefusals": metrics.store_refusals.total(),
            "ShadowDecisions": metrics.shadow_decisions.total(),
            "ShadowLost": metrics.shadow_lost.total(),
            "StoreLosses": metrics.store_losses.total(),
            "DecisionsLost": metrics.decisions_lost.total(),
            "ListsRefused": metrics.lists_refused.total(),
            "Errors": _sum(metrics.requests.values, lambda labels: labels[1].startswith("5")),
        }

    def _since(self, version: str, totals: Mapping[str, int]) -> dict[str, float]:
        """Return what was counted since the last line; of the process' own counts, since anybody's last line."""
        since = {}
        for name, total in totals.items():
            key = (version if name in _VERSIONED else "", name)
            since[name] = float(total - self._before.get(key, 0))
            self._before[key] = total
        return since

    def _shape(self, version: str, declined: float, decided: float) -> dict[str, float]:
        """Return the share of declines in percent, and the mean score, since the last line; nothing of too few."""
        count, scores = self._metrics.scores.total((version,))
        before, scores_before = self._scored.get(version, (0, 0.0))
        if count - before < ENOUGH or decided < ENOUGH:
            return {}
        self._scored[version] = count, scores
        return {"DeclineShare": 100.0 * declined / decided, "ScoreMean": (scores - scores_before) / (count - before)}

    def _score_bands(self, version: str) -> dict[str, float]:
        """Return how many scores of a model fell into each band since the last line."""
        return {
            f"ScoreBand{band:02d}": float(count)
            for band, count in enumerate(self._newly(self._metrics.scores, (version,), "Score"))
        }

    def _percentiles(self, name: str, histogram: Histogram, labels: tuple[str, ...]) -> dict[str, float]:
        """Return the upper bounds, in microseconds, that hold each share of the values since the last line."""
        since = self._newly(histogram, labels, name)
        if not sum(since):
            return {}
        return {f"{name}{label}": _bound(histogram.bounds, since, share) * 1e6 for label, share in _SHARES}

    def _newly(self, histogram: Histogram, labels: tuple[str, ...], name: str) -> list[int]:
        """Return how many values each bound has come to hold since the last line."""
        now, key = histogram.counts(labels), (labels[0], name)
        before = self._counts.get(key, [0] * len(now))
        self._counts[key] = now
        return [new - old for new, old in zip(now, before, strict=True)]


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
