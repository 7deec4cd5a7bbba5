"""Every declared window at every transaction of a long log: rows a second and peak memory, against two data engines.

The log is made up: cards, devices and addresses with unequal activity and busy merchants over 90 days. Ours fills all
the windows of all four kinds of entity (``fraud.history``), as a stored state would answer. Polars (``rolling``) and
DuckDB (range windows) are asked for the part they can express without a program of their own: count, sum, mean and
largest amount per card over 1 hour, 24 hours, 7 and 30 days, before each transaction; distinct counts, the newest-256
bound, amounts against the month's mean, distances and tiles are beyond them. "Ours, cards" is every window of a card,
those four times four among them. Each way runs in a process of its own, on one thread; an engine that is not installed
is left out, and said so.
"""

import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fraud import ring
from fraud.history import Questions, read_history, sort_history
from fraud.velocity import Changes
from fraud.windows import ENTITIES, PARTIES, VELOCITY_FEATURES, Entity

DAYS: Final = 90
DAY_MS: Final = 86_400_000
START_MS: Final = 1_770_000_000_000
ROWS_PER: Final[dict[Entity, int]] = {"card": 60, "device": 80, "ip": 70, "merchant": 2_000}
SUBSET: Final = {"1h": DAY_MS // 24, "24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}
WAYS: Final = ("ours", "ours_cards", "polars", "duckdb")


def make_log(rows: int) -> tuple[dict[Entity, Any], Changes]:
    """Return the key of each row by kind of entity, and the rows in order of time."""
    rng = np.random.default_rng(7)
    keys: dict[Entity, Any] = {}
    for entity in ENTITIES:
        count = max(10, rows // ROWS_PER[entity])
        weights = rng.lognormal(0.0, 0.5, count).cumsum()  # no card reaches the 256 that a read is bound to
        keys[entity] = np.searchsorted(weights, rng.random(rows) * weights[-1]).astype(np.int64)
    changes = np.zeros(rows, ring.ENTRY)
    changes["time"] = START_MS + np.sort(rng.integers(0, DAYS * DAY_MS, rows))
    changes["id"] = rng.permutation(rows) + 1
    changes["amount"] = rng.lognormal(8.0, 1.0, rows).astype(np.int64) + 1
    changes["latitude"], changes["longitude"] = 5_000_000, 800_000
    changes["country"] = rng.integers(1, 6, rows)
    changes["flags"] = rng.random(rows) < 0.05
    return keys, changes


def ours(keys: dict[Entity, Any], changes: Changes, entities: tuple[Entity, ...]) -> float:
    """Fill every window of ``entities``; return a sum over the subset for comparison."""
    total = 0.0
    for entity in entities:
        own = changes.copy()
        own["party"] = keys[PARTIES[entity][0]]
        places = own["latitude"].astype(np.int64), own["longitude"].astype(np.int64)
        history = sort_history(entity, keys[entity], own, int(keys[entity].max()) + 1)
        asked = Questions(keys[entity], changes["time"].astype(np.int64), keys[PARTIES[entity][0]], *places)
        values = read_history(history, asked)
        if entity == "card":
            names = [feature.name for feature in VELOCITY_FEATURES[entity]]
            total = sum(float(values[:, names.index(f"card_transaction_count_{label}")].sum()) for label in SUBSET)
    return total


def polars(keys: dict[Entity, Any], changes: Changes) -> float:
    """Ask Polars for the subset; return the sum of the counts."""
    import polars as pl

    frame = pl.DataFrame({"card": keys["card"], "time": changes["time"].copy(), "amount": changes["amount"].copy()})
    frame = frame.with_columns(pl.from_epoch("time", time_unit="ms")).sort("card", "time")
    total = 0.0
    for length_ms in SUBSET.values():
        amount = pl.col("amount")
        wanted = [pl.len().alias("n"), amount.sum().alias("s"), amount.mean().alias("m"), amount.max().alias("x")]
        period = f"{length_ms}ms"
        rolled = frame.rolling(index_column="time", period=period, closed="left", group_by="card").agg(wanted)
        total += float(rolled["n"].sum())
    return total


def duckdb(keys: dict[Entity, Any], changes: Changes) -> float:
    """Ask DuckDB for the subset; return the sum of the counts."""
    import duckdb as engine
    import pyarrow as pa  # only this way needs it

    log = pa.table({"card": keys["card"], "time": changes["time"].copy(), "amount": changes["amount"].copy()})
    base = engine.connect()
    base.execute("SET threads = 1")
    base.register("log", log)
    columns, windows = [], []
    for label, length_ms in SUBSET.items():
        name = f"w{label}"
        columns += [f"{what} OVER {name} AS {what[:3]}_{label}" for what in ("count(*)", "sum(amount)")]
        columns += [f"{what}(amount) OVER {name} AS {what}_{label}" for what in ("avg", "max")]
        span = f"RANGE BETWEEN {length_ms} PRECEDING AND 1 PRECEDING"
        windows.append(f"{name} AS (PARTITION BY card ORDER BY time {span})")
    query = f"SELECT {', '.join(columns)} FROM log WINDOW {', '.join(windows)}"  # noqa: S608  # all of it is above
    made = base.execute(query).fetchnumpy()
    return float(sum(np.asarray(made[f"cou_{label}"]).sum() for label in SUBSET))


def run_way(way: str, rows: int) -> dict[str, float]:
    """Measure one way in this process."""
    keys, changes = make_log(rows)
    if way.startswith("ours"):
        warm_keys, warm = make_log(1_000)
        ours(warm_keys, warm, ENTITIES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, cpu = time.monotonic(), time.process_time()
    if way == "polars":
        total = polars(keys, changes)
    elif way == "duckdb":
        total = duckdb(keys, changes)
    else:
        total = ours(keys, changes, ENTITIES if way == "ours" else ("card",))
    cpu, seconds = time.process_time() - cpu, time.monotonic() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rows_per_cpu_second": rows / cpu,
        "seconds": seconds,
        "peak_mb": peak / 1024,
        "log_mb": before / 1024,
        "check": total,
    }


def ask_process(way: str, rows: int) -> dict[str, float]:
    """Measure one way in a process of its own."""
    alone = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--rows", str(rows), "--way", way]
    done = subprocess.run(command, env=alone, check=True, stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main(
    rows: Annotated[int, typer.Option(help="Transactions in the log.", min=1_000)] = 1_000_000,
    repeats: Annotated[int, typer.Option(help="Runs of each, in turn.", min=1)] = 3,
    way: Annotated[str | None, typer.Option(help="Measure one way here and print JSON.", hidden=True)] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure each way in turn and print rates, memory and ratios."""
    if way is not None:
        typer.echo(json.dumps(run_way(way, rows)))
        return
    missing = [name for name in ("polars", "duckdb") if importlib.util.find_spec(name) is None]
    runs: dict[str, list[dict[str, float]]] = defaultdict(list)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=repeats * (len(WAYS) - len(missing)))
        for _ in range(repeats):
            for name in WAYS:
                if name not in missing:
                    runs[name].append(ask_process(name, rows))
                    progress.advance(task)
    figures = summarise(runs, rows, missing)
    show(figures)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if len({some["check"] for name, done in runs.items() if name != "ours" for some in done}) > 1:
        typer.echo("backfill: the ways do not agree on the counts", err=True)
        raise typer.Exit(1)


def summarise(runs: dict[str, list[dict[str, float]]], rows: int, missing: list[str]) -> dict[str, Any]:
    """Return medians, spread and the ratio of ours to each."""
    ways = {}
    for name, done in runs.items():
        rates = [some["rows_per_cpu_second"] for some in done]
        pairs = zip(runs["ours_cards"], done, strict=True)
        ways[name] = {
            "rows_per_cpu_second": round(statistics.median(rates)),
            "spread": f"{min(rates):,.0f} to {max(rates):,.0f}",
            "peak_mb": round(statistics.median(some["peak_mb"] for some in done)),
            "log_mb": round(statistics.median(some["log_mb"] for some in done)),
            "ours_cards_over_it": round(
                statistics.median(a["rows_per_cpu_second"] / b["rows_per_cpu_second"] for a, b in pairs), 2
            ),
        }
    return {"rows": rows, "ways": ways, "not_installed": missing}


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    columns = ("way", "rows a CPU second", "lowest to highest", "peak MB", "of it the log", "ours, cards, over it")
    table = Table(*columns, title=f"{figures['rows']:,} transactions")
    for name, some in figures["ways"].items():
        rate, ratio = f"{some['rows_per_cpu_second']:,}", str(some["ours_cards_over_it"])
        table.add_row(name, rate, some["spread"], str(some["peak_mb"]), str(some["log_mb"]), ratio)
    Console().print(table)
    for name in figures["not_installed"]:
        typer.echo(f"{name} is not installed: left out (pip install {name})")


if __name__ == "__main__":
    typer.run(main)
