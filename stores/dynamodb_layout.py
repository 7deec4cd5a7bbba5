"""Feast's own layout in DynamoDB, written and read without Feast, and the conditions that guard its writes.

One table per view, named ``{project}.{view}``; one item per entity: ``entity_id`` (the hash key: murmur3_128 of Feast's
serialised entity key, in hex), ``event_ts`` (text, always UTC here, so that order of text is order of time) and
``values``, a map of feature to serialised ``feast.types.Value``. A velocity view's items carry their revision a second
time, as the number ``revision``, because a condition cannot compare serialised numbers. Feast passes over it.

An item is put whole or not at all, by one conditional write. Items and conditions here are those of the service's own
protocol, as a low-level client takes them.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import mmh3

from fraud.windows import JOIN_KEYS, Entity
from stores.layout import encode_value, entity_key

Item = dict[str, Any]
"""Attribute to typed value, such as ``{"entity_id": {"S": "0a..."}}``."""

Put = dict[str, Any]
"""The arguments of one conditional ``PutItem``."""

BATCH_KEYS: Final = 100
"""Most keys in one ``BatchGetItem``."""

ID: Final = "entity_id"
TIME: Final = "event_ts"
VALUES: Final = "values"
REVISION: Final = "revision"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def table_name(project: str, view: str) -> str:
    """Return the table of a view."""
    return f"{project}.{view}"


def entity_id(join_key: str, value: str) -> str:
    """Return the hash key of one entity with one join key of type string.

    Examples
    --------
    >>> entity_id("card_id", "c1")
    '8824699fbe2e9d9e3bb13f9092318d5d'
    """
    return hashed_id(entity_key(join_key, value, ""))


def hashed_id(serialised: bytes) -> str:
    """Return the hash key of a serialised entity key."""
    return mmh3.hash_bytes(serialised).hex()


def encode_time(time_us: int) -> str:
    """Return the text in which an event time, epoch microseconds, is kept.

    Examples
    --------
    >>> encode_time(1_770_000_000_000_000), encode_time(1_770_000_000_000_001)
    ('2026-02-02 02:40:00+00:00', '2026-02-02 02:40:00.000001+00:00')
    """
    return str(_EPOCH + timedelta(microseconds=time_us))


def decode_time(text: str) -> int:
    """Return the epoch milliseconds of a kept event time, rounded down; without a zone it is UTC.

    Examples
    --------
    >>> decode_time("2026-02-02 02:40:00.001999+00:00") - decode_time("2026-02-02 03:40:00+01:00")
    1
    """
    moment = datetime.fromisoformat(text)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)


def item(key: str, values: Mapping[str, bytes], time_us: int, revision: int | None = None) -> Item:
    """Return one entity's item.

    Parameters
    ----------
    key
        See :func:`entity_id`.
    values
        Feature to serialised ``feast.types.Value``.
    time_us
        Event time, epoch microseconds.
    revision
        Of a velocity state; null in an ordinary view.
    """
    made: Item = {
        ID: {"S": key},
        TIME: {"S": encode_time(time_us)},
        VALUES: {"M": {feature: {"B": value} for feature, value in values.items()}},
    }
    if revision is not None:
        made[REVISION] = {"N": str(revision)}
    return made


def state_features(entity: Entity) -> tuple[str, str]:
    """Return the two features of an entity's velocity view: its state and its revision."""
    return f"{entity}_state", f"{entity}_revision"


def swap_state(project: str, entity: Entity, key: str, read: bytes, made: tuple[bytes, int, int]) -> Put:
    """Return the write of a state over the one that was read.

    Parameters
    ----------
    key
        The entity's id, such as a card's.
    read
        The serialised revision that was read, empty for none: the write is refused unless it still stands.
    made
        State, revision and newest event time in epoch ms.
    """
    state, revision, newest_ms = made
    held, number = state_features(entity)
    values = {held: encode_value(state), number: encode_value(revision)}
    made_item = item(entity_id(JOIN_KEYS[entity], key), values, newest_ms * 1000, revision)
    return swap_item(table_name(project, f"{entity}_velocity"), made_item, number, read)


def swap_item(table: str, made: Item, number: str, read: bytes) -> Put:
    """Return the write of an item over one whose feature ``number`` still is ``read``, serialised; empty for none."""
    put: Put = {
        "TableName": table,
        "Item": made,
        "ConditionExpression": "attribute_not_exists(#v.#r)",
        "ExpressionAttributeNames": {"#v": VALUES, "#r": number},
    }
    if read:
        put["ConditionExpression"] = "#v.#r = :read"
        put["ExpressionAttributeValues"] = {":read": {"B": read}}
    return put


def raise_state(table: str, made: Item) -> Put:
    """Return the write of a state that is refused unless its revision is greater than the stored one, and not older."""
    return {
        "TableName": table,
        "Item": made,
        "ConditionExpression": "attribute_not_exists(#r) OR (#r < :new AND #t <= :time)",
        "ExpressionAttributeNames": {"#r": REVISION, "#t": TIME},
        "ExpressionAttributeValues": {":new": made[REVISION], ":time": made[TIME]},
    }


def raise_time(table: str, made: Item) -> Put:
    """Return the write of an ordinary view's item that is refused when its event time is older than the stored one."""
    return {
        "TableName": table,
        "Item": made,
        "ConditionExpression": "attribute_not_exists(#t) OR #t <= :new",
        "ExpressionAttributeNames": {"#t": TIME},
        "ExpressionAttributeValues": {":new": made[TIME]},
    }


def keys_and_attributes(keys: Sequence[str], features: Sequence[str], *, consistent: bool) -> dict[str, Any]:
    """Return what a ``BatchGetItem`` asks of one table: of each key its event time and some features.

    Parameters
    ----------
    consistent
        Whether a write that was acknowledged before is always seen; it costs twice the read units.
    """
    names = {"#k": ID, "#t": TIME}
    wanted = ["#k", "#t"]
    for number, feature in enumerate(features):
        names["#v"] = VALUES
        names[f"#f{number}"] = feature
        wanted.append(f"#v.#f{number}")
    return {
        "Keys": [{ID: {"S": key}} for key in keys],
        "ProjectionExpression": ", ".join(wanted),
        "ExpressionAttributeNames": names,
        "ConsistentRead": consistent,
    }
