"""``python -m training declines``: what declining did, from logged decisions and the labels that came later."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from training.command_line import JsonFile, as_of_or_end, wants_only_json, write_figures
from training.control_group import ControlGroupEstimates, Estimate, estimate_declines
from training.decision_rows import DecisionRows, read_decision_rows
from training.durations import duration_ms
from training.labels import read_labels, settle_labels


def register(app: typer.Typer) -> None:
    """Add the command to the room's command line."""
    app.command("declines")(declines)


def declines(
    *,
    lake: Annotated[Path, typer.Option(help="Folder of the data set: transactions/, labels.parquet.")],
    decisions: Annotated[Path, typer.Option(help="Logged decisions: a file or folder of JSON lines or Parquet.")],
    as_of: Annotated[str, typer.Option(help="Day at which labels are read; by default the day after the log's.")] = "",
    label_delay: Annotated[str, typer.Option(help="Age at which a label is settled; younger rows stay out.")] = "30d",
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    json_file: JsonFile = None,
) -> None:
    """Estimate the good customers declined and the frauds caught, by the control group, for each policy apart."""
    as_of_ms = as_of_or_end(as_of, lake)
    rows = read_decision_rows(decisions)
    mature = rows.event_time_ms + duration_ms("label delay", label_delay) <= as_of_ms
    labels = _labels(rows, lake, as_of_ms)
    found = {}
    for version in dict.fromkeys(rows.policy_version[mature].tolist()):
        of = mature & (rows.policy_version == version)
        found[version] = estimate_declines(rows.outcome[of], rows.propensity[of], labels[of], confidence=confidence)
    left_out = {"repeated": rows.repeated, "immature": int((~mature).sum())}
    write_figures({**left_out, "policies": {name: _figures(each) for name, each in found.items()}}, json_file)
    if not wants_only_json(json_file):
        _show(found, left_out)


def _labels(rows: DecisionRows, lake: Path, as_of_ms: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    ids = pa.array(rows.transaction_id.tolist(), pa.string())
    return settle_labels(read_labels(lake), ids, as_of_ms=as_of_ms).is_fraud.astype(np.float64)


def _figures(found: ControlGroupEstimates) -> dict[str, Any]:
    """Return the estimates as plain data: what is not known is null."""
    return {
        name: {part: None if math.isnan(number) else number for part, number in value.items()}
        if isinstance(value, dict)
        else value
        for name, value in asdict(found).items()
    }


def _show(found: dict[str, ControlGroupEstimates], left_out: dict[str, int]) -> None:
    table = Table(
        title="What declining did"
        + "".join(f"; {count:,} {name} decisions left out" for name, count in left_out.items() if count)
    )
    table.add_column("policy")
    for version in found:
        table.add_column(version, justify="right")
    for name in ("covered", "uncovered", "let_through", "clipped"):
        table.add_row(name.replace("_", " "), *(f"{getattr(each, name):,}" for each in found.values()))
    for name in ("fraud_share", "insult_rate", "recall"):
        table.add_row(name.replace("_", " "), *(_shown(getattr(each, name), ".1%") for each in found.values()))
    table.add_row("false positives", *(_shown(each.false_positives, ",.0f") for each in found.values()))
    Console().print(table)


def _shown(estimate: Estimate, form: str) -> str:
    if math.isnan(estimate.point):
        return "not known"
    return f"{estimate.point:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"
