"""The proof as a figure: no feature sees the future, and every served value is what the log says.

Runs the product's own command, ``python -m monitoring prove``: over simulated transactions, or with ``--data handbook``
over the whole public simulated benchmark. Ends with its code: 1 on any mismatch.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer

ROOT: Final = Path(__file__).resolve().parents[1]
DATA: Final = Path(os.environ.get("TOLLGATE_DATA", ROOT.parent / "shared" / "data"))
SOURCE: Final = DATA / "handbook" / "transactions.parquet"
CHOICES: Final = ("simulated", "handbook")


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    data: Annotated[str, typer.Option(help="simulated or handbook.")] = "simulated",
    transactions: Annotated[int, typer.Option(min=1_000, help="Simulated transactions.")] = 200_000,
) -> None:
    """Prove, and print what was compared."""
    if data not in CHOICES:
        raise typer.BadParameter(f"{data!r} is none of {', '.join(CHOICES)}", param_hint="--data")
    prove = ["-m", "monitoring", "prove", *([] if json_file is None else ["--json", str(json_file)])]
    if data == "simulated":
        raise typer.Exit(run([*prove, "--transactions", str(transactions)]))
    if not SOURCE.is_file():
        typer.echo(f"SKIPPED: the Handbook data are not at {SOURCE}; set TOLLGATE_DATA to their folder")
        raise typer.Exit(1)
    with tempfile.TemporaryDirectory() as folder:
        lake = str(Path(folder) / "lake")
        imported = run(["-m", "training", "import", "--format", "handbook", str(SOURCE), "--out", lake], sys.stderr)
        raise typer.Exit(imported or run([*prove, "--lake", lake]))


def run(arguments: list[str], output: TextIO | None = None) -> int:
    """Run a command of the product; return its exit code."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False, stdout=output).returncode


if __name__ == "__main__":
    typer.run(main)
