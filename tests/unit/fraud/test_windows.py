"""Declared windows are sound, and feature names follow from them."""

import re

import pytest

from fraud.windows import (
    ENTITIES,
    KINDS,
    PARTIES,
    RING_KEEP,
    RING_READ,
    RING_SCALARS,
    RING_STATISTICS,
    TILE_SCALARS,
    TILE_STATISTICS,
    VELOCITY_FEATURES,
    WINDOWS,
    Entity,
)

SCHEME = re.compile(
    r"(?P<entity>card|device|ip|merchant)"
    r"_(?P<column>transaction|amount|merchant|card|device|country|declined|small|report|large)"
    r"_(?P<statistic>count|sum|mean|max|std|distinct|share)"
    r"_(?P<window>1m|10m|1h|24h|7d|30d)"
)


def test_window_labels_say_their_lengths() -> None:
    unit = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
    assert [w.length_ms for w in WINDOWS] == [int(w.label[:-1]) * unit[w.label[-1]] for w in WINDOWS]
    assert [w.label for w in WINDOWS] == ["1m", "10m", "1h", "24h", "7d", "30d"]


def test_tiles_divide_their_windows_into_at_most_30_pieces() -> None:
    for window in WINDOWS:
        assert window.length_ms % window.tile_ms == 0
        assert 10 <= window.length_ms // window.tile_ms <= 30


def test_ring_keeps_more_than_a_read_sees() -> None:
    assert RING_KEEP > RING_READ


@pytest.mark.parametrize("entity", ENTITIES)
def test_names_follow_the_scheme(entity: Entity) -> None:
    places = ("distance_km", "speed_kmh") if entity in ("card", "device") else ()
    risks = {"device": ("report_risk_7d",), "merchant": TILE_SCALARS}.get(entity, ())
    scalars = {f"{entity}_{scalar}" for scalar in (*places, *risks)}
    if KINDS[entity] == "ring":
        scalars |= {f"{entity}_previous_seconds", f"{entity}_{'merchant' if entity == 'card' else 'card'}_known_30d"}
    names = [feature.name for feature in VELOCITY_FEATURES[entity]]
    windowed = [name for name in names if name not in scalars]
    for name in windowed:
        found = SCHEME.fullmatch(name)
        assert found is not None, name
        assert found["entity"] == entity
    assert len(names) - len(windowed) == len(scalars)


def test_every_name_is_generated_once() -> None:
    names = [feature.name for entity in ENTITIES for feature in VELOCITY_FEATURES[entity]]
    assert len(set(names)) == len(names) == 135


@pytest.mark.parametrize("entity", ENTITIES)
def test_every_position_is_read_once_and_lies_in_the_table(entity: Entity) -> None:
    statistics = RING_STATISTICS if KINDS[entity] == "ring" else TILE_STATISTICS
    scalars = len(RING_SCALARS if KINDS[entity] == "ring" else TILE_SCALARS)
    positions = [feature.position for feature in VELOCITY_FEATURES[entity]]
    assert len(set(positions)) == len(positions)
    assert max(positions) < len(WINDOWS) * len(statistics) + scalars


@pytest.mark.parametrize("entity", ENTITIES)
def test_position_names_the_statistic_and_window_of_the_feature(entity: Entity) -> None:
    statistics = RING_STATISTICS if KINDS[entity] == "ring" else TILE_STATISTICS
    parties = PARTIES[entity]
    for feature in VELOCITY_FEATURES[entity]:
        row, column = divmod(feature.position, len(statistics))
        if feature.position >= len(WINDOWS) * len(statistics):
            continue
        statistic = statistics[column].replace("party", parties[0]).replace("other", parties[1])
        assert feature.name == f"{entity}_{statistic}_{WINDOWS[row].label}"
        assert feature.whole is feature.name.rsplit("_", 1)[0].endswith(("count", "sum", "distinct"))
