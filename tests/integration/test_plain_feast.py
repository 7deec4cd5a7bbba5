"""What Feast allows beside the fraud definitions, by the store's name alone: views of no entity, saved datasets."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.emulators import start_valkey

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RATES = (("2026-03-01 09:00", 0.9), ("2026-03-01 11:00", 1.1), ("2026-03-01 10:00", 1.0), ("2026-03-02 09:00", 2.0))
ENGINES = {"local": "local", "streaming": "stores.compute_engine.StreamingEngine"}


@pytest.fixture(scope="module")
def valkey() -> Iterator[int]:
    with start_valkey() as port:
        yield port


@pytest.fixture(params=["local", "streaming"])
def store(request: pytest.FixtureRequest, tmp_path: Path, valkey: int) -> Any:
    """Feast over a table of rates that belong to nobody, and one of cards."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.types import Float64, Int64, String

    times = pd.to_datetime([time for time, _ in RATES], utc=True)
    rates = pd.DataFrame({"rate": [rate for _, rate in RATES], "event_timestamp": times})
    pq.write_table(pa.Table.from_pandas(rates), tmp_path / "rates.parquet")
    cards = pd.DataFrame({"card_id": ["a", "b"], "seen": [1, 2], "event_timestamp": times[:2]})
    (tmp_path / "cards").mkdir()
    pq.write_table(pa.Table.from_pandas(cards), tmp_path / "cards" / "first.parquet")
    (tmp_path / "feature_store.yaml").write_text(
        f"project: plain{request.param}\nprovider: local\nregistry: registry.db\nentity_key_serialization_version: 3\n"
        "offline_store:\n  type: stores.offline_store.AsOfOfflineStore\n"
        f"batch_engine:\n  type: {ENGINES[request.param]}\n"
        f"online_store:\n  type: stores.online_store.GuardedRedisOnlineStore\n"
        f"  connection_string: 127.0.0.1:{valkey}\n"
    )
    sources = {
        name: FileSource(path=str(tmp_path / path), timestamp_field="event_timestamp")
        for name, path in (("rates", "rates.parquet"), ("cards", "cards"))
    }
    card = Entity(name="card", join_keys=["card_id"], value_type=ValueType.STRING)
    market = FeatureView(
        name="market", schema=[Field(name="rate", dtype=Float64)], source=sources["rates"], ttl=timedelta(0)
    )
    seen = FeatureView(
        name="seen_cards",
        entities=[card],
        schema=[Field(name="card_id", dtype=String), Field(name="seen", dtype=Int64)],
        source=sources["cards"],
        ttl=timedelta(0),
    )
    feast = FeatureStore(repo_path=str(tmp_path))
    feast.apply([card, market, seen])
    return feast


@pytest.mark.parametrize("newest_only", [True, False])
def test_a_view_without_an_entity_is_materialized_and_read(
    store: Any, newest_only: bool
) -> None:  # pytest passes it by name
    store.config.materialization_config.pull_latest_features = newest_only
    store.materialize(NOON - 24 * HOUR, NOON)
    assert store.get_online_features(["market:rate", "seen_cards:seen"], [{"card_id": "b"}]).to_dict() == {
        "card_id": ["b"],
        "rate": [1.1],
        "seen": [2],
    }


def test_a_view_without_an_entity_is_joined_by_time_alone(store: Any) -> None:
    times = pd.to_datetime(["2026-03-01 10:30", "2026-03-01 08:00", "2026-03-02 09:00", "2026-03-01 11:00"], utc=True)
    asked = pd.DataFrame({"card_id": ["b", "a", "x", ""], "event_timestamp": times})
    found = store.get_historical_features(asked, ["market:rate", "seen_cards:seen"]).to_df()
    assert found["rate"].fillna(-1).tolist() == [1.0, -1, 2.0, 1.1]
    assert found["seen"].fillna(-1).tolist() == [-1, -1, -1, -1]


def test_a_saved_dataset_is_made_and_found_by_its_name(store: Any, tmp_path: Path) -> None:
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    times = pd.to_datetime(["2026-03-01 10:30", "2026-03-01 11:30"], utc=True)
    asked = pd.DataFrame({"card_id": ["a", "b"], "event_timestamp": times})
    job = store.get_historical_features(asked, ["seen_cards:seen", "market:rate"])
    storage = SavedDatasetFileStorage(str(tmp_path / "set.parquet"))
    store.create_saved_dataset(from_=job, name="march", storage=storage)
    saved = store.get_saved_dataset("march")
    assert saved.features == ["seen_cards:seen", "market:rate"]
    bounds = [pd.Timestamp(time).tz_localize("UTC") for time in (saved.min_event_timestamp, saved.max_event_timestamp)]
    assert bounds == list(times)
    frame = saved.to_df().sort_values("event_timestamp")
    assert frame[["card_id", "seen", "rate"]].to_numpy().tolist() == [["a", 1, 1.0], ["b", 2, 1.1]]


def more_cards(**changed: Any) -> pd.DataFrame:
    time = pd.to_datetime(["2026-03-01 13:00"] * 2, utc=True)
    return pd.DataFrame({"card_id": ["a", "b"], "seen": [7, 8], "event_timestamp": time} | changed)


def test_numbers_that_pandas_made_fractions_are_written_as_the_source_has_them(store: Any, tmp_path: Path) -> None:
    before = (tmp_path / "cards" / "first.parquet").read_bytes()
    store.write_to_offline_store("seen_cards", more_cards(seen=[7.0, None]))
    store.write_to_offline_store("seen_cards", more_cards(card_id=["c", "d"], seen=[None, None]))
    assert (tmp_path / "cards" / "first.parquet").read_bytes() == before
    times = pd.to_datetime(["2026-03-01 13:00", "2026-03-01 12:59"], utc=True)
    asked = pd.DataFrame({"card_id": ["a", "a"], "event_timestamp": times})
    found = store.get_historical_features(asked, ["seen_cards:seen"]).to_df()
    assert found["seen"].tolist() == [7, 1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seen": [7.5, 8.0]}, "'seen' is double, which does not fit the int64"),
        ({"card_id": ["a", None]}, "'card_id' holds 1 nulls, the first in row 1"),
        (
            {"event_timestamp": pd.DatetimeIndex([pd.NaT, pd.Timestamp("2026-03-01")], tz="UTC")},
            "'event_timestamp' holds 1 nulls",
        ),
    ],
)
def test_rows_that_no_reading_would_take_are_not_written(
    store: Any, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    from stores.errors import UnfitRows

    with pytest.raises(UnfitRows, match=said):
        store.write_to_offline_store("seen_cards", more_cards(**changed))
    assert [path.name for path in (tmp_path / "cards").iterdir()] == ["first.parquet"]


def test_a_column_that_is_there_twice_is_refused(store: Any) -> None:
    from stores.errors import InvalidEntityFrame

    asked = more_cards().drop(columns="seen")
    twice = pd.concat([asked, asked[["card_id"]]], axis=1)
    with pytest.raises(InvalidEntityFrame, match="'card_id' is there more than once"):
        store.get_historical_features(twice, ["seen_cards:seen"])


def test_a_time_as_text_is_refused_with_the_remedy(store: Any) -> None:
    from stores.errors import InvalidEntityFrame

    asked = pd.DataFrame({"card_id": ["a"], "event_timestamp": ["2026-03-01 12:00"]})
    with pytest.raises(InvalidEntityFrame, match=r"'event_timestamp' is string, not a time; .*pandas\.to_datetime"):
        store.get_historical_features(asked, ["seen_cards:seen"])


@pytest.mark.parametrize("newest_only", [True, False])
@pytest.mark.parametrize("store", ["streaming"], indirect=True)
def test_a_row_without_its_key_stops_materializing_with_its_name(store: Any, tmp_path: Path, newest_only: bool) -> None:
    from stores.errors import UnreadableSource

    table = pa.Table.from_pandas(more_cards(card_id=["a", None]))
    pq.write_table(table, tmp_path / "cards" / "second.parquet")
    store.config.materialization_config.pull_latest_features = newest_only
    with pytest.raises(UnreadableSource, match=r"cards.* holds 1 nulls in .*'card_id'"):
        store.materialize(NOON - 24 * HOUR, NOON + 24 * HOUR, feature_views=["seen_cards"])


@pytest.mark.parametrize("newest_only", [True, False])
@pytest.mark.parametrize("store", ["streaming"], indirect=True)
def test_the_bar_knows_its_end(store: Any, newest_only: bool, capsys: pytest.CaptureFixture[str]) -> None:
    store.config.materialization_config.pull_latest_features = newest_only
    store.materialize(NOON - 24 * HOUR, NOON, feature_views=["seen_cards"])
    assert "2/2" in capsys.readouterr().err


@pytest.mark.parametrize("store", ["streaming"], indirect=True)  # Feast's own engine takes the second name only
def test_times_that_a_source_renames_are_found_under_either_name(store: Any, tmp_path: Path) -> None:
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Int64, String

    times = pd.to_datetime(["2026-03-01 09:00", "2026-03-01 11:00"], utc=True)
    pq.write_table(pa.table({"card": ["a", "a"], "n": [1, 2], "at": times}), tmp_path / "renamed.parquet")
    asked = pd.DataFrame({"card_id": ["a"], "event_timestamp": pd.to_datetime(["2026-03-01 10:00"], utc=True)})
    for name in ("at", "event_timestamp"):
        source = FileSource(
            name=f"by_{name}",
            path=str(tmp_path / "renamed.parquet"),
            timestamp_field=name,
            field_mapping={"card": "card_id", "n": "number", "at": "event_timestamp"},
        )
        view = FeatureView(
            name=f"renamed_{name}",
            entities=[Entity(name="card", join_keys=["card_id"], value_type=ValueType.STRING)],
            schema=[Field(name="card_id", dtype=String), Field(name="number", dtype=Int64)],
            source=source,
            ttl=timedelta(0),
        )
        store.apply([view], skip_feature_view_validation=True)
        assert store.get_historical_features(asked, [f"renamed_{name}:number"]).to_df()["number"].tolist() == [1]
        store.materialize(NOON - 24 * HOUR, NOON, feature_views=[view.name])
        assert store.get_online_features([f"renamed_{name}:number"], [{"card_id": "a"}]).to_dict()["number"] == [2]
