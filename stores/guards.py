"""Guarded writes to Redis: an older value never replaces a newer one, and two writers lose no update.

Two guards, each an atomic script. A velocity state carries a *revision*, the number of changes that made it: the
stream writes only over the revision it read (:data:`SWAP_STATE`), a push or a materialisation only over a smaller one
that is not newer (:data:`RAISE_STATE`; :mod:`stores.joining` has what becomes of the others). An ordinary view is
written only when its event time is not older (:data:`RAISE_TIME`). These two take one entity or, where all keys live on
one node, many, each compared for itself. Feast's own store reads the time first and writes afterwards, and lets an
older value win a race.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from stores.layout import Value, encode_timestamp, encode_value, feature_field, timestamp_field

SWAP_STATE: Final = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if (stored or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
local lifetime = tonumber(ARGV[3])
if lifetime > 0 then redis.call('EXPIRE', KEYS[1], lifetime) end
return 1
"""
"""KEYS: entity.

ARGV: revision field, expected serialised revision (empty for none), seconds after which Redis forgets the entity (0 for
never), then field and value pairs.
"""

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

_MOMENT: Final = """
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
local function earlier(one, other)
  if one == other then return false end
  local first, second = moment(one), moment(other)
  return first[1] < second[1] or (first[1] == second[1] and first[2] < second[2])
end
"""

_EACH_ROW: Final = """
local lifetime, width, place, row, newer = tonumber(ARGV[1]), tonumber(ARGV[2]), 2 + tonumber(ARGV[2]), {}, {}
for field = 1, width do row[2 * field - 1] = ARGV[2 + field] end
for number = 1, #KEYS do
  local verdict = judge(KEYS[number], place)
  if verdict == 'take' then
    for field = 1, width do row[2 * field] = ARGV[place + field] end
    redis.call('HSET', KEYS[number], unpack(row))
    if lifetime > 0 then redis.call('EXPIRE', KEYS[number], lifetime) end
  elseif verdict == 'newer' then
    newer[#newer + 1] = number
  end
  place = place + width
end
return newer
"""

RAISE_STATE: Final = (
    _VARINT
    + _MOMENT
    + """
local function judge(key, place)
  local stored = redis.call('HMGET', key, ARGV[3], ARGV[4])
  if not stored[1] or #stored[1] < 2 then return 'take' end
  if varint(ARGV[place + 1], 2) <= varint(stored[1], 2) then return 'keep' end
  if stored[2] and earlier(ARGV[place + 2], stored[2]) then return 'newer' end
  return 'take'
end
"""
    + _EACH_ROW
)
"""Takes rows whose revision is greater and whose event time is not older than what is stored.

Arguments by :func:`raise_arguments`, the revision first and the event time second. Returns the numbers, from 1, of rows
whose revision is greater though what is stored is newer: neither may replace the other.
"""

RAISE_TIME: Final = (
    _VARINT
    + _MOMENT
    + """
local function judge(key, place)
  local stored = redis.call('HGET', key, ARGV[3])
  if stored and earlier(ARGV[place + 1], stored) then return 'keep' end
  return 'take'
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
        Hash fields of every row; the first ones are those that guard it.
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


def state_view(entity: str, view: str = "") -> StateView:
    """Return the fields of a view, ``{entity}_velocity`` unless named: ``{entity}_state`` and ``{entity}_revision``."""
    view = view or f"{entity}_velocity"
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
