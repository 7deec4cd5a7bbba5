"""One picture of a model against its baseline, readable without the code that drew it.

Four panels: precision against recall, false positives where both catch the same share of the fraud, how far a score can
be read as a probability, and where the scores of fraud and of legitimate payments lie.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from training.errors import InvalidMetricInput, UnwritableOutput
from training.evaluation import AtRecall, Evaluation, FalsePositiveCut
from training.ranking import BoolArray, FloatArray, rank, require_scored_rows, same_length

BASELINE: Final = "#8a8f98"
OURS: Final = "#0b6e99"
FRAUD: Final = "#c2410c"
INK: Final = "#22262b"
GRID: Final = "#e4e7eb"

_RELIABILITY_BINS: Final = 10
_SCORE_BINS: Final = 40
_SMALLEST_SCORE: Final = 1e-5
"""Scores below it are drawn at it: a logarithmic axis has no zero."""


def draw_comparison(
    path: Path,
    *,
    baseline: Evaluation,
    ours: Evaluation,
    cuts: Sequence[FalsePositiveCut],
    baseline_scores: FloatArray,
    our_scores: FloatArray,
    is_fraud: BoolArray,
    title: str = "Fraud model against its baseline",
) -> None:
    """Write the picture as a PNG.

    Parameters
    ----------
    path
        File to write; its folder must exist.
    baseline, ours
        Evaluations of the two models on these rows, at the recall targets of ``cuts``.
    cuts
        The comparisons at equal recall, at least one.
    baseline_scores, our_scores
        Probabilities of fraud, each in [0, 1], shape ``(n,)``.
    is_fraud
        Mature labels, shape ``(n,)``.
    title
        Headline.

    Raises
    ------
    InvalidMetricInput
        A score is no probability, lengths differ, or there is no cut or an evaluation lacks its recall.
    UnwritableOutput
        The file cannot be written.
    """
    same_length(our_scores, baseline_scores=baseline_scores, is_fraud=is_fraud)
    for scores in (baseline_scores, our_scores):
        require_scored_rows(scores, is_fraud)
        if scores.min() < 0.0 or scores.max() > 1.0:
            raise InvalidMetricInput(f"scores span {scores.min()}..{scores.max()}, which are no probabilities")
    figure = Figure(figsize=(13, 9.2), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    _draw_precision_recall(axes[0, 0], baseline, ours, baseline_scores, our_scores, is_fraud)
    _draw_false_positives(axes[0, 1], baseline, ours, cuts)
    _draw_reliability(axes[1, 0], baseline_scores, our_scores, is_fraud)
    _draw_scores(axes[1, 1], our_scores, is_fraud)
    figure.suptitle(title, x=0.03, y=0.975, ha="left", fontsize=17, fontweight="bold", color=INK)
    figure.text(0.03, 0.925, _subtitle(ours), fontsize=11, color="#4b5563")
    figure.subplots_adjust(left=0.075, right=0.975, top=0.865, bottom=0.07, hspace=0.36, wspace=0.17)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise UnwritableOutput(f"{path} cannot be written: {error}") from error


def _subtitle(evaluation: Evaluation) -> str:
    return (
        f"{evaluation.rows:,} payments of {evaluation.days} test days, {evaluation.frauds:,} of them fraud "
        f"({evaluation.frauds / evaluation.rows:.2%}).  Whiskers and brackets: 95% intervals over resampled days."
    )


def _draw_precision_recall(
    axes: Axes,
    baseline: Evaluation,
    ours: Evaluation,
    baseline_scores: FloatArray,
    our_scores: FloatArray,
    is_fraud: BoolArray,
) -> None:
    for name, evaluation, scores, colour in (
        ("baseline", baseline, baseline_scores, BASELINE),
        ("ours", ours, our_scores, OURS),
    ):
        curve = rank(scores, is_fraud).curve()
        caught, alerts = curve.caught[:, 0], (curve.caught + curve.false_positives)[:, 0]
        area = evaluation.pr_auc
        bounds = "" if area.low is None or area.high is None else f"  [{area.low:.3f}, {area.high:.3f}]"
        label = f"{name}: area {area.point:.3f}{bounds}"
        axes.plot(caught / caught[-1], caught / alerts, color=colour, linewidth=2.2, label=label)
    share = float(is_fraud.mean())
    axes.axhline(share, color=INK, linewidth=1, linestyle=":", label=f"alerting at random: {share:.2%}")
    style(axes, "Precision against recall", "share of the fraud caught (recall)", "share of alerts that are fraud")
    axes.set(xlim=(0, 1), ylim=(0, 1.34), yticks=np.linspace(0, 1, 6).tolist())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(frameon=False, fontsize=9.5, loc="upper left")  # above all that can be, so that no curve is covered


def _draw_false_positives(axes: Axes, baseline: Evaluation, ours: Evaluation, cuts: Sequence[FalsePositiveCut]) -> None:
    if not cuts:
        raise InvalidMetricInput("no cut to draw: compare the models at one recall at least")
    places = np.arange(len(cuts), dtype=np.float64)
    least, most = np.inf, 0.0
    for name, evaluation, colour, side in (("baseline", baseline, BASELINE, -1), ("ours", ours, OURS, 1)):
        targets = [_at(evaluation, cut.recall).false_positives for cut in cuts]
        points = np.array([target.point for target in targets])
        low = np.array([target.point if target.low is None else target.low for target in targets])
        high = np.array([target.point if target.high is None else target.high for target in targets])
        least, most = min(least, float(low.min())), max(most, float(high.max()))
        spans = np.maximum([points - low, high - points], 0.0)
        at = places + 0.09 * side
        axes.errorbar(
            at, points, yerr=spans, fmt="o", markersize=10, color=colour, elinewidth=2.2, capsize=5, label=name
        )
        for place, point in zip(at.tolist(), points.tolist(), strict=True):
            axes.annotate(
                f"{point:,.0f}",
                (place, point),
                (11 * side, 0),
                textcoords="offset points",
                ha="left" if side > 0 else "right",
                va="center",
                fontsize=11,
                fontweight="bold",
                color=colour,
            )
    style(axes, "False positives at equal catch", "", "legitimate payments alerted (logarithmic)")
    axes.set_xticks(places, [_cut_text(cut) for cut in cuts])
    axes.tick_params(axis="x", length=0, labelsize=10.5)
    axes.set_xlim(-0.5, len(cuts) - 0.5)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(10.0 ** np.floor(np.log10(least)) if least >= 1.0 else 0.0, max(most, 1.0) * 2.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, fontsize=9.5, loc="lower right")


def _draw_reliability(axes: Axes, baseline_scores: FloatArray, our_scores: FloatArray, is_fraud: BoolArray) -> None:
    span = (_SMALLEST_SCORE, 1.0)
    axes.plot(span, span, color=INK, linewidth=1, linestyle=":", label="a perfect probability")
    for name, scores, colour, marker in (
        ("baseline", baseline_scores, BASELINE, "o"),
        ("ours", our_scores, OURS, "s"),
    ):
        said, happened = _reliability(scores, is_fraud)
        axes.plot(said, happened, color=colour, marker=marker, markersize=6, linewidth=1.6, label=name)
    style(axes, "Can a score be read as a probability?", "mean score of the group", "share that is fraud")
    axes.set(xscale="log", yscale="log", xlim=span, ylim=span)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_share_text))
        axis.set_minor_locator(NullLocator())
    axes.legend(frameon=False, fontsize=9.5, loc="upper left")
    axes.text(
        0.98,
        0.04,
        "above the line: riskier than the score says;\ngroups of scores without any fraud are left out",
        transform=axes.transAxes,
        ha="right",
        fontsize=9,
        color="#4b5563",
    )


def _draw_scores(axes: Axes, scores: FloatArray, is_fraud: BoolArray) -> None:
    edges = np.geomspace(_SMALLEST_SCORE, 1.0, _SCORE_BINS + 1)
    drawn = np.maximum(scores, _SMALLEST_SCORE)
    for name, rows, colour in (("legitimate", ~is_fraud, OURS), ("fraud", is_fraud, FRAUD)):
        share = np.full(int(rows.sum()), 1.0 / rows.sum())
        axes.hist(drawn[rows], bins=edges.tolist(), weights=share, color=colour, alpha=0.6, label=name)
    style(axes, "Where our scores lie", "our score (logarithmic)", "share of each kind")
    axes.set(xscale="log", xlim=(_SMALLEST_SCORE, 1.0))
    axes.xaxis.set_major_formatter(FuncFormatter(_share_text))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(frameon=False, fontsize=9.5, loc="upper left")


def _reliability(scores: FloatArray, is_fraud: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return mean score and share of fraud of each group of scores, for the groups that hold a fraud."""
    edges = np.geomspace(_SMALLEST_SCORE, 1.0, _RELIABILITY_BINS + 1)[1:-1]
    group = np.searchsorted(edges, scores, side="right")
    rows = np.bincount(group, minlength=_RELIABILITY_BINS)
    frauds = np.bincount(group[is_fraud], minlength=_RELIABILITY_BINS)
    total = np.bincount(group, scores, minlength=_RELIABILITY_BINS)
    kept = frauds > 0
    return np.maximum(total[kept] / rows[kept], _SMALLEST_SCORE), frauds[kept] / rows[kept]


def _at(evaluation: Evaluation, recall: float) -> AtRecall:
    for target in evaluation.at_recall:
        if target.recall == recall:
            return target
    raise InvalidMetricInput(f"the evaluation has no recall target {recall}")


def _cut_text(cut: FalsePositiveCut) -> str:
    bounds = "" if cut.low is None or cut.high is None else f"\n[{_change(cut.high)}, {_change(cut.low)}]"
    return f"both catch {cut.recall:.0%}\n{_change(cut.cut)}{bounds}"


def _change(cut: float) -> str:
    """Return a cut as a signed change, with a true minus sign."""
    return f"{-cut:+.0%}".replace("-", "\N{MINUS SIGN}")


def _share_text(value: float, _position: int) -> str:
    return f"{value * 100:g}%"


def style(axes: Axes, title: str, x: str, y: str) -> None:
    """Give a panel its title, labels and grid."""
    axes.set_title(title, loc="left", fontsize=12.5, fontweight="bold", color=INK)
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.set_ylabel(y, fontsize=10, color=INK)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9.5, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
