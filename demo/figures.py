"""What the demo found, gathered for the screen, the page and ``summary.json``."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.learning import Compared
from demo.memory import MemoryWatch
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
class HourShape:
    """Payments a minute: before the live hour, in it, and those of them that belong to card testing."""

    before: tuple[int, ...]
    during: tuple[int, ...]
    testing: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """Everything the demo measured."""

    data: str
    hour: HourShape
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
    memory: MemoryWatch
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
            "recall_at_baseline_false_positives": self.compared.recall_at_their_alarms,
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
            "peak_rss_mb": self.memory.peak_mb,
            "peak_rss_mb_by_process": dict(self.memory.by_process),
        }


def write_summary(found: Found, path: Path) -> dict[str, Any]:
    """Write ``summary.json`` and return what it holds."""
    summary = found.summary()
    write_json(summary, path)
    return summary


def write_json(summary: dict[str, Any], path: Path) -> None:
    """Write the figures to a file of any folder, new ones too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json_text(summary), encoding="utf-8")


def json_text(summary: dict[str, Any]) -> str:
    """Return the figures as they are written."""
    return json.dumps(summary, indent=2, allow_nan=False) + "\n"
