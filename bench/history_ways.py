"""The ways of :mod:`bench.history`: a made-up log, and what answers from it, each measured in this process.

All are warmed alike before their time is taken: each answers a hundred of the rows first, so that compilation, imports
that come late and the first look at the files are nobody's loss.
"""

import os
import resource
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud.features import CARD_PROFILE_FEATURES, MERCHANT_PROFILE_FEATURES
from fraud.velocity import feature_names
from fraud.windows import ENTITIES, Entity
from fraud.windows import JOIN_KEYS as KEYS

ROOT: Final = Path(__file__).resolve().parents[1]
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
ONLY: Final = "BENCH_ENTITIES"
"""Names the entities whose windows are asked for, with commas between; all of them where it is not set."""
WARM: Final = 100
"""Rows that each way answers before it is measured."""


def chosen() -> tuple[Entity, ...]:
    """Return the entities whose windows are asked for."""
    named = os.environ.get(ONLY, "").split(",")
    return tuple(entity for entity in ENTITIES if entity in named) or ENTITIES


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
    """Write the values of each entity's windows at each transaction, part by part: what the others join."""
    (lake / "windows").mkdir(exist_ok=True)
    ours = pq.ParquetFile(lake / "ours_parquet.parquet")
    for entity in chosen():
        writer = None
        columns = [KEYS[entity], "event_timestamp", *feature_names((entity,))]
        for batch in ours.iter_batches(batch_size=262_144, columns=columns):
            own = pa.Table.from_batches([batch])
            own = own.filter(pc.not_equal(own[KEYS[entity]], ""))
            own = own.append_column("created_timestamp", own["event_timestamp"])
            writer = writer or pq.ParquetWriter(lake / "windows" / f"{entity}.parquet", own.schema)
            writer.write_table(own)
        if writer is not None:
            writer.close()


def references() -> list[str]:
    """Return the features asked for, as Feast names them, where the windows are given."""
    refs = [f"{entity}_windows:{name}" for entity in chosen() for name in feature_names((entity,))]
    return refs + [f"{view}:{name}" for view, columns in PROFILES.items() for name in columns]


# --- The ways --------------------------------------------------------------------------------------------------------


def ours(lake: Path, *, as_frame: bool) -> Callable[[], Any]:
    """Return what answers through our store, from the log."""
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    from training.feast_store import open_lake_store

    store = open_lake_store(ROOT / "feature_repo", lake)
    windows = [name for entity in chosen() for name in feature_names((entity,))]
    refs = [f"velocity:{name}" for name in windows] + references()[len(windows) :]
    frame = entity_frame(lake)
    store.get_historical_features(frame.iloc[:WARM], refs).to_df()
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
    places: dict[str, tuple[Entity, Path]] = {f"{e}_windows": (e, lake / "windows" / f"{e}.parquet") for e in chosen()}
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
    store.get_historical_features(frame.iloc[:WARM], references()).to_df()
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
    base.register("few", rows.slice(0, WARM))
    query, wanted = "FROM asked", ["asked.*"]
    for number, (entity, path, columns) in enumerate(sources(lake)):
        key = KEYS[entity]
        query += (
            f" ASOF LEFT JOIN read_parquet('{path}') s{number}"
            f" ON asked.{key} = s{number}.{key} AND asked.event_timestamp >= s{number}.event_timestamp"
        )
        wanted += [f"s{number}.{column}" for column in columns]
    out = lake / "raw_duckdb.parquet"
    joined = f"SELECT {', '.join(wanted)} {query}"
    base.execute(joined.replace("FROM asked", "FROM few AS asked")).fetchall()

    def written() -> Path:
        base.execute(f"COPY ({joined}) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")
        return out

    return written


def sources(lake: Path) -> list[tuple[Entity, Path, list[str]]]:
    """Return every table that is joined by hand: whose, where, and its feature columns."""
    found: list[tuple[Entity, Path, list[str]]] = [
        (entity, lake / "windows" / f"{entity}.parquet", list(feature_names((entity,)))) for entity in chosen()
    ]
    found.append(("card", lake / "profiles" / "card" / "part-0.parquet", PROFILES["card_profile"]))
    found.append(("merchant", lake / "profiles" / "merchant" / "part-0.parquet", PROFILES["merchant_profile"]))
    return found


def raw_polars(lake: Path) -> Callable[[], Any]:
    """Return what joins by hand in Polars."""
    import polars as pl

    asked: Any = pl.from_arrow(entity_table(lake).select(["transaction_id", *KEYS.values(), "event_timestamp"]))
    out = lake / "raw_polars.parquet"

    def joined(rows: Any) -> Any:
        frame = rows.lazy().sort("event_timestamp")
        for entity, path, columns in sources(lake):
            table = pl.scan_parquet(path).select([KEYS[entity], "event_timestamp", *columns]).sort("event_timestamp")
            frame = frame.join_asof(table, on="event_timestamp", by=KEYS[entity], strategy="backward")
        return frame.collect(engine="streaming")

    joined(asked.head(WARM))

    def written() -> Path:
        joined(asked).write_parquet(out, compression="zstd")
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
    found = pq.read_table(made, columns=["transaction_id", *checked()]) if isinstance(made, Path) else made
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": peak / 1024,
        "before_mb": before / 1024,
        "rows": len(found),
        "differ": differing(found, lake),
    }


def checked() -> list[str]:
    """Return the columns that are held to ours, of those asked for."""
    asked = {reference.partition(":")[2] for reference in references()}
    return [name for name in CHECKED if name in asked]


def differing(found: Any, lake: Path) -> int:
    """Return how many of the checked values are not ours, row by row, of the rows that came back."""
    expected = pq.read_table(lake / "ours_parquet.parquet", columns=["transaction_id", *checked()]).to_pandas()
    table = found.to_pandas() if isinstance(found, pa.Table) else found[["transaction_id", *checked()]]
    both = table.merge(expected, on="transaction_id", suffixes=("", "_ours"))
    count = 0
    for name in checked():
        one, two = (both[column].to_numpy(np.float64, na_value=np.nan) for column in (name, f"{name}_ours"))
        if name.startswith("device_"):
            one = np.nan_to_num(one)  # a row without a device finds no windows there; ours counts nothing
        count += int((~((one == two) | (np.isnan(one) & np.isnan(two)))).sum())
    return count
