"""Guarded writes to Redis: an older value never replaces a newer one, and two writers lose no update.

Two guards, each one atomic script. A velocity state carries a *revision*, the number of changes that made it: the
stream writes only over the revision it read (:data:`SWAP_STATE`), a push or a materialisation only over a smaller one
(:data:`RAISE_STATE`). An ordinary view is written only when its event time is not older (:data:`RAISE_TIME`). Feast's
own store reads the time first and writes afterwards, and lets an older value win a race.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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

RAISE_STATE: Final = (
    _VARINT
    + """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored and #stored > 1 and varint(stored, 2) >= varint(ARGV[2], 2) then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1
"""
)
"""KEYS: entity. ARGV: revision field, new serialised revision, then field and value pairs."""

RAISE_TIME: Final = (
    _VARINT
    + """
local function moment(data)
  local seconds, nanos, place = 0, 0, 1
  while place <= #data do
    local tag, number = string.byte(data, place), 0
    number, place = varint(data, place + 1)
    if tag == 8 then seconds = number else nanos = number end
  end
  return seconds, nanos
end
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then
  local old, old_nanos = moment(stored)
  local new, new_nanos = moment(ARGV[2])
  if new < old or (new == old and new_nanos < old_nanos) then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], unpack(ARGV, 3))
return 1
"""
)
"""KEYS: entity. ARGV: time field, new serialised time, then field and value pairs."""


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
