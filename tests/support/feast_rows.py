"""Rows of one velocity view through Feast's own calls on our Redis store, without an applied repository."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from feast import RepoConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.views import card_velocity
from stores.online_store import GuardedRedisOnlineStore, Row

VIEW = card_velocity


def repo_config(directory: Path) -> RepoConfig:
    return RepoConfig(
        project="fraud",
        provider="local",
        registry=str(directory / "registry.db"),
        entity_key_serialization_version=3,
        online_store={"type": "stores.online_store.GuardedRedisOnlineStore"},
    )


def key_of(card: str) -> EntityKey:
    return EntityKey(join_keys=["card_id"], entity_values=[Value(string_val=card)])


def write_state(config: RepoConfig, states: Mapping[str, tuple[bytes, int]], time: datetime) -> None:
    rows: list[Row] = [
        (
            key_of(card),
            {"card_state": Value(bytes_val=state), "card_revision": Value(int64_val=revision)},
            time,
            None,
        )
        for card, (state, revision) in states.items()
    ]
    store = GuardedRedisOnlineStore()
    store.online_write_batch(config, VIEW, rows, None)
    store._get_client(config.online_store).close()


def read_state(config: RepoConfig, cards: Sequence[str]) -> list[tuple[bytes, int]]:
    """Return state and revision of each card; empty and 0 for one never seen."""
    store = GuardedRedisOnlineStore()
    found = store.online_read(config, VIEW, [key_of(card) for card in cards])
    store._get_client(config.online_store).close()
    values = [values or {} for _, values in found]
    return [(held["card_state"].bytes_val, held["card_revision"].int64_val) for held in values]
