"""Packed commands against the layout they stand for."""

import hiredis
import pytest

from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from stores.guards import state_fields, state_view
from stores.layout import encode_value, entity_key
from streaming.commands import SWAP_SHA, StateCommands, state_value

NOW = 1_770_000_000_123


def packed(*command: str | bytes) -> bytes:
    data: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows fewer types than it does
    return data


@pytest.mark.parametrize("entity", ENTITIES)
@pytest.mark.parametrize("project", ["fraud", "50%d"])
@pytest.mark.parametrize("name", ["c1", "k\u00e4rte%s", "x" * 128])
def test_read_asks_for_state_and_revision(entity: Entity, project: str, name: str) -> None:
    view = state_view(entity)
    key = entity_key(JOIN_KEYS[entity], name, project)
    wanted = packed("HMGET", key, view.state, view.revision)
    assert StateCommands(entity, project).read(name) == wanted


@pytest.mark.parametrize("entity", ENTITIES)
@pytest.mark.parametrize("time_ms", [0, 999, 1_000, NOW, NOW - NOW % 1000])
@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 16_383, 16_384])
@pytest.mark.parametrize("lifetime_s", [0, 2_678_400])
def test_swap_writes_the_layouts_fields(entity: Entity, time_ms: int, length: int, lifetime_s: int) -> None:
    state = bytes(range(256)) * 65
    key, view = entity_key(JOIN_KEYS[entity], "c1", "fraud"), state_view(entity)
    fields = state_fields(view, state[:length], 300, time_ms)
    wanted = packed("EVALSHA", SWAP_SHA, "1", key, view.revision, encode_value(299), str(lifetime_s), *fields)
    parts = StateCommands(entity, "fraud", lifetime_s).swap("c1", encode_value(299), state[:length], 300, time_ms)
    assert b"".join(parts) == wanted


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 70_000])
def test_stored_state_is_read_back(length: int) -> None:
    assert state_value(encode_value(bytes(length))) == bytes(length)


def test_nothing_stored_is_no_state() -> None:
    assert state_value(b"") == b""
