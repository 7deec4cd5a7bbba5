"""``python -m bench``: run every benchmark, gather the figures.

Each script in this folder prints one figure with what it is compared to, and writes it as JSON with ``--json FILE``.
This command runs them one after another, keeps the JSON in ``build/bench/`` and writes what they printed, with date,
machine and command, to ``docs/benchmarks.md``. A name runs only that one and replaces only its section. What misses its
target ends with a code other than 0: its section says so, and so does this command's own code.
"""

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
FIGURES: Final = ROOT / "build" / "bench"
PAGE: Final = ROOT / "docs" / "benchmarks.md"
HEAD: Final = """# Benchmarks

Each figure is printed by one script, which runs us and what a user would pick instead **in one run, interleaved**, and
gives ratios with medians and spread. Machines are shared and noisy: read ratios, not absolute times. `make bench` runs
all of them again and rewrites this page; `make bench ARGS=NAME` runs one.
"""

VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    "backfill_10m": ("backfill", "--rows", "10000000", "--repeats", "1"),
    "false_positives_handbook": ("false_positives", "--data", "handbook"),
    "false_positives_simulated": ("false_positives", "--data", "simulated"),
    "history_10k": ("history", "--rows", "10000"),
    "history_10m": ("history", "--rows", "10000000", "--repeats", "1"),
    "history_cards": ("history", "--entities", "card,device", "--rows", "1000000", "--repeats", "3"),
    "kills_dynamodb": ("kills", "--store", "dynamodb", "--transactions", "3000"),
    "proof_handbook": ("proof", "--data", "handbook"),
}
"""Figures that a script prints with other options than its own: name -> script and options."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Printed:
    """What one benchmark said: its text, and its exit code."""

    text: str
    code: int


def scripts() -> dict[str, tuple[str, ...]]:
    """Return the benchmarks by name, each a script's name and options: scripts that take ``--json``, and variants."""
    found = sorted(path for path in HERE.glob("*.py") if path.name != "__main__.py")
    plain = {path.stem: (path.stem,) for path in found if "--json" in path.read_text(encoding="utf-8")}
    return dict(sorted({**plain, **VARIANTS}.items()))


@app.command(help=__doc__)
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks to run; all when none is named.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Say which there are.")] = False,
) -> None:
    """Run benchmarks and write their figures."""
    known = scripts()
    if listing:
        typer.echo("\n".join(known))
        return
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        typer.echo(f"bench: {', '.join(unknown)} is no benchmark; there are {', '.join(known)}", err=True)
        raise typer.Exit(2)
    FIGURES.mkdir(parents=True, exist_ok=True)
    failed = []
    console = Console(stderr=True)
    for name in names or known:
        with console.status(f"{name} (its own progress is not shown)"):
            printed = run(known[name], FIGURES / f"{name}.json")
        if printed.code != 0:
            failed.append(name)
        console.print(f"[green]✓[/] {name}" if printed.code == 0 else f"[red]✗[/] {name}")
        if printed.text.strip():  # what printed nothing has failed before it measured
            write_page({**read_sections(), name: section(name, known[name], printed)})
    if failed:
        typer.echo(f"bench: failed, or missed its target: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def run(command: tuple[str, ...], figures: Path) -> Printed:
    """Run one script with its options; its errors are on standard error."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "110", "NO_COLOR": "1"}
    script, *options = command
    done = subprocess.run(
        [sys.executable, str(HERE / f"{script}.py"), *options, "--json", str(figures)],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        check=False,
    )
    return Printed(done.stdout.decode(), done.returncode)


def section(name: str, command: tuple[str, ...], printed: Printed) -> str:
    """Return the section of one benchmark."""
    now = datetime.now(UTC).date().isoformat()
    machine = f"{os.cpu_count()} cores, {memory_gb()} GB, Python {platform.python_version()}"
    spelled = "" if len(command) == 1 else f" (`python -m bench.{' '.join(command)}`)"
    ended = "" if printed.code == 0 else f"; **ended with code {printed.code}: a target is missed, see below**"
    return f"`python -m bench {name}`{spelled}, {now}, {machine}{ended}\n\n```text\n{printed.text.strip()}\n```\n"


def memory_gb() -> int:
    """Return the machine's memory in GB."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def read_sections() -> dict[str, str]:
    """Return the sections that the page has now, by name."""
    if not PAGE.exists():
        return {}
    parts = re.split(r"^## (\w+)\n\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def write_page(sections: dict[str, str]) -> None:
    """Write the page, sections by name."""
    body = "".join(f"\n## {name}\n\n{sections[name].strip()}\n" for name in sorted(sections))
    PAGE.write_text(HEAD + body, encoding="utf-8")


if __name__ == "__main__":
    app()
