"""A training set from history: time, peak memory and rows lost, against Feast's stores and two data engines.

The log is made up: cards and devices with unequal activity and busy merchants over 90 days. The training set has one
row for each of its transactions: every window of card, device, ip and merchant as of that transaction, and two batch
profiles. Ours computes the windows from the log. The others cannot compute them at any price, so they are *given* them:
one table for each kind of entity with its window values at each transaction, made by us beforehand and not timed, which
they join as of each row's time beside the two profiles. Feast's stores do so as Feast wrote them; raw DuckDB (``ASOF
JOIN``) and raw Polars (``join_asof``) as a person would by hand, without Feast.

Each way runs in a process of its own, in turn with the others, warmed by the same hundred rows; imports, opening the
store and the frame of rows are not timed, and stand in the memory of all. A way is run again as long as the size's time
allows. A way that passes the time or memory limit is stopped, and said so: its memory over ours is then at least what
is shown, and the targets say its time at the largest size that it survives. For ten million rows (``--ten-million``)
every way has 8 GB. ``lost`` are rows asked about that did not come back; ``differ`` counts values of six columns that
are not ours (ties of one entity's millisecond are in no stated order there).

Feast's stores pair each row asked about with every earlier row of its key before they keep the last, so that a merchant
with two thousand payments is what they die of. ``--entities card,device`` asks for the windows of those alone, beside
the same two profiles: the part of this work that they survive, so that there is a ratio to print.

The targets stand below the tables with what was measured: met or not met.
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.history_ways import ONLY, ROOT, chosen, give_windows, make_lake, references, run_way
from fraud.windows import ENTITIES

WAYS: Final = (
    "ours, Parquet",
    "ours, to_df",
    "Feast DuckDB, Parquet",
    "Feast DuckDB, to_df",
    "Feast file, to_df",
    "raw DuckDB ASOF",
    "raw Polars join_asof",
)
SIZES: Final = (100_000, 300_000, 1_000_000)
TEN_MILLION: Final = 10_000_000
TEN_MILLION_GB: Final = 8.0
ENVIRON: Final = {**os.environ, "PYTHONPATH": str(ROOT)}
Runs = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Limits:
    """Of one way: memory in MB and seconds, at which it is stopped; of a size: seconds until no way is run again."""

    memory_mb: float
    seconds: float
    size_seconds: float


def ask_process(way: str, lake: Path, limits: Limits) -> dict[str, Any]:
    """Measure one way in a process of its own, which is stopped at either limit."""
    command = [sys.executable, __file__, "--way", way, "--lake", str(lake)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRON) as process:
        begin = time.monotonic()
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, memory_mb(process.pid))
            taken = time.monotonic() - begin
            if peak > limits.memory_mb or taken > limits.seconds:
                process.kill()
                over = f"{limits.memory_mb / 1024:g} GB" if peak > limits.memory_mb else f"{limits.seconds:.0f} s"
                return {"stopped": f"over {over}", "peak_mb": peak}
            time.sleep(0.02)
        said = process.stdout.read() if process.stdout else b""
    if process.returncode:
        return {"stopped": f"failed ({process.returncode})", "peak_mb": peak}
    figures: dict[str, Any] = json.loads(said.splitlines()[-1])
    return figures


def memory_mb(pid: int) -> float:
    """Return the memory that a process has now; 0 when it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


def measure(size: int, where: Path, repeats: int, limits: Limits, progress: Progress) -> Runs:
    """Run every way over a log of one size, in turn; those that take long are not run again when time is up."""
    task = progress.add_task(f"{size:,} rows: the log", total=None)
    subprocess.run([sys.executable, __file__, "--make", str(size), str(where)], env=ENVIRON, check=True)
    progress.update(task, total=repeats * len(WAYS), description=f"{size:,} rows")
    runs: Runs = {name: [] for name in WAYS}
    begin = time.monotonic()
    for turn in range(repeats):
        for name, done in runs.items():
            progress.advance(task)
            left = limits.size_seconds - (time.monotonic() - begin)
            if turn and ("stopped" in done[-1] or done[-1]["seconds"] > left):
                continue
            done.append(ask_process(name, where, limits))
            if name == WAYS[0] and "stopped" in done[-1]:
                break  # there is nothing to give to the others, and nothing to hold them to
            if turn == 0 and name == WAYS[0]:
                subprocess.run([sys.executable, __file__, "--give", str(where)], env=ENVIRON, check=True)
    shutil.rmtree(where, ignore_errors=True)
    return {name: done for name, done in runs.items() if done}


def summarise(runs: Runs, size: int) -> dict[str, Any]:
    """Return median and spread of each way, and its time and memory over ours of the same output."""
    out: dict[str, Any] = {}
    for name, done in runs.items():
        whole = [some for some in done if "stopped" not in some]
        if not whole:
            out[name] = {"stopped": done[0]["stopped"], "peak_mb": round(done[0]["peak_mb"]), "runs": 0}
            base = out.get(_ours_of(name), {})
            if name != _ours_of(name) and "stopped" not in base:
                out[name]["memory_over_ours"] = round(done[0]["peak_mb"] / base["peak_mb"], 2)  # and it wanted more
            continue
        seconds = [some["seconds"] for some in whole]
        out[name] = {"runs": len(whole), "seconds": round(statistics.median(seconds), 2)}
        out[name] |= {"fastest": round(min(seconds), 2), "slowest": round(max(seconds), 2)}
        out[name]["cpu_seconds"] = round(statistics.median(some["cpu_seconds"] for some in whole), 2)
        out[name] |= {key: round(max(some[key] for some in whole)) for key in ("peak_mb", "before_mb", "differ")}
        out[name]["lost"] = size - min(some["rows"] for some in whole)
        base = [some for some in runs.get(_ours_of(name), []) if "stopped" not in some]
        if base:
            ours = [some["seconds"] for some in base]
            ratios = (seconds[0] / ours[0], *(one / other for one in seconds for other in ours))
            out[name]["times_ours"] = round(statistics.median(seconds) / statistics.median(ours), 2)
            out[name]["times_ours_spread"] = [round(min(ratios), 2), round(max(ratios), 2)]
            out[name]["memory_over_ours"] = round(out[name]["peak_mb"] / max(some["peak_mb"] for some in base), 2)
    return out


def _ours_of(name: str) -> str:
    return WAYS[1] if name.endswith("to_df") else WAYS[0]


def targets(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each target with what was measured, and whether it is met; null where a run is missing."""
    return [*_million(figures), *_lost(figures), *_ten_million(figures.get(str(TEN_MILLION), {}))]


def _million(figures: dict[str, Any]) -> list[dict[str, Any]]:
    at = figures.get("1000000", {})
    if not at:
        return []
    parquet, frame = at.get("Feast DuckDB, Parquet", {}), at.get("Feast DuckDB, to_df", {})
    found = [
        _least("1M rows to Parquet: times Feast's DuckDB store", parquet, "times_ours", 15),
        _least("1M rows through to_df: times Feast's DuckDB store", frame, "times_ours", 6),
        _least("1M rows to Parquet: its memory over ours", parquet, "memory_over_ours", 2),
    ]
    for name, least in (("Feast DuckDB, Parquet", 15), ("Feast DuckDB, to_df", 6)):
        sizes = [int(size) for size, some in figures.items() if "times_ours" in some.get(name, {})]
        if "stopped" in at.get(name, {}) and sizes:  # what it does survive says what there is to say of its time
            some = figures[str(max(sizes))][name]
            found.append(_least(f"{max(sizes):,} rows, the most it survives: times {name}", some, "times_ours", least))
    return found


def _lost(figures: dict[str, Any]) -> list[dict[str, Any]]:
    lost = [some[way]["lost"] for some in figures.values() for way in WAYS[:2] if "lost" in some.get(way, {})]
    return [{"target": "rows lost: none", "measured": str(sum(lost)), "met": not any(lost) if lost else None}]


def _ten_million(figures: dict[str, Any]) -> list[dict[str, Any]]:
    names = (f"10M rows in at most {TEN_MILLION_GB:g} GB", f"10M rows in {TEN_MILLION_GB:g} GB: Feast's do not survive")
    if not figures:
        return []
    ours = figures[WAYS[0]]
    measured = ours.get("stopped", f"{ours['peak_mb'] / 1024:.1f} GB")
    met = "stopped" not in ours and ours["peak_mb"] <= TEN_MILLION_GB * 1024
    stock = {name: some.get("stopped", "finished") for name, some in figures.items() if name.startswith("Feast")}
    if any(said == "finished" for said in stock.values()):
        died: bool | None = False
    else:  # what ran out of time, or failed for another reason, is no proof
        died = True if stock and all(said.endswith("GB") for said in stock.values()) else None
    said = "; ".join(f"{name}: {how}" for name, how in stock.items()) or "not run"
    return [
        {"target": names[0], "measured": measured, "met": met},
        {"target": names[1], "measured": said, "met": died},
    ]


def _least(target: str, some: dict[str, Any], key: str, least: float) -> dict[str, Any]:
    measured, met = "not run", None
    if "stopped" in some and key in some and some[key] >= least:
        measured, met = f"at least {some[key]:.1f}: it was stopped, {some['stopped']}", True
    elif "stopped" in some:
        measured = f"no ratio: it was stopped, {some['stopped']}"
    elif key in some:
        measured, met = f"{some[key]:.1f}", bool(some[key] >= least)
        if key == "times_ours":
            measured += " ({:.1f} to {:.1f})".format(*some["times_ours_spread"])
    return {"target": f"{target}, at least {least:g}", "measured": measured, "met": met}


def show(size: int, figures: dict[str, Any]) -> None:
    """Print the table of one size."""
    table = Table(title=f"Training set of {size:,} rows, {len(references())} features: {', '.join(chosen())}")
    table.add_column("way", no_wrap=True)
    for column in ("s (fastest to slowest)", "peak MB", "lost", "differ", "time / ours", "memory / ours"):
        table.add_column(column, justify="right")
    for name, some in figures.items():
        if "stopped" in some:
            least = f"over {some['memory_over_ours']}" if "memory_over_ours" in some else ""
            table.add_row(name, some["stopped"], f"{some['peak_mb']:,}", "", "", "", least)
            continue
        ratios = [str(some.get(key, "")) for key in ("times_ours", "memory_over_ours")]
        whole = [f"{some[key]:,}" for key in ("peak_mb", "lost", "differ")]
        spread = f" ({some['fastest']} to {some['slowest']})" if some["runs"] > 1 else ""
        table.add_row(name, f"{some['seconds']}{spread}", *whole, *ratios)
    Console().print(table)


def show_targets(found: list[dict[str, Any]]) -> None:
    """Print the targets beside what was measured."""
    table = Table("target", "measured", "", title="Targets")
    words = {True: "met", False: "NOT MET", None: "not measured"}
    for one in found:
        table.add_row(one["target"], one["measured"], words[one["met"]])
    Console().print(table)


def main(  # noqa: PLR0913  # one parameter per option
    *,
    rows: Annotated[list[int] | None, typer.Option(help="Transactions; may be given several times.")] = None,
    ten_million: Annotated[bool, typer.Option("--ten-million", help="Ten million rows too, in 8 GB.")] = False,
    repeats: Annotated[int, typer.Option(help="Runs of each way, in turn, as far as time allows.", min=1)] = 3,
    size_s: Annotated[float, typer.Option(help="Seconds of a size after which nothing is run again.")] = 240.0,
    limit_s: Annotated[float, typer.Option(help="Seconds after which a way is stopped.")] = 900.0,
    limit_gb: Annotated[float, typer.Option(help="Memory at which a way is stopped.")] = 18.0,
    entities: Annotated[str, typer.Option(help="Whose windows, with commas between; of all by default.")] = "",
    folder: Annotated[Path, typer.Option(help="Where the logs are made.")] = ROOT / "build" / "bench" / "history",
    way: Annotated[str | None, typer.Option(help="Measure one way here and print JSON.", hidden=True)] = None,
    lake: Annotated[Path | None, typer.Option(help="Its log.", hidden=True)] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure each way in turn at each size; print time, memory, rows lost, ratios, and the targets."""
    unknown = [name for name in entities.split(",") if name and name not in ENTITIES]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(ENTITIES)}", param_hint="--entities")
    if entities:
        ENVIRON[ONLY] = os.environ[ONLY] = entities  # for the processes, and for the titles here
    if way is not None and lake is not None:
        typer.echo(json.dumps(run_way(way, lake)))
        return
    sizes = [*(rows or SIZES), *([TEN_MILLION] if ten_million else [])]
    figures: dict[str, Any] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for size in sizes:
            gigabytes = TEN_MILLION_GB if size >= TEN_MILLION else limit_gb
            limits = Limits(gigabytes * 1024, limit_s, size_s)
            figures[str(size)] = summarise(measure(size, folder / str(size), repeats, limits, progress), size)
            show(size, figures[str(size)])
    found = targets(figures)
    show_targets(found)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures | {"targets": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make_lake(int(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:2] == ["--give"]:
        give_windows(Path(sys.argv[2]))
    else:
        typer.run(main)
