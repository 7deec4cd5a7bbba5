"""The signed-off report of a candidate, promoted or refused: figures as JSON, and one HTML page with its model card.

Digests tie it to the bundle: the page names the version, the registry's event names the digest of the JSON. Same
inputs, same bytes, but for what the clock measured.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from retraining.held_out import HeldOut
from retraining.page import STYLE, table
from retraining.report_figures import both_classes, costs_of, metrics_of, segments_of, work_of
from retraining.verdict import Check, Verdict
from training.challenger import TrainingPlan
from training.intervals import Interval
from training.plots import BASELINE, OURS, style
from training.ranking import FloatArray, rank
from training.transaction_log import day_text

REPORT_JSON: Final = "report.json"
REPORT_HTML: Final = "report.html"

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
        "checks": [check.facts() for check in verdict.checks],
        "champion": champion,
        "as_of": day_text(as_of_ms),
        "held_out": {"from": day_text(test_from), "to": day_text(end - 1), "rows": len(held.is_fraud),
                     "frauds": int(held.is_fraud.sum()), "effective_rows": held.effective_rows,
                     "effective_frauds": held.effective_frauds, "left_out": held.left_out},
        "metrics": metrics_of(held, plan.seed, alone=champion is None),
        "work": work_of(held, plan.review_share, alone=champion is None),
        "segments": segments_of(held),
        "signed_off": _signature(verdict),
        "policy": {name: policy[name] for name in ("version", "review_at", "decline_at")},
        "labels": {"as_of": day_text(as_of_ms), "delay_days": plan.label_delay_days,
                   "policy": "a payment is legitimate until a statement that had arrived says otherwise"},
        "provenance": provenance,
        "intended_use": INTENDED,
        "limits": LIMITS_OF_USE,
    }  # fmt: skip
    text = json.dumps(found, allow_nan=False, indent=1, sort_keys=True).encode()
    return CandidateReport(text, _render(found, _draw(held)))


def _signature(verdict: Verdict) -> dict[str, Any]:
    """Return who signed off what: the gate, check by check; a person signs by approving the package."""
    return {
        "by": "the gate",
        "approved": verdict.passed,
        "asked": sum(check.asked for check in verdict.checks),
        "passed": sum(check.asked and check.passed for check in verdict.checks),
        "not_asked": [check.name for check in verdict.checks if not check.asked],
    }


def _draw(held: HeldOut) -> bytes:
    """Draw precision against recall, how far each score can be read as a probability, and what declining costs."""
    figure = Figure(figsize=(15, 4.2), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, right, cost = figure.subplots(1, 3).ravel().tolist()
    sides = (("champion", held.champion, BASELINE), ("candidate", held.challenger, OURS))
    if both_classes(held):
        for name, scores, colour in sides:
            curve = rank(scores, held.is_fraud, weights=held.weights).curve()
            recall = curve.caught[:, 0] / curve.frauds[0]
            left.plot(recall, curve.caught[:, 0] / (curve.caught[:, 0] + curve.false_positives[:, 0]), color=colour,
                      label=name)  # fmt: skip
            _reliability(right, name, scores, held.is_fraud, colour)
            prices = costs_of(held, scores)
            if prices is not None:
                cost.plot(np.maximum(prices.thresholds, 1e-5), prices.declining, color=colour, label=name)
        left.legend(frameon=False, fontsize=9)
        right.legend(frameon=False, fontsize=9, loc="upper left")
        cost.legend(frameon=False, fontsize=9)
    left.set(xlim=(0, 1), ylim=(0, 1.02))
    cost.set(xscale="log", xlim=(1e-5, 1), ylim=(0, None))
    right.plot([1e-5, 1], [1e-5, 1], color="#22262b", linewidth=1, linestyle=":")
    right.set(xscale="log", yscale="log", xlim=(1e-5, 1), ylim=(1e-5, 1))
    style(
        left, "Precision against recall, held-out days", "share of the frauds caught", "share of alerts that is fraud"
    )
    style(right, "Can a score be read as a probability?", "mean score of the group", "share that is fraud")
    style(cost, "What declining from a score on costs", "threshold", "minor units per payment, example prices")
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
        _signed(found["signed_off"], found["version"]),
        "<h2>The gate</h2>",
        table(("check", "", "evidence"),
              [(check["name"], Check(**check).word, check["evidence"]) for check in found["checks"]]),
        "<h2>Figures, with 95% intervals over resampled days</h2>",
        table(("held-out days", "candidate", "champion"), _metric_rows(found["metrics"])),
        "<h2>Work, calibration, cost</h2>",
        table(("held-out days", "candidate", "champion"), _work_rows(found["work"])),
        f'<img alt="precision and recall, reliability, cost" src="data:image/png;base64,{b64encode(png).decode()}">',
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


_WORK: Final = {
    "expected_calibration_error": "ECE: mean distance of score and share of frauds",
    "card_precision": "precision of the cards reviewed a day",
    "reviews_a_day": "reviews a day",
    "cost_of_approving_all": "cost per payment, everything approved",
    "cost_at_own_decline_threshold": "cost per payment at its own decline threshold",
    "least_cost": "least cost per payment of any threshold",
}


def _work_rows(work: Mapping[str, Mapping[str, Any]]) -> list[Sequence[str]]:
    def said(side: str, name: str) -> str:
        value = work.get(side, {}).get(name)
        return "" if value is None else f"{value:.4g}"

    return [(words, said("candidate", name), said("champion", name)) for name, words in _WORK.items()] if work else []


def _signed(one: Mapping[str, Any], version: str) -> str:
    word = "Signed off" if one["approved"] else "Not signed off"
    missing = f"; not asked: {', '.join(one['not_asked'])}" if one["not_asked"] else ""
    said = f"{word} by {one['by']}: {one['passed']} of {one['asked']} checks asked were passed by {version}{missing}."
    return f"<p>{escape(said)}</p>"


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
