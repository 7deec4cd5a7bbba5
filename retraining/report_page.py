"""The signed-off report of a candidate, promoted or refused: figures as JSON, and one HTML page with its model card.

Digests tie it to the bundle: the page names the version, the registry's event names the digest of the JSON. Same
inputs, same bytes, but for what the clock measured.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from retraining.gate import HeldOut, Verdict
from retraining.page import STYLE, table
from training.challenger import TrainingPlan
from training.intervals import Interval, day_block_intervals
from training.plots import BASELINE, OURS, style
from training.ranking import DAY_MS, FloatArray, rank
from training.transaction_log import day_text

REPORT_JSON: Final = "report.json"
REPORT_HTML: Final = "report.html"
RESAMPLES: Final = 200
RECALLS: Final = (0.3, 0.5, 0.7)

INTENDED: Final = (
    "Scores card payments at authorisation, in the scorer it was packed for, with the features it names. Its score is "
    "a probability of fraud as labels will say it; thresholds review and decline within stated budgets."
)
LIMITS_OF_USE: Final = (
    "Not for credit, identity or hiring; not for payments unlike those it was fitted on. What was declined has no "
    "label, so it is judged on what was let through. Fraud that no label reports is legitimate to it."
)


@dataclass(frozen=True)
class CandidateReport:
    """The report's two files."""

    figures: bytes
    page: str

    @property
    def sha256(self) -> str:
        """Digest of the figures, as the registry's event has it."""
        return hashlib.sha256(self.figures).hexdigest()

    def files(self) -> dict[str, bytes]:
        """Return the files by name."""
        return {REPORT_JSON: self.figures, REPORT_HTML: self.page.encode()}


def candidate_report(
    version: str,
    verdict: Verdict,
    held: HeldOut,
    plan: TrainingPlan,
    files: Mapping[str, bytes],
    *,
    as_of_ms: int,
    champion: str | None,
) -> CandidateReport:
    """Return the report.

    Parameters
    ----------
    version, files
        Of the candidate's bundle.
    verdict
        Of the gate.
    held
        The rows it was judged on.
    plan, as_of_ms
        Of the iteration.
    champion
        What it was held against; null for nothing.
    """
    provenance, policy = (json.loads(files[name]) for name in ("provenance.json", "policy.json"))
    test_from, end = plan.edges(as_of_ms)[2:]
    found = {
        "version": version,
        "outcome": "promoted" if verdict.passed else "refused",
        "reasons": list(verdict.reasons),
        "checks": [asdict(check) for check in verdict.checks],
        "champion": champion,
        "as_of": day_text(as_of_ms),
        "held_out": {"from": day_text(test_from), "to": day_text(end - 1), "rows": len(held.is_fraud),
                     "frauds": int(held.is_fraud.sum())},
        "metrics": _metrics(held, plan.seed, alone=champion is None),
        "segments": _segments(held),
        "policy": {name: policy[name] for name in ("version", "review_at", "decline_at")},
        "labels": {"as_of": day_text(as_of_ms), "delay_days": plan.label_delay_days,
                   "policy": "a payment is legitimate until a statement that had arrived says otherwise"},
        "provenance": provenance,
        "intended_use": INTENDED,
        "limits": LIMITS_OF_USE,
    }  # fmt: skip
    text = json.dumps(found, allow_nan=False, indent=1, sort_keys=True).encode()
    return CandidateReport(text, _render(found, _draw(held)))


def _both(held: HeldOut) -> bool:
    return 0 < int(held.is_fraud.sum()) < len(held.is_fraud)


def _metrics(held: HeldOut, seed: int, *, alone: bool) -> dict[str, dict[str, Any]]:
    """Return each figure of candidate and champion with its interval; nothing where there is one class only."""
    if not _both(held):
        return {}
    day = held.event_time_ms // DAY_MS
    found: dict[str, dict[str, Any]] = {}
    for side, scores in (("candidate", held.challenger), ("champion", held.champion)):
        ranking = rank(scores, held.is_fraud, day=day, amount_minor=held.amount_minor)

        def figures(weights: FloatArray, ranking: Any = ranking) -> FloatArray:
            curve = ranking.curve(weights)
            alarms = [curve.false_positives_at_recall(recall) for recall in RECALLS]
            return np.stack([curve.average_precision(), curve.roc_auc(), curve.recall_at_fpr(0.005), *alarms])

        names = ["PR-AUC", "ROC-AUC", "recall at 0.5% false positives"]
        names += [f"false positives at {recall:.0%} recall" for recall in RECALLS]
        intervals = day_block_intervals(figures, len(ranking.days), resamples=RESAMPLES, seed=seed)
        found[side] = {name: asdict(one) for name, one in zip(names, intervals, strict=True)}
        if alone:
            break
    return found


def _segments(held: HeldOut) -> list[dict[str, Any]]:
    """Return the catch of each segment at both models' own threshold for half of the frauds."""
    if not _both(held):
        return []
    alert = {}
    for side, scores in (("candidate", held.challenger), ("champion", held.champion)):
        ranking = rank(scores, held.is_fraud)
        alert[side] = scores >= ranking.thresholds[int(ranking.curve().threshold_at_recall(0.5)[0])]
    found = []
    for name, inside in held.parts.items():
        fraud = inside & held.is_fraud
        recall = {side: float(flags[fraud].mean()) if fraud.any() else None for side, flags in alert.items()}
        alarms = {side: int((flags & inside & ~held.is_fraud).sum()) for side, flags in alert.items()}
        found.append({"segment": name, "rows": int(inside.sum()), "frauds": int(fraud.sum()), "recall": recall,
                      "false_positives": alarms})  # fmt: skip
    return found


def _draw(held: HeldOut) -> bytes:
    """Draw precision against recall, and how far each score can be read as a probability."""
    figure = Figure(figsize=(12, 4.2), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2).ravel().tolist()
    sides = (("champion", held.champion, BASELINE), ("candidate", held.challenger, OURS))
    if _both(held):
        for name, scores, colour in sides:
            curve = rank(scores, held.is_fraud).curve()
            recall = curve.caught[:, 0] / curve.frauds[0]
            left.plot(recall, curve.caught[:, 0] / (curve.caught[:, 0] + curve.false_positives[:, 0]), color=colour,
                      label=name)  # fmt: skip
            _reliability(right, name, scores, held.is_fraud, colour)
        left.legend(frameon=False, fontsize=9)
        right.legend(frameon=False, fontsize=9, loc="upper left")
    left.set(xlim=(0, 1), ylim=(0, 1.02))
    right.plot([1e-5, 1], [1e-5, 1], color="#22262b", linewidth=1, linestyle=":")
    right.set(xscale="log", yscale="log", xlim=(1e-5, 1), ylim=(1e-5, 1))
    style(
        left, "Precision against recall, held-out days", "share of the frauds caught", "share of alerts that is fraud"
    )
    style(right, "Can a score be read as a probability?", "mean score of the group", "share that is fraud")
    bytes_ = BytesIO()
    figure.savefig(bytes_, format="png")
    return bytes_.getvalue()


def _reliability(axes: Axes, name: str, scores: FloatArray, is_fraud: npt.NDArray[np.bool_], colour: str) -> None:
    edges = np.unique(np.quantile(scores, [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 1.0]))
    group = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, max(len(edges) - 2, 0))
    count = np.maximum(np.bincount(group), 1)
    said, happened = np.bincount(group, scores) / count, np.bincount(group, is_fraud) / count
    axes.plot(np.maximum(said, 1e-5), np.maximum(happened, 1e-5), "o-", color=colour, markersize=4, label=name)


def _render(found: Mapping[str, Any], png: bytes) -> str:
    title = f"Candidate {found['version']}: {found['outcome']}"
    held, kind = found["held_out"], "good" if found["outcome"] == "promoted" else "bad"
    against = f"held against champion {found['champion']}" if found["champion"] else "there was no champion yet"
    parts = [
        f'<h1>Candidate {found["version"]}: <span class="{kind}">{found["outcome"]}</span></h1>',
        (f"<p>Iteration of {found['as_of']}, {escape(against)}; judged on {held['rows']:,} payments with "
        f"{held['frauds']:,} frauds from {held['from']} to {held['to']}.</p>"),
        "<h2>The gate</h2>",
        table(("check", "", "evidence"),
              [(check["name"], "pass" if check["passed"] else "FAIL", check["evidence"]) for check in found["checks"]]),
        "<h2>Figures, with 95% intervals over resampled days</h2>",
        table(("held-out days", "candidate", "champion"), _metric_rows(found["metrics"])),
        f'<img alt="precision and recall, reliability" src="data:image/png;base64,{b64encode(png).decode()}">',
        "<h2>Segments, each model catching half of all frauds</h2>",
        table(("segment", "payments", "frauds", "recall", "champion's", "false positives", "champion's"),
              [_segment_row(one) for one in found["segments"]]),
        "<h2>Model card</h2>",
        table(("", ""), _card(found)),
    ]  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _metric_rows(metrics: Mapping[str, Mapping[str, Any]]) -> list[Sequence[str]]:
    return [
        (
            name,
            *(
                _interval(Interval(**metrics[side][name])) if side in metrics else ""
                for side in ("candidate", "champion")
            ),
        )
        for name in metrics.get("candidate", {})
    ]


def _interval(one: Interval) -> str:
    form = ",.0f" if one.point > 1 else ".3f"
    bounds = "" if one.low is None or one.high is None else f" [{one.low:{form}}, {one.high:{form}}]"
    return f"{one.point:{form}}{bounds}"


def _segment_row(one: Mapping[str, Any]) -> Sequence[str]:
    recall = ["" if one["recall"][side] is None else f"{one['recall'][side]:.0%}" for side in ("candidate", "champion")]
    alarms = [f"{one['false_positives'][side]:,}" for side in ("candidate", "champion")]
    return one["segment"], f"{one['rows']:,}", f"{one['frauds']:,}", *recall, *alarms


def _card(found: Mapping[str, Any]) -> list[Sequence[str]]:
    made, policy, labels = found["provenance"], found["policy"], found["labels"]
    return [
        ("intended use", found["intended_use"]),
        ("limits", found["limits"]),
        ("fitted on", (f"{day_text(made['train_from_ms'])} to {day_text(made['train_to_ms'] - 1)}; stopped, calibrated "
                      f"and given thresholds on the days to {day_text(made['validation_to_ms'] - 1)}")),
        ("labels", f"{labels['policy']}; read {labels['as_of']}, mature after {labels['delay_days']} days"),
        ("thresholds", (f"review from {policy['review_at']:.5f}, decline from {policy['decline_at']:.5f} "
                       f"({policy['version']})")),
        ("model", f"{made['trees']} trees, seed {made['seed']}"),
        ("data SHA-256", made["data_sha256"]),
        ("code SHA-256", made["code_sha256"]),
    ]  # fmt: skip
