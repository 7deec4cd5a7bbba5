"""False positives where both sides catch the same share of the fraud: our model against a frozen baseline.

Handbook data (public, simulated): the baseline is P1, the book's fifteen features on eleven weeks, every parameter
pinned (``training/handbook_baseline.py``). Cards already known as compromised are left out of the test; labels come 7
days late, and 1 and 30 for what the delay costs. Simulated world: the baseline is the product's own frozen one. Means
over the seeds of the fits; intervals are paired, over resampled days.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bench.catch_handbook import (
    BLOCK,
    CHOOSING_DELAY,
    RECALLS,
    Design,
    Scored,
    Tried,
    choose,
    day,
    open_lake,
    score_test,
)
from bench.catch_simulated import SIMULATED_RECALLS, score_simulated
from training.equal_catch import equal_catch
from training.handbook import read_handbook
from training.metrics import average_precision
from training.ranking import FloatArray

DATA: Final = Path(os.environ.get("TOLLGATE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SOURCE: Final = DATA / "handbook" / "transactions.parquet"
CHOICES: Final = ("all", "handbook", "simulated")
RESAMPLES: Final = 1000


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    data: Annotated[str, typer.Option(help="all, handbook or simulated.")] = "all",
    delays: Annotated[str, typer.Option(help="Label delays of the Handbook run in days; 7 is the one promised.")] = (
        "7,1,30"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Fits of each side; the promise is for at least 3.")] = 3,
    source: Annotated[Path, typer.Option(help="The Handbook's Parquet file.")] = SOURCE,
) -> None:
    """Print false positives at equal catch, ours and the frozen baseline's."""
    if data not in CHOICES:
        raise typer.BadParameter(f"{data!r} is none of {', '.join(CHOICES)}", param_hint="--data")
    os.environ.setdefault("FEAST_USAGE", "False")
    console = Console()
    figures: dict[str, Any] = {"seeds": seeds, "resamples": RESAMPLES}
    if data != "simulated" and not source.is_file():
        console.print(f"SKIPPED: the Handbook data are not at {source}; set TOLLGATE_DATA to their folder or --source")
        if data == "handbook":
            raise typer.Exit(1)
    elif data != "simulated":
        figures["handbook"] = _handbook(source, [int(text) for text in delays.split(",")], range(seeds), console)
    if data != "handbook":
        figures["simulated"] = _simulated(range(seeds), console)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _handbook(source: Path, delays: Sequence[int], seeds: Sequence[int], console: Console) -> dict[str, Any]:
    """Choose the design at seven days' delay, then judge it at each delay."""
    with Console(stderr=True).status("Handbook") as status:
        world = read_handbook(source)
        lake = open_lake(source, CHOOSING_DELAY, status.update)
        tried = choose(lake, list(seeds)[:2], status.update)
    _show_choice(tried, console)
    design = tried[0].design
    found: dict[str, Any] = {"tried": [asdict(one) for one in tried], "delays": {}}
    for delay in [CHOOSING_DELAY, *(one for one in delays if one != CHOOSING_DELAY)]:
        with Console(stderr=True).status("Handbook") as status:
            lake = lake if delay == CHOOSING_DELAY else open_lake(source, delay, status.update)
            scored = score_test(lake, world, design, seeds, status.update)
            status.update(f"labels {delay} days late: intervals")
            found["delays"][delay] = _judged(scored, RECALLS)
        _show(f"Handbook, labels {delay} days late", found["delays"][delay], design, console)
    return found


def _simulated(seeds: Sequence[int], console: Console) -> dict[str, Any]:
    with Console(stderr=True).status("simulated world") as status:
        scored = score_simulated(seeds, status.update)
        status.update("simulated world: intervals")
        found = _judged(scored, SIMULATED_RECALLS)
    _show("Simulated world", found, None, console)
    return found


def _judged(scored: Scored, recalls: Sequence[float]) -> dict[str, Any]:
    """Return every figure of one run as plain data."""
    compared = equal_catch(scored.baseline, scored.ours, scored.rows, recalls=recalls, resamples=RESAMPLES, seed=0)
    is_fraud, baseline, ours = scored.kept
    return {
        "rows": len(scored.rows.is_fraud),
        "frauds": int(scored.rows.is_fraud.sum()),
        "left_out": scored.left_out,
        "pr_auc": _areas(scored.rows.is_fraud, scored.baseline, scored.ours),
        "pr_auc_with_known_cards": _areas(is_fraud, baseline, ours),
        "at": [asdict(one) for one in compared],
        "thresholds_fixed_on_validation": scored.carried,
        **scored.about,
    }


def _areas(is_fraud: Any, baseline: Sequence[FloatArray], ours: Sequence[FloatArray]) -> dict[str, float]:
    sides = {"baseline": baseline, "ours": ours}
    return {
        name: float(np.mean([average_precision(scores, is_fraud) for scores in side])) for name, side in sides.items()
    }


def _show_choice(tried: Sequence[Tried], console: Console) -> None:
    table = Table(title=f"Choosing the design, {day(BLOCK.start_ms)} to {day(BLOCK.end_ms - 1)}, before the test")
    for column in ("training from", "windows", *(f"false positives at {recall:.0%}" for recall in RECALLS), ""):
        table.add_column(column)
    for place, one in enumerate(tried):
        counts = [f"{count:,.0f}" for count in one.false_positives]
        table.add_row(
            f"{one.train_from} ({one.design.start})", one.design.windows, *counts, "chosen" if place == 0 else ""
        )
    console.print(table)


def _show(name: str, found: dict[str, Any], design: Design | None, console: Console) -> None:
    kept, free = found["pr_auc_with_known_cards"], found["pr_auc"]
    title = f"{name}: {found['rows']:,} payments, {found['frauds']:,} frauds ({found['left_out']:,} payments of known "
    table = Table(title=title + "cards left out)")
    for column in ("at recall", "baseline", "ours", "fewer", "95% interval", "by seed", "fewer by value"):
        table.add_column(column, justify="left" if column == "at recall" else "right")
    for one in found["at"]:
        cut, value = one["cut"], one["value_cut"]
        table.add_row(
            f"{one['recall']:.0%}",
            f"{one['baseline']:,.0f}",
            f"{one['ours']:,.0f}",
            f"{cut['point']:.0%}",
            _bounds(cut),
            " ".join(f"{seed:.0%}" for seed in one["seed_cuts"]),
            f"{value['point']:.0%} {_bounds(value)}",
        )
    console.print(table)
    for one in found["at"]:
        parts = [
            f"{kind['fraud_type']} {kind['baseline']:.0%} -> {kind['ours']:.0%} (of {kind['frauds']:,})"
            for kind in one["by_type"]
        ]
        console.print(f"  recall by type at {one['recall']:.0%}: {'; '.join(parts)}", highlight=False)
    console.print(
        f"  PR-AUC {free['baseline']:.3f} -> {free['ours']:.3f}; known cards kept {kept['baseline']:.3f} -> "
        f"{kept['ours']:.3f}",
        highlight=False,
    )
    for line in _carried_lines(found["thresholds_fixed_on_validation"]):
        console.print(f"  {line}", highlight=False)
    if design is not None:
        console.print(f"  ours: training from {design.start} into the log on, {design.windows}\n")


def _carried_lines(carried: Sequence[dict[str, Any]]) -> list[str]:
    """Say what thresholds fixed on validation reach, mean over the seeds."""
    lines = []
    for asked in sorted({one["asked"] for one in carried}):
        said = []
        for side in ("baseline", "ours"):
            of = [one for one in carried if one["asked"] == asked and one["side"] == side]
            reached, alarms = (float(np.mean([one[key] for one in of])) for key in ("reached", "false_positives"))
            said.append(f"{side} reaches {reached:.1%} with {alarms:,.0f} false positives")
        lines.append(f"threshold fixed at {asked:.0%} on validation: {', '.join(said)}")
    return lines


def _bounds(interval: dict[str, Any]) -> str:
    return "" if interval["low"] is None else f"[{interval['low']:.0%}, {interval['high']:.0%}]"


if __name__ == "__main__":
    typer.run(main)
