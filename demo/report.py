"""The demo's last screen and its page: one self-contained HTML file, opened by path."""

import base64
import io
import textwrap
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from demo.figures import Found, Shown
from demo.screen import NAME_WIDTH
from retraining.verdict import Check, Verdict

TEMPLATE: Final = Path(__file__).with_name("report.html.j2")
_BLUE: Final = "#2458a6"
_GREY: Final = "#9aa3ad"
_RED: Final = "#c2410c"

WIDTH: Final = 96
"""Columns in which no line of the result is longer than the terminal."""
_ROOM: Final = WIDTH - NAME_WIDTH - 2

AGAINST_A_CHAMPION: Final = frozenset(
    {
        "ranks_no_worse",
        "no_more_false_positives_at_equal_catch",
        "scores_stable",
        "catches_every_amount",
        "catches_every_segment",
        "catches_every_type",
        "catches_at_its_thresholds",
    }
)
"""Checks that compare with the champion. The first one is held against itself there, which tells a reader nothing."""


def write_report(found: Found, summary: dict[str, Any], path: Path) -> None:
    """Write the page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        found=found,
        summary=summary,
        hour=_inline(_hour_picture(found)),
        comparison=_inline(found.compared.picture.read_bytes()),
        outcome_share=_outcome_share(found),
        weeks=[
            (name, report, shown_checks(report.verdict, alone=not place))
            for place, (name, report) in enumerate(found.weeks)
        ],
    )
    path.write_text(page, encoding="utf-8")


def shown_checks(verdict: Verdict, *, alone: bool) -> list[Check]:
    """Return the checks worth reading: where there was no champion (``alone``), only those that need none."""
    return [check for check in verdict.checks if not (alone and check.name in AGAINST_A_CHAMPION)]


def result_rows(found: Found, summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the last screen: what was measured, one line each, whole in a terminal of ``WIDTH`` columns."""
    latency, freshness, cut, swap = summary["latency_ms"], summary["freshness_ms"], found.compared.cut, found.swap
    parity = summary["parity"]
    rows = [
        ("payments scored", f"{summary['requests']:,} through HTTP and Kinesis, {summary['errors']} errors"),
        (
            "latency, from when due",
            f"p50 {latency['p50']:.2f} ms   p95 {latency['p95']:.2f} ms   p99 {latency['p99']:.2f} ms",
        ),
        ("freshness, stream to store", f"p50 {freshness['p50']:.0f} ms   p99 {freshness['p99']:.0f} ms"),
        (
            "online = offline",
            (
                f"{parity['mismatches']} mismatches in {parity['compared']:,} served vectors, "
                f"{found.at_rest['mismatches']} in {found.at_rest['compared']} at rest"
            ),
        ),
        (
            f"false positives at {cut.recall:.0%} catch",
            f"{cut.ours:,}, the baseline {cut.baseline:,}: {cut.cut:.0%} fewer{_interval(cut.low, cut.high)}",
        ),
        (
            "PR-AUC by the truth",
            f"{found.compared.ours.pr_auc.point:.3f}, the baseline {found.compared.baseline.pr_auc.point:.3f}",
        ),
        (
            "while a champion was replaced",
            f"{swap['requests']:,} requests, {swap['errors']} errors, by {len(swap['versions'])} versions",
        ),
        *((f"gate, {name}", _verdict(report.verdict)) for name, report in found.weeks),
        *((f"{shown.decision['outcome']}, {_words(shown.fraud_type)}", _why(shown)) for shown in found.shown),
        ("took", f"{summary['seconds']:.0f} s, at most {summary['peak_rss_mb']:,} MB in all processes together"),
    ]
    if parity["degraded"]:
        rows.insert(4, ("answered without the store", f"{parity['degraded']:,}; they say so, and are not compared"))
    return rows


def _verdict(verdict: Verdict) -> str:
    """Return a verdict in a line: the names of the failed checks, as many as fit."""
    if verdict.passed:
        return "promoted"
    failed = [_words(check.name) for check in verdict.checks if not check.passed]
    for shown in range(len(failed), 0, -1):
        more = "" if shown == len(failed) else f" and {len(failed) - shown} more"
        line = f"failed: {', '.join(failed[:shown])}{more}"
        if len(line) <= _ROOM:
            return line
    return f"refused, {len(failed)} checks failed"


def _why(shown: Shown) -> str:
    """Return amount and the strongest reason that fits in a line; where none does, as much of the first as fits."""
    texts = [reason["text"] for reason in shown.decision["reasons"]]
    lines = [f"{shown.transaction['amount']}: {text}" for text in texts]
    cut = [text.split(", ")[0] for text in (*lines, *texts)]
    found = next((line for line in (*lines, *cut) if len(line) <= _ROOM), None)
    return found or textwrap.shorten(lines[0], _ROOM, placeholder=" ...")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" (95 % sure: {low:.0%} to {high:.0%})"


def _outcome_share(found: Found) -> list[dict[str, Any]]:
    rows = []
    for kind, counts in found.outcomes.items():
        total = sum(counts.values())
        rows.append({"kind": kind.replace("_", " "), "total": total, **counts})
    return sorted(rows, key=lambda row: (row["kind"] != "legitimate", -row["total"]))


def _hour_picture(found: Found) -> bytes:
    """Draw payments a minute before and in the live hour, and the latency of each second of its replay."""
    figure = Figure(figsize=(11, 3.8), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_hour(left, found)
    seconds, latency = np.array(found.answers.second), np.array(found.answers.latency_ms)
    span = np.arange(seconds.max() + 1)
    for share, name, colour in ((0.99, "p99", _BLUE), (0.5, "p50", _GREY)):
        each = [np.quantile(latency[seconds == s], share) if (seconds == s).any() else np.nan for s in span]
        right.plot(span, each, color=colour, label=name)
    right.set_ylim(0, right.dataLim.ymax * 1.15)  # room for the legend
    right.set_title("Latency from when each was due, ms", loc="left", fontweight="bold")
    right.set_xlabel("second of the replay")
    right.legend(frameon=False, loc="upper right", ncols=2, fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_hour(axes: Axes, found: Found) -> None:
    """Draw the payments a minute: the hour before, the live hour, and in it those of the card testers."""
    shape, simulated = found.hour, found.data == "simulated"
    minutes = np.arange(len(shape.during))
    axes.bar(minutes - len(minutes), shape.before, color=_GREY, width=1.0, label="before, from the history")
    axes.bar(minutes, shape.during, color=_BLUE, width=1.0, label="payday peak" if simulated else "live, replayed")
    if sum(shape.testing):
        axes.bar(minutes, shape.testing, color=_RED, width=1.0, label="of them card testing")
    axes.axvline(-0.5, color="#22262b", linewidth=1, linestyle=":")
    axes.set_ylim(top=max(*shape.during, *shape.before) * 1.28)
    axes.set_title("Payments a minute", loc="left", fontweight="bold")
    axes.set_xlabel("minute of the live hour" if simulated else "minute of the live hours")
    axes.legend(frameon=False, loc="upper left", ncols=3, fontsize=9)


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
