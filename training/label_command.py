"""``python -m training labels``: how fast labels arrive, and what they are like."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.command_line import JsonFile, as_of_or_end, wants_only_json, write_figures
from training.label_report import LabelReport, report_labels
from training.progress import progress_bar


def register(app: typer.Typer) -> None:
    """Add the command to the room's command line."""
    app.command("labels")(labels)


def labels(
    *,
    lake: Annotated[Path, typer.Option(help="Folder of the data set: transactions/, labels.parquet.")],
    as_of: Annotated[str, typer.Option(help="Day at which labels are read; by default the day after the log's.")] = "",
    plot: Annotated[Path | None, typer.Option(help="Draw the curve to this PNG file.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Estimate how old a transaction must be before it counts as legitimate: the labels' maturity curve."""
    with progress_bar("labels"):
        report = report_labels(lake, as_of_ms=as_of_or_end(as_of, lake))
    write_figures(report.figures(), json_file)
    if plot is not None:
        from training.maturity_plot import draw_maturity

        draw_maturity(plot, report.curve)
    if not wants_only_json(json_file):
        _show(report)


def _show(report: LabelReport) -> None:
    table = Table(title=f"{report.frauds:,} frauds by {report.statements:,} statements", show_header=False)
    for name in ("transactions", "unknown", "repeated", "corrected", "disputed"):
        table.add_row(name, f"{getattr(report, name):,}")
    for source, count in report.by_source.items():
        table.add_row(f"from {source}", f"{count:,}")
    for share, days in report.days_until.items():
        table.add_row(f"{float(share):.0%} of the fraud labels", f"within {days} days")
    never = "unknown without a truth" if report.never is None else f"{report.never:.1%}"
    table.add_row("true frauds that no label calls so", never)
    Console().print(table)
