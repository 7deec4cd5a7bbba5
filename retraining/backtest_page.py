"""A replay of the weekly loop as one picture, and as one HTML page that needs nothing beside itself."""

from base64 import b64encode
from collections.abc import Callable
from html import escape
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from retraining.backtest import Playback, PlayedWeek, Realised
from retraining.backtest_gain import RECALL, Gain
from retraining.page import STYLE, table
from training.intervals import Interval
from training.plots import BASELINE, FRAUD, OURS, style

_PANELS: tuple[tuple[str, str, Callable[[Realised], float | None]], ...] = (
    ("PR-AUC", "area", lambda one: one.pr_auc),
    ("Recall at the review threshold", "share of the frauds", lambda one: one.recall),
    ("False positives at the review threshold", "payments", lambda one: one.false_positives),
    ("Fraud amount alerted", "share", lambda one: one.value_detected),
)
_MARKS = {"promoted": (OURS, "o"), "refused": (FRAUD, "x"), "failed": ("#22262b", "s")}


def draw(playback: Playback) -> bytes:
    """Return the picture as PNG: what was served with retraining and without, week by week, and each verdict."""
    figure = Figure(figsize=(12, 8.2), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2).ravel().tolist()
    for axes, (title, unit, value) in zip(panels, _PANELS, strict=True):
        _panel(axes, playback.weeks, title, unit, value)
    panels[0].legend(frameon=False, fontsize=9, loc="lower left", ncols=2)
    held = BytesIO()
    figure.savefig(held, format="png")
    return held.getvalue()


def _panel(
    axes: Axes, weeks: tuple[PlayedWeek, ...], title: str, unit: str, value: Callable[[Realised], float | None]
) -> None:
    places = np.arange(len(weeks), dtype=np.float64)
    drawn = []
    for name, side, colour in (("first champion kept", "without", BASELINE), ("retrained weekly", "realised", OURS)):
        found = [getattr(week, side) for week in weeks]
        numbers = np.array([np.nan if one is None else value(one) for one in found], np.float64)
        axes.plot(places, numbers, "-", color=colour, linewidth=1.8, label=name)
        drawn.append(numbers)
    for outcome, (colour, mark) in _MARKS.items():
        chosen = np.array([week.outcome == outcome for week in weeks])
        if chosen.any():
            axes.plot(
                places[chosen], drawn[-1][chosen], mark, color=colour, markersize=6, label=f"challenger {outcome}"
            )
    step = max(1, len(weeks) // 9)
    axes.set_xticks(places[::step], [week.as_of[5:] for week in weeks][::step])
    top = np.nanmax(np.concatenate([*drawn, [0.0]]))
    axes.set_ylim(0, 1.15 * float(top) if top > 0 else 1.0)
    style(axes, title, "week from", unit)


def render(playback: Playback, gain: Gain | None, png: bytes, *, title: str) -> str:
    """Return the page."""
    weeks = playback.weeks
    parts = [
        f"<h1>{escape(title)}</h1>",
        _about(weeks),
        "<h2>What retraining buys</h2>",
        "<p>No week could be judged.</p>" if gain is None else _gain(gain),
        "<h2>Week by week</h2>",
        f'<img alt="served with and without retraining" src="data:image/png;base64,{b64encode(png).decode()}">',
        _weeks(weeks),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _about(weeks: tuple[PlayedWeek, ...]) -> str:
    said = ", ".join(f"{sum(week.outcome == name for week in weeks)} {name}" for name in _MARKS)
    return (
        f"<p>{len(weeks)} weekly iterations from {weeks[0].as_of} to {weeks[-1].as_of}: {said}. Each knew the labels "
        "that had arrived by its day. What was served is judged in the seven days that follow, by the labels known one "
        "label delay later; beside it the first champion, kept for ever.</p>"
    )


def gain_rows(gain: Gain) -> list[tuple[str, str]]:
    """Return each figure with its interval, as text."""
    return [
        ("PR-AUC, retrained weekly", _number(gain.pr_auc)),
        ("PR-AUC, first champion kept", _number(gain.kept_pr_auc)),
        ("PR-AUC gained", _number(gain.pr_auc_gain, sign=True)),
        (f"false positives saved where both catch {RECALL:.0%}", _share(gain.false_positive_cut)),
        ("recall gained at the review threshold", _share(gain.recall_gain, sign=True)),
        ("fraud amount gained there", _share(gain.value_gain, sign=True)),
        ("payments alerted there, change", _share(gain.alert_change, sign=True, digits=2)),
    ]


def _gain(gain: Gain) -> str:
    about = (
        f"<p>{gain.rows:,} payments, {gain.frauds:,} frauds, {gain.days} days. Brackets: 95% intervals over resampled "
        "days, both sides on the same ones. Thresholds are each model's own, chosen on its validation days.</p>"
    )
    return about + table(("over all weeks", "figure"), gain_rows(gain))


def _weeks(weeks: tuple[PlayedWeek, ...]) -> str:
    head = ("as of", "challenger", "outcome", "champion", "frauds", "PR-AUC", "kept", "recall", "kept", "false alarms",
            "kept", "amount", "kept", "why not")  # fmt: skip
    return table(head, [week_cells(week) for week in weeks])


def week_cells(week: PlayedWeek) -> tuple[str, ...]:
    """Return one week as text."""
    ours, kept = week.realised, week.without

    def pair(value: Callable[[Realised], float | None], form: str) -> tuple[str, str]:
        found = [None if one is None else value(one) for one in (ours, kept)]
        first, second = ("" if number is None else format(number, form) for number in found)
        return first, second

    return (
        week.as_of,
        (week.challenger or "")[:8],
        week.outcome,
        (week.champion or "none")[:8],
        "" if ours is None else f"{ours.frauds:,}",
        *pair(lambda one: one.pr_auc, ".3f"),
        *pair(lambda one: one.recall, ".0%"),
        *pair(lambda one: one.false_positives, ",d"),
        *pair(lambda one: one.value_detected, ".0%"),
        "; ".join(week.reasons),
    )


def _number(one: Interval, *, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    bounds = "" if one.low is None or one.high is None else f" [{one.low:{form}}, {one.high:{form}}]"
    return f"{one.point:{form}}{bounds}"


def _share(one: Interval, *, sign: bool = False, digits: int = 1) -> str:
    form = f"{'+' if sign else ''}.{digits}%"
    bounds = "" if one.low is None or one.high is None else f" [{one.low:{form}}, {one.high:{form}}]"
    return f"{one.point:{form}}{bounds}"
