import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from feast import Entity, FeatureView, Field, FileSource
from feast.infra.registry.registry import Registry
from feast.repo_config import RegistryConfig
from feast.types import Int64, String

from fraud.errors import TollgateError
from stores.errors import InvalidStoreConfig, UnreadableSource
from stores.published_registry import PublishedRegistryStore

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def config(path: Path | str) -> RegistryConfig:
    kind = "stores.published_registry.PublishedRegistryStore"
    return RegistryConfig(registry_store_type=kind, path=str(path), cache_ttl_seconds=0)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    draft = tmp_path / "draft.db"
    registry = Registry("fraud", RegistryConfig(path=str(draft), cache_ttl_seconds=0), tmp_path)
    registry.apply_entity(Entity(name="card", join_keys=["card_id"]), "fraud")
    content = draft.read_bytes()
    place = tmp_path / f"{hashlib.sha256(content).hexdigest()}.db"
    place.write_bytes(content)
    return place


def names(registry: Any) -> list[str]:
    return [entity.name for entity in registry.list_entities("fraud")]


def test_notes_stay_in_the_process_and_the_file_stays_as_it_is(published: Path) -> None:
    before = published.read_bytes()
    registry = Registry("fraud", config(published), None)
    assert names(registry) == ["card"]
    store = registry._registry_store
    proto = store.get_registry_proto()
    proto.version_id = "noted"
    store.update_registry_proto(proto)
    assert store.get_registry_proto().version_id == "noted"
    assert published.read_bytes() == before
    assert PublishedRegistryStore(config(published), None).get_registry_proto().version_id != "noted"


def test_what_materialize_notes_changes_no_definition(tmp_path: Path) -> None:
    source = FileSource(name="profiles", path="s3://lake/profiles", timestamp_field="event_timestamp")
    card = Entity(name="card", join_keys=["card_id"])
    view = FeatureView(
        name="profile",
        entities=[card],
        ttl=timedelta(0),
        schema=[Field(name="card_id", dtype=String), Field(name="age", dtype=Int64)],
        source=source,
    )
    draft = tmp_path / "draft.db"
    registry = Registry("fraud", RegistryConfig(path=str(draft), cache_ttl_seconds=0), tmp_path)
    registry.apply_entity(card, "fraud")
    registry.apply_data_source(source, "fraud")
    registry.apply_feature_view(view, "fraud")
    content = draft.read_bytes()
    place = tmp_path / f"{hashlib.sha256(content).hexdigest()}.db"
    place.write_bytes(content)
    ours = Registry("fraud", config(place), None)
    found = ours.get_feature_view("profile", "fraud")
    ours.apply_feature_view(found, "fraud")  # as materialize does, to note that it has begun
    ours.apply_materialization(found, "fraud", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    assert len(ours.get_feature_view("profile", "fraud").materialization_intervals) == 1
    found.features.append(Field(name="another", dtype=Int64))
    with pytest.raises(InvalidStoreConfig, match="read-only"):
        ours.apply_feature_view(found, "fraud")
    assert place.read_bytes() == content


def test_a_changed_definition_is_refused(published: Path) -> None:
    registry = Registry("fraud", config(published), None)
    with pytest.raises(InvalidStoreConfig, match="read-only"):
        registry.apply_entity(Entity(name="merchant", join_keys=["merchant_id"]), "fraud")
    with pytest.raises(InvalidStoreConfig, match="read-only"):
        PublishedRegistryStore(config(published), None).teardown()
    assert names(Registry("fraud", config(published), None)) == ["card"]


@pytest.mark.parametrize("path", ["s3://bucket/registry.db", "registry.db", f"s3://bucket/{'0' * 63}.db"])
def test_an_address_without_a_digest_is_refused(path: str) -> None:
    with pytest.raises(InvalidStoreConfig, match="digest"):
        PublishedRegistryStore(config(path), None)


def test_other_bytes_than_the_name_says_and_a_missing_file_are_refused(published: Path, tmp_path: Path) -> None:
    published.write_bytes(published.read_bytes()[:-1])
    for place in (published, tmp_path / f"{'0' * 64}.db"):
        with pytest.raises(UnreadableSource) as refused:
            PublishedRegistryStore(config(place), None).get_registry_proto()
        assert isinstance(refused.value, TollgateError)
