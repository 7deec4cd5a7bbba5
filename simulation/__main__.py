"""``python -m simulation generate``: a world of card payments on disk."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from simulation import capacity_command
from simulation.command_line import JsonFile, OneSentence, wants_only_json, write_figures
from simulation.lake import claim, write
from simulation.world import STAGES, World, WorldConfig, generate

FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def simulation() -> None:
    """Simulate card payments: honest traffic, fraud that adapts, and labels that come late."""


@app.command("generate")
def generate_command(
    out: Annotated[Path, typer.Option(help="Directory to write, new or empty.")],
    days: Annotated[int, typer.Option(help="Days to generate.")] = 120,
    transactions_per_day: Annotated[int, typer.Option(help="Mean transactions a day.")] = 20_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same world.")] = 7,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First day.")] = FIRST_DAY,
    currency: Annotated[str, typer.Option(help="ISO 4217 code of all amounts.")] = "EUR",
    force: Annotated[bool, typer.Option("--force", help="Replace the world that --out holds.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Generate transactions, labels and truth as Parquet."""
    with OneSentence():
        config = WorldConfig(
            days=days,
            transactions_per_day=transactions_per_day,
            seed=seed,
            start=start.date(),
            currency=currency,
        )
        claim(out, force=force)
        manifest = _generate(config, out, Console(stderr=True))
        write_figures(manifest, json_file)
        if not wants_only_json(json_file):
            Console().print(_summary(manifest))


def _generate(config: WorldConfig, out: Path, console: Console) -> dict[str, object]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        making = progress.add_task("generating", total=len(STAGES), unit="stages", rate="")
        stage = iter(range(len(STAGES)))
        world: World = generate(
            config,
            progress=lambda name: progress.update(making, completed=next(stage), rate=name),
        )
        seconds = progress.tasks[making].elapsed or 1e-9
        rows = world.transactions.num_rows
        progress.update(making, completed=len(STAGES), rate=f"{rows / seconds:,.0f} rows/s")
        writing = progress.add_task("writing", total=rows, unit="rows", rate="")
        return write(world, out, progress=lambda written: _advance(progress, writing, written))


def _advance(progress: Progress, task: int, rows: int) -> None:
    """Advance a bar by ``rows`` and show its rate."""
    current = progress.tasks[task]
    seconds = current.elapsed or 1e-9
    progress.update(progress.task_ids[task], advance=rows, rate=f"{(current.completed + rows) / seconds:,.0f} rows/s")


def _summary(manifest: dict[str, object]) -> Table:
    table = Table(show_header=False)
    for name, value in manifest.items():
        if isinstance(value, dict):
            for kind, count in value.items():
                table.add_row(f"  {kind}", f"{count:,}")
        else:
            table.add_row(name, f"{value:,}" if isinstance(value, int) and name != "seed" else str(value))
    return table


capacity_command.register(app)

if __name__ == "__main__":
    app()
