"""The as-of join against Feast's own DuckDB store, where both answer, and against a plain loop, on every case.

The DuckDB store knows neither strict views nor a key without rows told apart from a null, so those are the loop's.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TTLS = {"forever": timedelta(0), "hour": HOUR, "day": timedelta(days=1)}


@dataclass(frozen=True)
class Row:
    """A row of the source."""

    key: str
    time: datetime
    created: datetime
    value: int | None


def made_rows(seed: int) -> list[Row]:
    """Rows on a grid of minutes: ties of time, nulls, corrections, and a key with only the future."""
    draw = random.Random(seed)
    rows, used = [], set()
    for number in range(400):
        key = f"c{draw.randrange(12)}"
        time = NOON + timedelta(minutes=draw.randrange(-90, 90))
        created = time + timedelta(minutes=draw.choice([0, 1, 30, 600]))
        if (key, time, created) in used:
            continue  # of two rows of one time and arrival no store says which counts
        used.add((key, time, created))
        rows.append(Row(key, time, created, None if number % 11 == 0 else number))
    rows += [Row("later", NOON + timedelta(days=5), NOON + timedelta(days=5), 77)]
    return rows


def made_questions(seed: int) -> pd.DataFrame:
    """Questions at and beside the rows' times and the ttl's edges, some twice, of strangers and the future's key."""
    draw = random.Random(seed + 1)
    edges = [
        timedelta(0),
        timedelta(microseconds=1),
        -timedelta(microseconds=1),
        HOUR,
        HOUR + timedelta(microseconds=1),
    ]
    asked = [
        (f"c{draw.randrange(12)}", NOON + timedelta(minutes=draw.randrange(-95, 95)) + draw.choice(edges))
        for _ in range(300)
    ]
    asked += [*asked[:20], ("stranger", NOON), ("later", NOON), ("", NOON)]
    draw.shuffle(asked)
    frame = pd.DataFrame(asked, columns=["card_id", "event_timestamp"])
    frame["row"] = range(len(frame))
    return frame


def by_loop(rows: list[Row], frame: pd.DataFrame, ttl: timedelta, *, strict: bool, lag: timedelta | None) -> list[Any]:
    out: list[Any] = []
    for key, time in zip(frame["card_id"], frame["event_timestamp"], strict=True):
        at = time.to_pydatetime()
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        seen = [
            row
            for row in rows
            if row.key == key
            and (row.time < at if strict else row.time <= at)
            and (not ttl or row.time >= at - ttl)
            and (lag is None or row.created + lag <= at)
        ]
        best = max(seen, key=lambda row: (row.time, row.created), default=None)
        out.append(None if best is None else best.value)
    return out


class Stores:
    """One set of views behind our store and Feast's DuckDB store."""

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
        from feast.types import Int64

        moment = pa.timestamp("us", "UTC")
        table = pa.table(
            {
                "card_id": [row.key for row in rows],
                "value": pa.array([row.value for row in rows], pa.int64()),
                "event_timestamp": pa.array([row.time for row in rows], moment),
                "created_timestamp": pa.array([row.created for row in rows], moment),
            }
        )
        pq.write_table(table, folder / "rows.parquet")
        card = Entity(name="card", join_keys=["card_id"], value_type=ValueType.STRING)
        source = FileSource(
            path=str(folder / "rows.parquet"),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        )
        views = [
            FeatureView(
                name=f"{name}_{how}",
                entities=[card],
                ttl=ttl,
                schema=[Field(name="value", dtype=Int64)],
                source=source,
                tags={"pit": "strict"} if how == "strict" else {},
            )
            for name, ttl in TTLS.items()
            for how in ("plain", "strict")
        ]
        self.by_type: dict[str, Any] = {}
        for name, kind in (("ours", "stores.offline_store.AsOfOfflineStore"), ("duckdb", "duckdb")):
            home = folder / name
            home.mkdir()
            (home / "feature_store.yaml").write_text(
                f"project: differential\nprovider: local\nregistry: {home / 'registry.db'}\n"
                f"entity_key_serialization_version: 3\noffline_store:\n  type: {kind}\n"
                f"online_store:\n  type: sqlite\n  path: {home / 'online.db'}\n",
                encoding="utf-8",
            )
            store = FeatureStore(repo_path=str(home))
            store.apply([card, *views], skip_feature_view_validation=True)
            self.by_type[name] = store

    def ask(self, store: str, frame: pd.DataFrame, view: str, **options: Any) -> list[Any]:
        """Return the values in the order of the rows asked about; Feast's stores may reorder them."""
        found = self.by_type[store].get_historical_features(frame, [f"{view}:value"], **options).to_df()
        assert len(found) == len(frame)
        if store == "ours":
            assert found["row"].tolist() == frame["row"].tolist()
        found = found.sort_values("row")
        return [None if pd.isna(value) else int(value) for value in found["value"]]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return made_rows(5)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> Stores:
    return Stores(tmp_path_factory.mktemp("differential"), rows)


def zoned(frame: pd.DataFrame, zone: str | None) -> pd.DataFrame:
    """The same questions, their times written in another zone, or without one."""
    time = pd.to_datetime(frame["event_timestamp"], utc=True)
    return frame.assign(event_timestamp=time.dt.tz_localize(None) if zone is None else time.dt.tz_convert(zone))


@pytest.mark.parametrize("ttl", TTLS)
@pytest.mark.parametrize("known", [False, True])
def test_three_answers_are_one(stores: Stores, rows: list[Row], ttl: str, known: bool) -> None:
    frame = made_questions(5)
    options = {"filter_by_created_timestamp": True} if known else {}
    ours = stores.ask("ours", frame, f"{ttl}_plain", **options)
    assert ours == by_loop(rows, frame, TTLS[ttl], strict=False, lag=timedelta(0) if known else None)
    nobody = frame["card_id"] == ""  # an empty key is nobody's here and a key there; no row has it
    theirs = stores.ask("duckdb", frame[~nobody], f"{ttl}_plain", **options)
    assert theirs == [value for value, empty in zip(ours, nobody, strict=True) if not empty]
    assert 20 < sum(value is None for value in ours) < len(ours) - 50


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", None])
def test_a_time_is_the_same_moment_in_every_zone_and_utc_in_none(stores: Stores, rows: list[Row], zone: str) -> None:
    frame = made_questions(6)
    frame = frame[frame["card_id"] != ""]
    expected = by_loop(rows, frame, HOUR, strict=False, lag=None)
    there = zoned(frame, zone)
    assert stores.ask("ours", there, "hour_plain") == expected
    assert stores.ask("duckdb", there, "hour_plain") == expected


@pytest.mark.parametrize("ttl", TTLS)
def test_strict_views_and_lags_equal_the_loop(stores: Stores, rows: list[Row], ttl: str) -> None:
    from stores.as_known import AsKnown, asking_as_known

    frame = made_questions(7)
    for lag in (None, timedelta(0), timedelta(minutes=2)):
        for how in ("plain", "strict"):
            as_known = None if lag is None else AsKnown(lag_ms=lag // timedelta(milliseconds=1))
            with asking_as_known(as_known):
                found = stores.ask("ours", frame, f"{ttl}_{how}")
            assert found == by_loop(rows, frame, TTLS[ttl], strict=how == "strict", lag=lag), (lag, how)


def test_a_column_named_like_a_feature_is_refused_and_others_pass_through(stores: Stores) -> None:
    from stores.errors import InvalidEntityFrame

    frame = made_questions(8).assign(note="kept")
    found = stores.by_type["ours"].get_historical_features(frame, ["hour_plain:value"]).to_df()
    assert found["note"].tolist() == ["kept"] * len(frame)
    with pytest.raises(InvalidEntityFrame, match="'value' of the rows has the name of a feature"):
        stores.by_type["ours"].get_historical_features(frame.assign(value=1), ["hour_plain:value"]).to_df()


def test_no_rows_in_no_rows_out(stores: Stores) -> None:
    found = stores.by_type["ours"].get_historical_features(made_questions(9).iloc[:0], ["hour_plain:value"]).to_df()
    assert (len(found), "value" in found.columns) == (0, True)
