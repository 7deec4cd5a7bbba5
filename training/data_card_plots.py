"""The pictures of a data card: rows and fraud by day, how labels settle, what is missing, what tells frauds apart."""

import io
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from fraud.windows import DAY
from training.dataset import TrainingSet
from training.label_ages import Maturity
from training.plots import BASELINE, FRAUD, GRID, INK, OURS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

TOP_FEATURES: Final = 6
MOST_MISSING: Final = 25
_BINS: Final = 30
_SAMPLE: Final = 200_000


def separations(rows: TrainingSet) -> list[tuple[str, float]]:
    """Return each feature's separation of frauds from legitimate rows, the best first, of those known in both.

    The separation is Kolmogorov and Smirnov's: the largest gap between the shares of both classes at or below a value,
    0 to 1. Constant features have none; missing values are left out.
    """
    found = []
    taken = _some(len(rows.is_fraud))
    fraud = rows.is_fraud[taken]
    for column, name in enumerate(rows.features):
        values = rows.matrix[taken, column]
        bad, good = (np.sort(chosen[~np.isnan(chosen)]) for chosen in (values[fraud], values[~fraud]))
        if not len(bad) or not len(good):
            continue
        steps = np.concatenate((bad, good))
        below = [np.searchsorted(some, steps, side="right") / len(some) for some in (bad, good)]
        found.append((name, float(np.abs(below[0] - below[1]).max())))
    return sorted(found, key=lambda item: (-item[1], item[0]))


def draw_days(rows: TrainingSet) -> bytes:
    """Return rows and fraud rate by day as a PNG."""
    first = int(rows.event_time_ms[0]) // DAY
    day = rows.event_time_ms // DAY - first
    weight = np.ones(len(day)) if rows.weights is None else rows.weights
    counts, frauds = np.bincount(day), np.bincount(day[rows.is_fraud], minlength=int(day.max()) + 1)
    stand_for = np.bincount(day, weights=weight)
    when: Any = (np.arange(len(counts)) + first).astype("datetime64[D]")

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True)
        upper.bar(when, counts, color=OURS, width=0.9)
        _style(upper, "Rows a day", "")
        upper.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        rate = np.divide(frauds, stand_for, out=np.full(len(counts), np.nan), where=stand_for > 0)
        lower.plot(when, rate, color=FRAUD, linewidth=1.6, marker="o", markersize=3)
        share = frauds.sum() / stand_for.sum()
        lower.axhline(share, color=INK, linewidth=1, linestyle=":", label=f"of all rows {share:.2%}")
        _style(lower, "Fraud rate a day" + ("" if rows.weights is None else ", by weight"), "")
        lower.yaxis.set_major_formatter(PercentFormatter(1.0))
        lower.set_ylim(bottom=0)
        lower.legend(frameon=False, fontsize=9)
        locator: Any = AutoDateLocator()  # type: ignore[no-untyped-call]
        lower.xaxis.set_major_locator(locator)
        lower.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]

    return _png(10.5, 4.6, draw)


def draw_maturity(settled: Maturity, label_delay_ms: int) -> bytes:
    """Return as a PNG how many of the set's frauds were known how long after their payment."""
    ages, delay = settled.age_days, label_delay_ms / DAY

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        if len(ages):
            share = np.arange(1, len(ages) + 1) / len(ages)
            axes.step([0.0, *ages.tolist()], [0.0, *share.tolist()], where="post", color=FRAUD, linewidth=2)
        known = settled.known_by(delay)
        text = "" if known is None else f", when {known:.1%} of them were known"
        axes.axvline(delay, color=INK, linestyle=":", linewidth=1.2, label=f"label delay {delay:g} days{text}")
        axes.set(ylim=(0, 1.02), xlim=(0, max(delay * 1.5, float(ages.max(initial=1.0)) * 1.02)))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        _style(axes, "Label maturity: frauds of this set that were known", "days after the payment")
        axes.legend(frameon=False, fontsize=9, loc="lower right")

    return _png(10.5, 3.2, draw)


def draw_missing(rows: TrainingSet) -> bytes:
    """Return as a PNG the features that are missing most often."""
    share = np.isnan(rows.matrix).mean(axis=0)
    order = np.argsort(-share, kind="stable")[:MOST_MISSING]
    order = order[share[order] > 0][::-1]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.barh([rows.features[place] for place in order], share[order], color=BASELINE)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlim(0, 1)
        axes.tick_params(axis="y", labelsize=8)
        full = int((share == 0).sum())
        _style(axes, f"Missing share; {full} of {len(share)} features are never missing", "share of rows")
        for place, at in enumerate(order):
            axes.text(float(share[at]) + 0.005, place, f"{share[at]:.1%}", va="center", fontsize=7.5, color=INK)

    return _png(10.5, 1.2 + 0.2 * max(len(order), 2), draw)


def draw_top_features(rows: TrainingSet, top: list[tuple[str, float]]) -> bytes:
    """Return as a PNG how the features that separate best are distributed in both classes."""
    taken = _some(len(rows.is_fraud))
    fraud = rows.is_fraud[taken]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2, 3, squeeze=False).ravel()
        for axes, (name, gap) in zip(grid, top, strict=False):
            values = rows.matrix[taken, rows.features.index(name)].astype(np.float64)
            _two_classes(axes, values, fraud)
            _style(axes, "", "")
            axes.set_title(f"{name}\nseparation {gap:.2f}", fontsize=9, loc="left", color=INK)
        for axes in grid[len(top) :]:
            axes.set_visible(False)
        if top:
            grid[0].legend(frameon=False, fontsize=8)

    return _png(10.5, 5.4, draw)


def _two_classes(axes: Axes, values: FloatArray, fraud: npt.NDArray[np.bool_]) -> None:
    """Draw the share of each class by value; large spans by the logarithm of one plus the value."""
    known = ~np.isnan(values)
    low, high = np.percentile(values[known], [0.5, 99.5])
    wide = low >= 0.0 and high > 50.0
    shown = np.log10(1.0 + np.clip(values, low, high)) if wide else np.clip(values, low, high)
    edges = np.linspace(float(shown[known].min()), float(shown[known].max()) + 1e-9, _BINS + 1)
    for chosen, colour, label in ((~fraud, OURS, "legitimate"), (fraud, FRAUD, "fraud")):
        here = shown[known & chosen]
        share = np.histogram(here, edges)[0] / max(len(here), 1)
        axes.stairs(share, edges, color=colour, fill=True, alpha=0.28)
        axes.stairs(share, edges, color=colour, linewidth=1.4, label=label)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if wide:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value - 1:,.0f}"))


def _some(count: int) -> IntArray:
    """Return evenly spaced places of at most so many rows: drawing more would show nothing more."""
    return np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64))


def _style(axes: Axes, title: str, below: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(below, fontsize=9, color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _png(width: float, height: float, draw: Callable[[Figure], None]) -> bytes:
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
