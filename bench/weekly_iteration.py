"""One weekly iteration on a million payments: how long, how much processor, how much memory.

The iteration is the command that a scheduler starts, in a process of its own, with everything on: features through
Feast, fit, the models of the tiers below, leak audit, other seeds, gate against a champion, report. A million are the
rows of its training set; the log that they are read from reaches a week further back, for the champion.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from simulation import lake as simulated_lake
from simulation.config import WorldConfig
from simulation.world import generate

ROOT: Final = Path(__file__).resolve().parents[1]
TARGET_S: Final = 600.0
CORES: Final = 2
PLANNED_DAYS: Final = 44
"""Days of the default plan: training, validation, held out."""
DAYS: Final = PLANNED_DAYS + 21 + 7
"""And its label delay, and a week for the champion."""
DECIDED: Final = (0, 3)
"""Exit codes of an iteration that came to a verdict."""


@dataclass(frozen=True)
class Spent:
    """What a process cost: wall clock and processor in seconds, peak memory in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    rows: Annotated[int, typer.Option(min=200_000, help="Rows of the training set.")] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0)] = 5,
) -> None:
    """Print what one weekly iteration costs."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status("simulated world") as status:
        lake, models = Path(folder) / "lake", Path(folder) / "models"
        config = WorldConfig(days=DAYS, transactions_per_day=rows // PLANNED_DAYS, seed=seed)
        world = generate(config)
        simulated_lake.write(world, lake)
        del world
        earlier = time.strftime("%Y-%m-%d", time.gmtime((config.end_ms - 7 * 86_400_000) / 1000))
        status.update("the champion: an iteration of the week before")
        _, first = run(lake, models, "--as-of", earlier, "--no-audit", "--seeds", "0")
        status.update("the iteration")
        spent, report = run(lake, models)
    checks = report["verdict"]["checks"]
    console.print(table(spent, report, checks))
    figures = {
        **asdict(spent),
        "rows": report["rows"],
        "frauds": report["frauds"],
        "promoted": report["promoted"],
        "had_a_champion": first["promoted"],
        "checks": {check["name"]: check["passed"] for check in checks},
        "target_s": TARGET_S,
        "cores": len(os.sched_getaffinity(0)),
    }
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def run(lake: Path, models: Path, *more: str) -> tuple[Spent, dict[str, Any]]:
    """Run one iteration in a process of its own and return what it cost and what it said."""
    command = [sys.executable, "-m", "retraining", "week", "--lake", lake, "--models", models, "--json", "-", *more]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, check=False)
    wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in DECIDED:
        raise SystemExit(f"the iteration failed with {done.returncode}: {done.stderr.decode()[-2000:]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(wall_s, cpu_s, after.ru_maxrss / 1024), json.loads(done.stdout)


def table(spent: Spent, report: dict[str, Any], checks: list[dict[str, Any]]) -> Table:
    """Return the figures as a table."""
    made = Table(title=f"One weekly iteration on {report['rows']:,} payments with {report['frauds']:,} frauds")
    for column in ("", "measured", "promised"):
        made.add_column(column, justify="right" if column else "left")
    made.add_row("wall clock", f"{spent.wall_s / 60:.1f} min", f"{TARGET_S / 60:.0f} min on {CORES} cores")
    made.add_row("processor", f"{spent.cpu_s / 60:.1f} min", "")
    made.add_row("peak memory", f"{spent.peak_mb:,.0f} MB", "")
    asked = [check for check in checks if check.get("asked", True)]
    made.add_row("checks asked", f"{len(asked)} of {len(checks)}", "")
    made.add_row("verdict", "promoted" if report["promoted"] else "refused", "")
    return made


if __name__ == "__main__":
    typer.run(main)
