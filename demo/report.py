"""The demo's last screen and its page: one self-contained HTML file, opened by path."""

import base64
import io
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from demo.figures import Found

TEMPLATE: Final = Path(__file__).with_name("report.html.j2")
_BLUE: Final = "#2458a6"
_GREY: Final = "#9aa3ad"


def write_report(found: Found, summary: dict[str, Any], path: Path) -> None:
    """Write the page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        found=found,
        summary=summary,
        hour=_inline(_hour_picture(found)),
        comparison=_inline(found.compared.picture.read_bytes()),
        outcome_share=_outcome_share(found),
    )
    path.write_text(page, encoding="utf-8")


def result_table(found: Found, summary: dict[str, Any]) -> Table:
    """Return the last screen: what was measured, in one table."""
    table = Table(
        title="Tollgate: the whole loop on this machine", title_justify="left", show_header=False, expand=False
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    latency, freshness, cut = summary["latency_ms"], summary["freshness_ms"], found.compared.cut
    table.add_row("payments scored", f"{summary['requests']:,} through HTTP, {summary['errors']} errors")
    table.add_row(
        "latency, from when due",
        f"p50 {latency['p50']:.2f} ms   p95 {latency['p95']:.2f} ms   p99 {latency['p99']:.2f} ms",
    )
    table.add_row("freshness, stream to store", f"p50 {freshness['p50']:.0f} ms   p99 {freshness['p99']:.0f} ms")
    table.add_row(
        "online = offline",
        f"{summary['parity']['mismatches']} mismatches in {summary['parity']['compared']:,} served vectors "
        f"({summary['parity']['behind_the_stream']:,} were behind the stream{_degraded(summary)}); at rest "
        f"{found.at_rest['mismatches']} in {found.at_rest['compared']}",
    )
    table.add_row(
        f"false positives at {cut.recall:.0%} catch",
        f"{cut.ours:,} against {cut.baseline:,} of the frozen baseline: "
        f"cut {cut.cut:.0%} {_interval(cut.low, cut.high)}",
    )
    table.add_row(
        "PR-AUC",
        f"{found.compared.ours.pr_auc.point:.3f} against {found.compared.baseline.pr_auc.point:.3f}",
    )
    for name, report in found.weeks:
        verdict = "promoted" if report.promoted else f"refused: {'; '.join(report.verdict.reasons)}"
        table.add_row(f"gate, {name}", verdict)
    for shown in found.shown:
        why = "; ".join(reason["text"] for reason in shown.decision["reasons"])
        table.add_row(
            f"{shown.decision['outcome']}: {shown.fraud_type.replace('_', ' ')}",
            f"{shown.transaction['amount']}, score {shown.decision['score']:.2f}: {why}",
        )
    table.add_row("took", f"{summary['seconds']:.0f} s, peak {summary['peak_rss_mb']:,} MB")
    return table


def _degraded(summary: dict[str, Any]) -> str:
    """Return what there is to say of decisions made while the store could not be read."""
    count = summary["parity"]["degraded"]
    return f"; {count:,} more were made without the store, and say so" if count else ""


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"(95 % interval {low:.0%} to {high:.0%})"


def _outcome_share(found: Found) -> list[dict[str, Any]]:
    rows = []
    for kind, counts in found.outcomes.items():
        total = sum(counts.values())
        rows.append({"kind": kind.replace("_", " "), "total": total, **counts})
    return sorted(rows, key=lambda row: (row["kind"] != "legitimate", -row["total"]))


def _hour_picture(found: Found) -> bytes:
    """Draw requests per second of the replay, and the latency of each second at p50 and p99."""
    seconds = np.array(found.answers.second)
    latency = np.array(found.answers.latency_ms)
    span = np.arange(seconds.max() + 1)
    rate = np.bincount(seconds, minlength=len(span))
    median = [np.quantile(latency[seconds == s], 0.5) if (seconds == s).any() else np.nan for s in span]
    tail = [np.quantile(latency[seconds == s], 0.99) if (seconds == s).any() else np.nan for s in span]
    figure = Figure(figsize=(11, 3.6), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.bar(span, rate, color=_GREY, width=1.0)
    left.set_title("Payments a second, as replayed", loc="left", fontweight="bold")
    right.plot(span, tail, color=_BLUE, label="p99")
    right.plot(span, median, color=_GREY, label="p50")
    right.set_ylim(bottom=0)
    right.set_title("Latency from when each was due, ms", loc="left", fontweight="bold")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set_xlabel("second of the replay")
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
