"""The compiled read plan of a feature service: which keys, which fields, in which order.

Made once from Feast's registry (:mod:`stores.compiling`), carried as plain data in the model bundle, executed by the
scorer with one pipelined round trip and neither Feast nor pandas. ``get_online_features`` stays the oracle.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fraud.errors import CorruptBundle
from stores.layout import (
    KeyKind,
    decode_any,
    decode_timestamp,
    entity_key,
    feature_field,
    serialised_key,
    timestamp_field,
)
from stores.value_types import Held

_COUNT: Final = struct.Struct("<I")


class PlannedField(msgspec.Struct, frozen=True):
    """One feature of one view."""

    view: str
    feature: str


class PlannedKey(msgspec.Struct, frozen=True):
    """One join key and its type."""

    name: str
    kind: KeyKind = "string"


class PlannedEntity(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is read of one entity: its join key, its features in order, and the event times of their views.

    Parameters
    ----------
    entity
        Its name; several, with commas between, where a view has several.
    join_key
        The first of its join keys.
    fields, views
        Under their names in the store.
    keys
        All of them in the order of their names; empty for one of type string.
    """

    entity: str
    join_key: str
    fields: tuple[PlannedField, ...]
    views: tuple[str, ...]
    keys: tuple[PlannedKey, ...] = ()

    def key(self, keys: Mapping[str, Any], project: str) -> bytes:
        """Return the serialised key of one entity, given the values of join keys by their names."""
        if not self.keys:
            return entity_key(self.join_key, keys[self.join_key], project)
        kinds = [(key.name, key.kind) for key in self.keys]
        return serialised_key(kinds, [keys[name] for name, _ in kinds], project)


class ReadPlan(msgspec.Struct, frozen=True):
    """What one request reads.

    Parameters
    ----------
    project
        Feast project, the end of every key.
    service
        The feature service it was compiled from.
    entities
        In the order in which they are read.
    features
        The service's feature names, in the order of its views.
    """

    project: str
    service: str
    entities: tuple[PlannedEntity, ...]
    features: tuple[str, ...]


def plan_from(data: Mapping[str, Any]) -> ReadPlan:
    """Return the plan in plain ``data``, as a bundle carries it.

    Raises
    ------
    CorruptBundle
        It does not have the shape of a plan.
    """
    try:
        return msgspec.convert(data, ReadPlan)
    except msgspec.ValidationError as error:
        raise CorruptBundle(f"plan.json is malformed: {error}") from None


def plan_data(plan: ReadPlan) -> dict[str, Any]:
    """Return the plan as plain data."""
    data: dict[str, Any] = msgspec.to_builtins(plan)
    return data


@dataclass(frozen=True)
class Reading:
    """What was read of one entity: feature to value (null when absent), view to event time in ms (null when absent)."""

    values: Mapping[str, Held]
    times_ms: Mapping[str, int | None]


def _pack(planned: PlannedEntity, fields: Sequence[bytes], project: str) -> tuple[str, int, bytes, bytes, bytes]:
    """Return join key, length of a key without its value, and the command around key length and value."""
    empty = entity_key(planned.join_key, "", project)
    before = empty[: len(empty) - len(project.encode()) - _COUNT.size]
    head = b"*%d\r\n$5\r\nHMGET\r\n$" % (2 + len(fields))
    tail = project.encode() + b"\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(field), field) for field in fields)
    return planned.join_key, len(empty), head, before, tail


def _spoken(command: Sequence[bytes]) -> bytes:
    """Return a command in Redis' protocol."""
    return b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in command)


class CompiledReader:
    """Turns join keys into commands and replies into readings; touches no network itself."""

    def __init__(self, plan: ReadPlan) -> None:
        self.plan = plan
        self._fields = [
            [feature_field(f.view, f.feature) for f in planned.fields] + [timestamp_field(v) for v in planned.views]
            for planned in plan.entities
        ]
        self._simple = not any(planned.keys for planned in plan.entities)
        self._packed = [
            _pack(planned, fields, plan.project) for planned, fields in zip(plan.entities, self._fields, strict=True)
        ]

    def payload(self, keys: Mapping[str, Any]) -> bytes:
        """Return what goes over the wire for :meth:`commands`, in Redis' protocol."""
        if not self._simple:
            return b"".join(map(_spoken, self.commands(keys)))
        parts = []
        for join_key, size, head, middle, tail in self._packed:
            value = keys[join_key].encode()
            length = len(value)
            parts.append(b"%b%d\r\n%b%b%b%b" % (head, size + length, middle, _COUNT.pack(length), value, tail))
        return b"".join(parts)

    def packed(self, keys: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
        """Return the key and the packed command of each entity, for a store that spreads keys over nodes."""
        if not self._simple:
            return [(command[1], _spoken(command)) for command in self.commands(keys)]
        project = self.plan.project.encode()
        parts = []
        for join_key, size, head, middle, tail in self._packed:
            value = keys[join_key].encode()
            name = middle + _COUNT.pack(len(value)) + value
            parts.append((name + project, b"%b%d\r\n%b%b" % (head, size + len(value), name, tail)))
        return parts

    def commands(self, keys: Mapping[str, Any]) -> list[tuple[bytes, ...]]:
        """Return one ``HMGET`` per entity; ``keys`` maps join key to value, empty for none (read as never seen)."""
        return [
            (b"HMGET", planned.key(keys, self.plan.project), *fields)
            for planned, fields in zip(self.plan.entities, self._fields, strict=True)
        ]

    def readings(self, replies: Sequence[Sequence[bytes | None]]) -> dict[str, Reading]:
        """Return the reading of each entity from the replies to :meth:`commands`."""
        out = {}
        for planned, reply in zip(self.plan.entities, replies, strict=True):
            values = {f.feature: decode_any(data) for f, data in zip(planned.fields, reply, strict=False)}
            times = reply[len(planned.fields) :]
            stamps = {view: decode_timestamp(data) for view, data in zip(planned.views, times, strict=True)}
            out[planned.entity] = Reading(values, stamps)
        return out
