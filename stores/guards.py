"""Guarded writes to Redis: an older value never replaces a newer one, and two writers lose no update.

Two guards, each an atomic script. A velocity state carries a *revision*, the number of changes that made it: the
stream writes only over the revision it read (:data:`SWAP_STATE`), a push or a materialisation only over a smaller one
(:data:`RAISE_STATE`). An ordinary view is written only when its event time is not older (:data:`RAISE_TIME`). These two
take one entity or, where all keys live on one node, many, each compared for itself. Feast's own store reads the time
first and writes afterwards, and lets an older value win a race.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from stores.layout import Value, encode_timestamp, encode_value, feature_field, timestamp_field

SWAP_STATE: Final = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if (stored or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1
"""
"""KEYS: entity. ARGV: revision field, expected serialised revision (empty for none), then field and value pairs."""

_VARINT: Final = """
local function varint(data, place)
  local number, scale = 0, 1
  while true do
    local byte = string.byte(data, place)
    place = place + 1
    if byte < 128 then return number + byte * scale, place end
    number = number + (byte - 128) * scale
    scale = scale * 128
  end
end
"""

_EACH_ROW: Final = """
local lifetime, width, place, row, taken = tonumber(ARGV[1]), tonumber(ARGV[2]), 2 + tonumber(ARGV[2]), {}, 0
for field = 1, width do row[2 * field - 1] = ARGV[2 + field] end
for number = 1, #KEYS do
  local stored = redis.call('HGET', KEYS[number], ARGV[3])
  if not stored or replaces(ARGV[place + 1], stored) then
    for field = 1, width do row[2 * field] = ARGV[place + field] end
    redis.call('HSET', KEYS[number], unpack(row))
    if lifetime > 0 then redis.call('EXPIRE', KEYS[number], lifetime) end
    taken = taken + 1
  end
  place = place + width
end
return taken
"""

RAISE_STATE: Final = (
    _VARINT
    + """
local function replaces(new, stored)
  return #stored < 2 or varint(new, 2) > varint(stored, 2)
end
"""
    + _EACH_ROW
)
"""Takes rows whose revision is greater; arguments by :func:`raise_arguments`, the revision first."""

RAISE_TIME: Final = (
    _VARINT
    + """
local seen = {}
local function moment(data)
  local known = seen[data]
  if known then return known end
  local seconds, nanos, place = 0, 0, 1
  while place <= #data do
    local tag, number = string.byte(data, place), 0
    number, place = varint(data, place + 1)
    if tag == 8 then seconds = number else nanos = number end
  end
  known = {seconds, nanos}
  seen[data] = known
  return known
end
local function replaces(new, stored)
  if new == stored then return true end
  local after, before = moment(new), moment(stored)
  return after[1] > before[1] or (after[1] == before[1] and after[2] >= before[2])
end
"""
    + _EACH_ROW
)
"""Takes rows whose event time is not older; arguments by :func:`raise_arguments`, the event time first."""


def raise_arguments(fields: Sequence[bytes], rows: Iterable[Sequence[bytes]], lifetime_s: int = 0) -> list[bytes]:
    """Return ARGV of :data:`RAISE_STATE` and :data:`RAISE_TIME`, whose KEYS are the rows' entities.

    Parameters
    ----------
    fields
        Hash fields of every row; the first is the one that guards it.
    rows
        The serialised values of each row, in the order of ``fields``.
    lifetime_s
        After which Redis forgets an entity whose row was taken; 0 for never.
    """
    return [b"%d" % lifetime_s, b"%d" % len(fields), *fields, *chain.from_iterable(rows)]


@dataclass(frozen=True)
class StateView:
    """The fields of one velocity view, hashed once.

    Parameters
    ----------
    view
        Name of the Feast view, such as ``card_velocity``.
    state, revision, time
        Hash fields of the state, its revision and the view's event time.
    """

    view: str
    state: bytes
    revision: bytes
    time: bytes


def state_view(entity: str) -> StateView:
    """Return the fields of ``{entity}_velocity``: features ``{entity}_state`` and ``{entity}_revision``."""
    view = f"{entity}_velocity"
    return StateView(
        view, feature_field(view, f"{entity}_state"), feature_field(view, f"{entity}_revision"), timestamp_field(view)
    )


def state_fields(view: StateView, state: bytes, revision: int, newest_ms: int) -> list[bytes]:
    """Return the alternating fields and values that store a state."""
    return [
        view.state,
        encode_value(state),
        view.revision,
        encode_value(revision),
        view.time,
        encode_timestamp(newest_ms),
    ]


def value_fields(view: str, values: Mapping[str, Value]) -> list[bytes]:
    """Return the alternating fields and values that store an ordinary view's features, without its event time."""
    out: list[bytes] = []
    for feature, value in values.items():
        out += (feature_field(view, feature), encode_value(value))
    return out
