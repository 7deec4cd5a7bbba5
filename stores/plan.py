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
from stores.layout import Value, decode_timestamp, decode_value, entity_key, feature_field, timestamp_field

_COUNT: Final = struct.Struct("<I")


class PlannedField(msgspec.Struct, frozen=True):
    """One feature of one view."""

    view: str
    feature: str


class PlannedEntity(msgspec.Struct, frozen=True):
    """What is read of one entity: its join key, its features in order, and the event times of their views."""

    entity: str
    join_key: str
    fields: tuple[PlannedField, ...]
    views: tuple[str, ...]


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

    values: Mapping[str, Value]
    times_ms: Mapping[str, int | None]


def _pack(planned: PlannedEntity, fields: Sequence[bytes], project: str) -> tuple[str, int, bytes, bytes, bytes]:
    """Return join key, length of a key without its value, and the command around key length and value."""
    empty = entity_key(planned.join_key, "", project)
    before = empty[: len(empty) - len(project.encode()) - _COUNT.size]
    head = b"*%d\r\n$5\r\nHMGET\r\n$" % (2 + len(fields))
    tail = project.encode() + b"\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(field), field) for field in fields)
    return planned.join_key, len(empty), head, before, tail


class CompiledReader:
    """Turns join keys into commands and replies into readings; touches no network itself."""

    def __init__(self, plan: ReadPlan) -> None:
        self.plan = plan
        self._fields = [
            [feature_field(f.view, f.feature) for f in planned.fields] + [timestamp_field(v) for v in planned.views]
            for planned in plan.entities
        ]
        self._packed = [
            _pack(planned, fields, plan.project) for planned, fields in zip(plan.entities, self._fields, strict=True)
        ]

    def payload(self, keys: Mapping[str, str]) -> bytes:
        """Return what goes over the wire for :meth:`commands`, in Redis' protocol."""
        parts = []
        for join_key, size, head, middle, tail in self._packed:
            value = keys[join_key].encode()
            length = len(value)
            parts.append(b"%b%d\r\n%b%b%b%b" % (head, size + length, middle, _COUNT.pack(length), value, tail))
        return b"".join(parts)

    def packed(self, keys: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """Return the key and the packed command of each entity, for a store that spreads keys over nodes."""
        project = self.plan.project.encode()
        parts = []
        for join_key, size, head, middle, tail in self._packed:
            value = keys[join_key].encode()
            name = middle + _COUNT.pack(len(value)) + value
            parts.append((name + project, b"%b%d\r\n%b%b" % (head, size + len(value), name, tail)))
        return parts

    def commands(self, keys: Mapping[str, str]) -> list[tuple[bytes, ...]]:
        """Return one ``HMGET`` per entity; ``keys`` maps join key to value, empty for none (read as never seen)."""
        return [
            (b"HMGET", entity_key(planned.join_key, keys[planned.join_key], self.plan.project), *fields)
            for planned, fields in zip(self.plan.entities, self._fields, strict=True)
        ]

    def readings(self, replies: Sequence[Sequence[bytes | None]]) -> dict[str, Reading]:
        """Return the reading of each entity from the replies to :meth:`commands`."""
        out = {}
        for planned, reply in zip(self.plan.entities, replies, strict=True):
            values = {f.feature: decode_value(data) for f, data in zip(planned.fields, reply, strict=False)}
            times = reply[len(planned.fields) :]
            stamps = {view: decode_timestamp(data) for view, data in zip(planned.views, times, strict=True)}
            out[planned.entity] = Reading(values, stamps)
        return out
