"""What the demo found, gathered for the screen, the page and ``summary.json``."""

import json
import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.learning import Compared
from demo.replay import Answers, percentiles
from monitoring.parity import Parity
from retraining.weekly import WeekReport


@dataclass(frozen=True)
class Shown:
    """One decision worth showing: what it was, what was answered, and why."""

    fraud_type: str
    transaction: dict[str, Any]
    decision: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """Everything the demo measured."""

    data: str
    answers: Answers
    outcomes: dict[str, dict[str, int]]
    freshness_ms: dict[str, float]
    stream: dict[str, Any]
    parity: Parity
    at_rest: dict[str, int]
    compared: Compared
    weeks: tuple[tuple[str, WeekReport], ...]
    shown: tuple[Shown, ...]
    swap: dict[str, Any]
    seconds: float
    steps: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return the figures for machines."""
        cut = self.compared.cut
        retrains = [report for name, report in self.weeks if name != "first champion"]
        return {
            "data": self.data,
            "requests": self.answers.requests,
            "errors": self.answers.errors,
            "latency_ms": percentiles(self.answers.latency_ms),
            "freshness_ms": self.freshness_ms,
            "parity": {
                "compared": self.parity.compared,
                "mismatches": self.parity.mismatched,
                "behind_the_stream": self.parity.behind,
                "degraded": self.parity.degraded,
                "by_feature": dict(self.parity.by_feature),
            },
            "parity_at_rest": self.at_rest,
            "false_positives": {
                "recall": cut.recall,
                "baseline": cut.baseline,
                "ours": cut.ours,
                "cut": cut.cut,
                "low": cut.low,
                "high": cut.high,
            },
            "pr_auc": {"baseline": self.compared.baseline.pr_auc.point, "ours": self.compared.ours.pr_auc.point},
            "gate": {
                "promoted": sum(report.promoted for report in retrains),
                "refused": sum(not report.promoted for report in retrains),
                "reasons": [reason for report in retrains for reason in report.verdict.reasons],
            },
            "outcomes": self.outcomes,
            "stream": self.stream,
            "swap": self.swap,
            "seconds": round(self.seconds, 1),
            "steps": {name: round(value, 1) for name, value in self.steps.items()},
            "peak_rss_mb": peak_rss_mb(),
        }


def write_summary(found: Found, path: Path) -> dict[str, Any]:
    """Write ``summary.json`` and return what it holds."""
    summary = found.summary()
    path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return summary


def peak_rss_mb() -> int:
    """Return the largest resident set of this process or any child that has ended, in MB."""
    kilobytes = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(kilobytes / 1024)
