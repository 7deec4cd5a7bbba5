"""A training set from history: time, peak memory and rows lost, against Feast's stores and two data engines.

The log is made up: cards and devices with unequal activity and busy merchants over 90 days. The training set has one
row for each of its transactions: every window of card, device and merchant as of that transaction, and two batch
profiles. Ours computes the windows from the log. The others cannot compute them at any price, so they are *given* them:
one table for each kind of entity with its window values at each transaction, made by us beforehand and not timed, which
they join as of each row's time beside the two profiles. Feast's stores do so as Feast wrote them; raw DuckDB (``ASOF
JOIN``) and raw Polars (``join_asof``) as a person would by hand, without Feast.

Each way runs in a process of its own; imports, opening the store and the frame of rows are not timed, and stand in the
memory of all. A way that passes the time or memory limit is stopped, and said so. ``lost`` are rows asked about that
did not come back; ``differ`` counts values of six columns that are not ours (ties of one entity's millisecond are in
no stated order there).
"""

import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fraud.features import CARD_PROFILE_FEATURES, MERCHANT_PROFILE_FEATURES
from fraud.velocity import feature_names
from fraud.windows import ENTITIES, Entity
from fraud.windows import JOIN_KEYS as KEYS

ROOT: Final = Path(__file__).resolve().parents[1]
LIMIT_S: Final = 1_200.0
"""Seconds after which a way is stopped."""

DAYS: Final = 90
DAY_MS: Final = 86_400_000
START_MS: Final = 1_767_225_600_000  # 2026-01-01
ROWS_PER: Final[dict[Entity, int]] = {"card": 40, "device": 60, "ip": 80, "merchant": 2_000}
PROFILES: Final = {
    "card_profile": [feature.name for feature in CARD_PROFILE_FEATURES],
    "merchant_profile": [feature.name for feature in MERCHANT_PROFILE_FEATURES],
}
CHECKED: Final = (
    "card_transaction_count_24h",
    "card_amount_mean_30d",
    "device_transaction_count_7d",
    "merchant_amount_sum_1h",
    "card_amount_median_30d",
    "merchant_age_days",
)
WAYS: Final = (
    "ours, Parquet",
    "ours, to_df",
    "Feast DuckDB, Parquet",
    "Feast DuckDB, to_df",
    "Feast file, to_df",
    "raw DuckDB ASOF",
    "raw Polars join_asof",
)


def make_lake(rows: int, lake: Path) -> None:
    """Write a log of so many transactions, and its profiles."""
    from training.profiles import write_profiles
    from training.transaction_log import TRANSACTIONS_SCHEMA, moments, write_transactions

    rng = np.random.default_rng(7)
    shutil.rmtree(lake, ignore_errors=True)
    lake.mkdir(parents=True)
    event = START_MS + np.sort(rng.integers(0, DAYS * DAY_MS, rows))
    columns: dict[str, Any] = {"transaction_id": names("t", np.arange(rows))}
    for entity in ENTITIES:
        weights = rng.lognormal(0.0, 0.5, max(10, rows // ROWS_PER[entity])).cumsum()
        keys = names(entity[0], np.searchsorted(weights, rng.random(rows) * weights[-1]))
        absent = rng.random(rows) < 0.3 if entity in ("device", "ip") else np.zeros(rows, np.bool_)
        columns[KEYS[entity]] = pa.array(keys.to_numpy(zero_copy_only=False), pa.string(), mask=absent)
    place = rng.random(rows)
    columns |= {
        "amount_minor": pa.array(rng.lognormal(8.0, 1.0, rows).astype(np.int64) + 1),
        "currency": pa.array(["EUR"] * rows),
        "event_timestamp": moments(event),
        "created_timestamp": moments(event + rng.integers(0, 3_000, rows)),
        "channel": pa.array(np.array(["pos", "online", "app"])[rng.integers(0, 3, rows)].tolist()),
        "merchant_category": pa.array(rng.integers(5000, 6000, rows), pa.int32()),
        "country": pa.array(np.array(["DE", "FR", "GB"])[rng.integers(0, 3, rows)].tolist()),
        "latitude": pa.array(45 + place * 9, mask=place < 0.2),
        "longitude": pa.array(place * 20, mask=place < 0.2),
        "authorised": pa.array(rng.random(rows) < 0.97),
    }
    for name in TRANSACTIONS_SCHEMA.names:
        columns.setdefault(name, pa.nulls(rows, TRANSACTIONS_SCHEMA.field(name).type))
    table = pa.table({name: columns[name] for name in TRANSACTIONS_SCHEMA.names}, schema=TRANSACTIONS_SCHEMA)
    write_transactions(table, event, lake, lambda _done, _all: None)
    write_profiles(lake, progress=lambda _done, _all: None)


def names(prefix: str, numbers: Any) -> pa.Array:
    """Return numbers as ids such as ``c17``."""
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(numbers), pa.string()), "")


def entity_table(lake: Path) -> pa.Table:
    """Return what is asked: every transaction of the log, in order."""
    from training.dataset import entity_rows, read_log

    return entity_rows(read_log(lake, 0, 2**42))


def give_windows(lake: Path) -> None:
    """Write the values of each entity's windows at each transaction: what the others join."""
    table = pq.read_table(lake / "ours_parquet.parquet")
    folder = lake / "windows"
    folder.mkdir(exist_ok=True)
    for entity in ENTITIES:
        own = table.select([KEYS[entity], "event_timestamp", *feature_names((entity,))])
        own = own.filter(pc.not_equal(own[KEYS[entity]], ""))
        pq.write_table(own.append_column("created_timestamp", own["event_timestamp"]), folder / f"{entity}.parquet")


def references() -> list[str]:
    """Return the features asked for, as Feast names them, where the windows are given."""
    refs = [f"{entity}_windows:{name}" for entity in ENTITIES for name in feature_names((entity,))]
    return refs + [f"{view}:{name}" for view, columns in PROFILES.items() for name in columns]


# --- The ways --------------------------------------------------------------------------------------------------------


def ours(lake: Path, *, as_frame: bool) -> Callable[[], Any]:
    """Return what answers through our store, from the log."""
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    from training.feast_store import open_lake_store

    store = open_lake_store(ROOT / "feature_repo", lake)
    refs = [f"velocity:{name}" for name in feature_names()] + references()[len(feature_names()) :]
    frame = entity_frame(lake)
    store.get_historical_features(frame.iloc[:100], refs).to_df()  # kernels are compiled once in a machine's life
    if as_frame:
        return lambda: store.get_historical_features(frame, refs).to_df()
    path = lake / "ours_parquet.parquet"

    def written() -> Path:
        place = SavedDatasetFileStorage(str(path))
        store.get_historical_features(frame, refs).persist(place, allow_overwrite=True)
        return path

    return written


def entity_frame(lake: Path) -> Any:
    """Return the rows as pandas; Arrow-backed, which holds ten million of them in 2 GB instead of 9."""
    import pandas as pd

    return entity_table(lake).to_pandas(types_mapper=pd.ArrowDtype)


def stock(lake: Path, kind: str, *, as_frame: bool) -> Callable[[], Any]:
    """Return what answers through one of Feast's own stores, from the windows it is given."""
    from feast import Entity as FeastEntity
    from feast import FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.types import Float64, Int64

    home = lake / f"feast_{kind}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    (home / "feature_store.yaml").write_text(
        f"project: stock\nprovider: local\nregistry: {home / 'registry.db'}\nentity_key_serialization_version: 3\n"
        f"offline_store:\n  type: {kind}\nonline_store:\n  type: sqlite\n  path: {home / 'online.db'}\n"
    )
    entities = {e: FeastEntity(name=e, join_keys=[KEYS[e]], value_type=ValueType.STRING) for e in ENTITIES}
    views = []
    places: dict[str, tuple[Entity, Path]] = {f"{e}_windows": (e, lake / "windows" / f"{e}.parquet") for e in ENTITIES}
    places |= {"card_profile": ("card", lake / "profiles" / "card" / "part-0.parquet")}
    places |= {"merchant_profile": ("merchant", lake / "profiles" / "merchant" / "part-0.parquet")}
    for view, (entity, path) in places.items():
        schema = pq.read_schema(path)
        wanted = PROFILES.get(view) or list(feature_names((entity,)))
        fields = [Field(name=n, dtype=Int64 if pa.types.is_integer(schema.field(n).type) else Float64) for n in wanted]
        source = FileSource(
            path=str(path), timestamp_field="event_timestamp", created_timestamp_column="created_timestamp"
        )
        views.append(
            FeatureView(name=view, entities=[entities[entity]], ttl=timedelta(0), schema=fields, source=source)
        )
    store = FeatureStore(repo_path=str(home))
    store.apply([*entities.values(), *views], skip_feature_view_validation=True)
    frame = entity_table(lake).select(["transaction_id", *KEYS.values(), "event_timestamp"]).to_pandas()
    if as_frame:
        return lambda: store.get_historical_features(frame, references()).to_df()
    path = lake / f"{kind}.parquet"

    def written() -> Path:
        pq.write_table(store.get_historical_features(frame, references()).to_arrow(), path, compression="zstd")
        return path

    return written


def raw_duckdb(lake: Path) -> Callable[[], Any]:
    """Return what joins by hand in DuckDB."""
    import duckdb

    rows = entity_table(lake).select(["transaction_id", *KEYS.values(), "event_timestamp"])
    base = duckdb.connect()
    base.execute("SET preserve_insertion_order = false")
    base.register("asked", rows)
    query, chosen = "FROM asked", ["asked.*"]
    for number, (entity, path, columns) in enumerate(sources(lake)):
        key = KEYS[entity]
        query += (
            f" ASOF LEFT JOIN read_parquet('{path}') s{number}"
            f" ON asked.{key} = s{number}.{key} AND asked.event_timestamp >= s{number}.event_timestamp"
        )
        chosen += [f"s{number}.{column}" for column in columns]
    out = lake / "raw_duckdb.parquet"

    def written() -> Path:
        base.execute(f"COPY (SELECT {', '.join(chosen)} {query}) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")
        return out

    return written


def sources(lake: Path) -> list[tuple[Entity, Path, list[str]]]:
    """Return every table that is joined by hand: whose, where, and its feature columns."""
    found: list[tuple[Entity, Path, list[str]]] = [
        (entity, lake / "windows" / f"{entity}.parquet", list(feature_names((entity,)))) for entity in ENTITIES
    ]
    found.append(("card", lake / "profiles" / "card" / "part-0.parquet", PROFILES["card_profile"]))
    found.append(("merchant", lake / "profiles" / "merchant" / "part-0.parquet", PROFILES["merchant_profile"]))
    return found


def raw_polars(lake: Path) -> Callable[[], Any]:
    """Return what joins by hand in Polars."""
    import polars as pl

    asked: Any = pl.from_arrow(entity_table(lake).select(["transaction_id", *KEYS.values(), "event_timestamp"]))
    out = lake / "raw_polars.parquet"

    def written() -> Path:
        frame = asked.lazy().sort("event_timestamp")
        for entity, path, columns in sources(lake):
            table = pl.scan_parquet(path).select([KEYS[entity], "event_timestamp", *columns]).sort("event_timestamp")
            frame = frame.join_asof(table, on="event_timestamp", by=KEYS[entity], strategy="backward")
        frame.collect(engine="streaming").write_parquet(out, compression="zstd")
        return out

    return written


def prepared(way: str, lake: Path) -> Callable[[], Any]:
    """Return what a way does, everything untimed done."""
    if way.startswith("ours"):
        return ours(lake, as_frame=way.endswith("to_df"))
    if way.startswith("Feast"):
        kind = "duckdb" if "DuckDB" in way else "file"
        return stock(lake, kind, as_frame=way.endswith("to_df"))
    return raw_duckdb(lake) if "DuckDB" in way else raw_polars(lake)


# --- Measuring -------------------------------------------------------------------------------------------------------


def run_way(way: str, lake: Path) -> dict[str, Any]:
    """Measure one way in this process."""
    import warnings

    warnings.simplefilter("ignore")
    run = prepared(way, lake)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, cpu = time.monotonic(), time.process_time()
    made = run()
    seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = pq.read_table(made, columns=["transaction_id", *CHECKED]) if isinstance(made, Path) else made
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": peak / 1024,
        "before_mb": before / 1024,
        "rows": len(found),
        "differ": differing(found, lake),
    }


def differing(found: Any, lake: Path) -> int:
    """Return how many of the checked values are not ours, row by row, of the rows that came back."""
    expected = pq.read_table(lake / "ours_parquet.parquet", columns=["transaction_id", *CHECKED]).to_pandas()
    table = found.to_pandas() if isinstance(found, pa.Table) else found[["transaction_id", *CHECKED]]
    both = table.merge(expected, on="transaction_id", suffixes=("", "_ours"))
    count = 0
    for name in CHECKED:
        one, two = (both[column].to_numpy(np.float64, na_value=np.nan) for column in (name, f"{name}_ours"))
        if name.startswith("device_"):
            one = np.nan_to_num(one)  # a row without a device finds no windows there; ours counts nothing
        count += int((~((one == two) | (np.isnan(one) & np.isnan(two)))).sum())
    return count


def ask_process(way: str, lake: Path, limit_mb: float) -> dict[str, Any]:
    """Measure one way in a process of its own, which is stopped at either limit."""
    command = [sys.executable, __file__, "--way", way, "--lake", str(lake)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        end = time.monotonic() + LIMIT_S
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, memory_mb(process.pid))
            if peak > limit_mb or time.monotonic() > end:
                process.kill()
                why = f"over {limit_mb / 1024:.0f} GB" if peak > limit_mb else f"over {LIMIT_S:.0f} s"
                return {"stopped": why, "peak_mb": peak}
            time.sleep(0.05)
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


def main(
    rows: Annotated[list[int] | None, typer.Option(help="Transactions; may be given several times.")] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each way, in turn.", min=1)] = 1,
    stock_most: Annotated[int, typer.Option(help="Most rows that the others are asked for.")] = 1_000_000,
    limit_gb: Annotated[float, typer.Option(help="Memory at which a way is stopped.")] = 15.0,
    folder: Annotated[Path, typer.Option(help="Where the logs are made.")] = ROOT / "build" / "bench" / "history",
    way: Annotated[str | None, typer.Option(help="Measure one way here and print JSON.", hidden=True)] = None,
    lake: Annotated[Path | None, typer.Option(help="Its log.", hidden=True)] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure each way in turn at each size and print time, memory, rows lost and ratios."""
    if way is not None and lake is not None:
        typer.echo(json.dumps(run_way(way, lake)))
        return
    sizes = rows or [5_000, 20_000, 100_000, 1_000_000, 10_000_000]
    figures: dict[str, Any] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for size in sizes:
            where = folder / str(size)
            task = progress.add_task(f"{size:,} rows: the log", total=None)
            subprocess.run([sys.executable, __file__, "--make", str(size), str(where)], check=True)
            ways = [name for name in WAYS if name.startswith("ours") or size <= stock_most]
            ways = [name for name in ways if size <= stock_most or not name.endswith("to_df")]
            progress.update(task, total=repeats * len(ways), description=f"{size:,} rows")
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
            for turn in range(repeats):
                for name in ways:
                    runs[name].append(ask_process(name, where, limit_gb * 1024))
                    if turn == 0 and name == WAYS[0] and size <= stock_most:
                        subprocess.run([sys.executable, __file__, "--give", str(where)], check=True)
                    progress.advance(task)
            figures[str(size)] = summarise(runs, size)
            show(size, figures[str(size)])
            shutil.rmtree(where, ignore_errors=True)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def summarise(runs: dict[str, list[dict[str, Any]]], size: int) -> dict[str, Any]:
    """Return medians of each way, and its time over ours of the same output in the same turn."""
    out: dict[str, Any] = {}
    for name, done in runs.items():
        whole = [some for some in done if "stopped" not in some]
        if not whole:
            out[name] = {"stopped": done[0]["stopped"], "peak_mb": round(done[0]["peak_mb"])}
            continue
        base = runs["ours, to_df" if name.endswith("to_df") else "ours, Parquet"]
        pairs = [(a, b) for a, b in zip(base, done, strict=True) if "stopped" not in a and "stopped" not in b]
        out[name] = {
            key: round(statistics.median(some[key] for some in whole), 2) for key in ("seconds", "cpu_seconds")
        }
        out[name] |= {key: round(max(some[key] for some in whole)) for key in ("peak_mb", "before_mb", "differ")}
        out[name]["lost"] = size - min(some["rows"] for some in whole)
        if pairs:
            out[name]["times_ours"] = round(statistics.median(b["seconds"] / a["seconds"] for a, b in pairs), 2)
            out[name]["memory_over_ours"] = round(statistics.median(b["peak_mb"] / a["peak_mb"] for a, b in pairs), 2)
    return out


def show(size: int, figures: dict[str, Any]) -> None:
    """Print the table of one size."""
    columns = ("way", "s", "CPU s", "peak MB", "before", "lost", "differ", "time / ours", "memory / ours")
    table = Table(*columns, title=f"Training set of {size:,} rows, {len(references())} features")
    for name, some in figures.items():
        if "stopped" in some:
            table.add_row(name, some["stopped"], "", f"{some['peak_mb']:,}")
            continue
        ratios = [str(some.get(key, "")) for key in ("times_ours", "memory_over_ours")]
        whole = [f"{some[key]:,}" for key in ("peak_mb", "before_mb", "lost", "differ")]
        table.add_row(name, str(some["seconds"]), str(some["cpu_seconds"]), *whole, *ratios)
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make_lake(int(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:2] == ["--give"]:
        give_windows(Path(sys.argv[2]))
    else:
        typer.run(main)
