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
    pq.write_table(pa.Table.from_pandas(cards), tmp_path / "cards.parquet")
    (tmp_path / "feature_store.yaml").write_text(
        f"project: plain{request.param}\nprovider: local\nregistry: registry.db\nentity_key_serialization_version: 3\n"
        "offline_store:\n  type: stores.offline_store.AsOfOfflineStore\n"
        f"batch_engine:\n  type: {ENGINES[request.param]}\n"
        f"online_store:\n  type: stores.online_store.GuardedRedisOnlineStore\n"
        f"  connection_string: 127.0.0.1:{valkey}\n"
    )
    sources = {
        name: FileSource(path=str(tmp_path / f"{name}.parquet"), timestamp_field="event_timestamp")
        for name in ("rates", "cards")
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
