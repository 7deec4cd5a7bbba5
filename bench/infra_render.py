"""How long it takes to render every template and to check it by our own rules: what a review waits for.

The modules are imported beforehand, as they are for whoever calls ``python -m infra``; the limit is five seconds for
rendering all stacks once.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from infra import rendering, rules
from infra.stacks import STACKS

LIMIT_S: Final = 5.0


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Render, check, count."""
    rendered = [_seconds(lambda: [rendering.render(stack) for stack in STACKS]) for _ in range(repeats)]
    checked = [_seconds(_check) for _ in range(repeats)]
    figures: dict[str, Any] = {
        "stacks": len(STACKS),
        "resources": sum(len(rendering.as_data(stack)["Resources"]) for stack in STACKS),
        "bytes": sum(len(rendering.render(stack).encode()) for stack in STACKS),
        "render_s": round(statistics.median(rendered), 3),
        "render_worst_s": round(max(rendered), 3),
        "rules_s": round(statistics.median(checked), 3),
        "limit_s": LIMIT_S,
    }
    table = Table("stacks", "resources", "kB", "render s", "worst s", "rules s", title="Templates")
    seconds = (f"{figures[name]:.2f}" for name in ("render_s", "render_worst_s", "rules_s"))
    table.add_row(str(figures["stacks"]), str(figures["resources"]), f"{figures['bytes'] / 1e3:.0f}", *seconds)
    Console().print(table)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    if figures["render_s"] > LIMIT_S:
        raise typer.Exit(1)


def _check() -> None:
    for stack in STACKS:
        assert not rules.findings(stack.name, rendering.as_data(stack))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
