"""The price of lag: fraud caught, and vectors that differ, when velocity is 0 s to 10 min behind.

A world is generated and a model trained by the product's own commands, then ``python -m monitoring staleness`` asks the
last two weeks again as a lagging store would have answered, with and without write-through.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

ROOT: Final = Path(__file__).resolve().parents[1]


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    days: Annotated[int, typer.Option(min=60, help="Days of the simulated world.")] = 80,
    per_day: Annotated[int, typer.Option(min=1_000, help="Transactions a day.")] = 6_000,
    seed: Annotated[int, typer.Option(help="Of the world.")] = 7,
) -> None:
    """Print what each lag costs."""
    with tempfile.TemporaryDirectory() as folder:
        lake, model = Path(folder) / "lake", Path(folder) / "train"
        world = f"--days {days} --transactions-per-day {per_day} --seed {seed} --out {lake}"
        quietly(["-m", "simulation", "generate", *world.split()])
        quietly(["-m", "training", "train", "--lake", str(lake), "--out", str(model)])
        figures = [] if json_file is None else ["--json", str(json_file)]
        asked = ["-m", "monitoring", "staleness", "--lake", str(lake), "--model", str(model / "bundle"), *figures]
        typer.echo(f"{days} days of {per_day:,} transactions, seed {seed}")
        sys.stdout.flush()
        raise typer.Exit(subprocess.run([sys.executable, *asked], cwd=ROOT, check=False).returncode)


def quietly(arguments: list[str]) -> None:
    """Run a command of the product; only its errors are shown."""
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
