"""The replay's pictures: week by week, by fraud type and segment, calibration, cost; each as PNG bytes."""

from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from training.equal_catch import EqualCatch
from training.plots import BASELINE, FRAUD, OURS, style
from training.weekly_evaluation import WeekFigures, WeeklyEvaluation

_LEAST_SHARE = 1e-5
"""Shares below it are drawn at it: a logarithmic axis has no zero."""


def weeks_picture(found: WeeklyEvaluation) -> bytes:
    """Draw PR-AUC and false positives of each week."""
    recall = found.at[0].recall

    def draw(panels: Sequence[Axes]) -> None:
        _weekly(panels[0], found.weeks, lambda w: (w.baseline_pr_auc, w.pr_auc), "PR-AUC", "area")
        title = f"False positives, both at {recall:.0%} recall"
        _weekly(panels[1], found.weeks, lambda w: (w.baseline_false_positives, w.false_positives), title, "payments")

    return _png(draw, 2, height=3.8)


def parts_picture(at: EqualCatch) -> bytes:
    """Draw recall by fraud type, and the cut of false positives by segment, at one catch."""
    cuts = [part for part in at.by_segment if part.cut.low is not None]
    height = 1.6 + 0.32 * max(len(cuts), len(at.by_type), 4)

    def draw(panels: Sequence[Axes]) -> None:
        places = np.arange(len(at.by_type), dtype=np.float64)
        for name, colour, shift in (("baseline", BASELINE, -0.17), ("ours", OURS, 0.17)):
            panels[0].barh(places + shift, [getattr(one, name) for one in at.by_type], 0.32, color=colour, label=name)
        panels[0].set_yticks(places, [f"{one.fraud_type} ({one.frauds:,})" for one in at.by_type])
        style(panels[0], f"Recall by fraud type, {at.recall:.0%} overall", "share caught", "")
        panels[0].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panels[0].set_xlim(0.0, 1.25)  # room for the legend beside the longest bar
        panels[0].legend(frameon=False, loc="lower right", fontsize=9)
        rows = np.arange(len(cuts), dtype=np.float64)
        points = np.array([part.cut.point for part in cuts])
        low, high = (np.array([getattr(part.cut, end) for part in cuts], np.float64) for end in ("low", "high"))
        if len(cuts):
            spans = np.maximum([points - low, high - points], 0.0)
            panels[1].errorbar(points, rows, xerr=spans, fmt="o", color=OURS, capsize=3)
        panels[1].axvline(0.0, color=FRAUD, linewidth=1, linestyle=":")
        panels[1].set_yticks(rows, [f"{part.segment}: {part.part}" for part in cuts])
        panels[1].set_xlim(max(min([-0.1, *low.tolist()]), -2.0), 1.05)
        panels[1].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        style(panels[1], "Fewer false positives, by segment", "cut against the baseline, with 95% interval", "")

    return _png(draw, 2, height=height)


def trust_picture(found: WeeklyEvaluation) -> bytes:
    """Draw the reliability of both sides' scores, and the cost curve."""

    def draw(panels: Sequence[Axes]) -> None:
        panels[0].plot([_LEAST_SHARE, 1], [_LEAST_SHARE, 1], color="#22262b", linewidth=1, linestyle=":")
        for name, one, colour in (
            ("baseline", found.baseline_reliability, BASELINE),
            ("ours", found.reliability, OURS),
        ):
            said, happened = (np.maximum(values, _LEAST_SHARE) for values in (one.said, one.happened))
            label = f"{name}: ECE {one.expected_error:.4f}, expected/seen {one.ratio:.2f}"
            panels[0].plot(said, happened, "o-", color=colour, markersize=4, linewidth=1.2, label=label)
        style(panels[0], "Can a score be read as a probability?", "mean score of the group", "share that is fraud")
        panels[0].set(xscale="log", yscale="log", xlim=(_LEAST_SHARE, 1), ylim=(_LEAST_SHARE, 1))
        panels[0].legend(frameon=False, fontsize=9, loc="upper left")
        panels[1].plot(
            np.maximum(found.curve.thresholds, _LEAST_SHARE), found.curve.declining, color=OURS, label="declining from"
        )
        nothing = found.curve.doing_nothing
        panels[1].axhline(nothing, color=FRAUD, linewidth=1, linestyle=":", label="approving everything")
        weekly = float(np.average([w.cost for w in found.weeks], weights=[w.rows for w in found.weeks]))
        panels[1].axhline(weekly, color="#3f7d20", linewidth=1.4, linestyle="--", label="solved thresholds, as lived")
        panels[1].set(xscale="log", ylim=(0, 1.6 * max(nothing, weekly)))
        style(panels[1], "What a threshold costs", "threshold on our score", "minor units per payment")
        panels[1].legend(frameon=False, fontsize=9)

    return _png(draw, 2, height=4.2)


def _weekly(
    axes: Axes,
    weeks: Sequence[WeekFigures],
    values: Callable[[WeekFigures], tuple[float, float]],
    title: str,
    unit: str,
) -> None:
    places = np.arange(len(weeks), dtype=np.float64)
    pairs = np.array([values(week) for week in weeks])
    for column, (name, colour) in enumerate((("baseline", BASELINE), ("ours", OURS))):
        axes.plot(places, pairs[:, column], "o-", color=colour, label=name)
    axes.set_xticks(places, [week.first_day[5:] for week in weeks])
    axes.set_ylim(bottom=0)
    style(axes, title, "week from", unit)
    axes.legend(frameon=False, fontsize=9)


def _png(draw: Callable[[Sequence[Axes]], None], columns: int, *, height: float) -> bytes:
    figure = Figure(figsize=(12, height), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    draw(np.atleast_1d(figure.subplots(1, columns)).tolist())
    held = BytesIO()
    figure.savefig(held, format="png")
    return held.getvalue()
