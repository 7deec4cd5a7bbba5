"""Transactions, arrivals and final states for tests of the stream."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

import redis

from fraud import velocity
from fraud.record import Record, encode_record, parse_record, records_of
from fraud.transaction import Transaction
from fraud.windows import JOIN_KEYS, Entity
from stores.guards import state_view
from stores.layout import decode_value, entity_key
from streaming.arrivals import Arrival

START = 1_770_000_000_000
Key = tuple[Entity, str]


def payment(
    number: int, *, time_ms: int | None = None, card: str = "c1", authorised: bool | None = None
) -> Transaction:
    return Transaction(
        transaction_id=f"t{number:06d}",
        card_id=card,
        merchant_id=f"m{number % 7}",
        device_id=f"d{number % 5}" if number % 3 else None,
        amount_minor=100 + number,
        currency="EUR",
        event_time_ms=START + number * 50 if time_ms is None else time_ms,
        channel="online",
        merchant_category=5411,
        country="DE",
        latitude=52.5,
        longitude=13.4,
        authorised=authorised,
    )


def payments(count: int, *, cards: int = 11, seed: int = 1) -> list[Transaction]:
    """Return payments in order of event time, some of them in the same millisecond."""
    rng = random.Random(seed)
    out, time_ms = [], START
    for number in range(count):
        time_ms += rng.choice([0, 1, 40, 900])
        out.append(
            payment(
                number, time_ms=time_ms, card=f"c{rng.randrange(cards)}", authorised=rng.choice([None, True, False])
            )
        )
    return out


def arrivals(
    items: Iterable[Transaction | bytes], *, shard: str = "shardId-000000000000", first: int = 0
) -> list[Arrival]:
    """Return what Kinesis would deliver: one arrival per entity of each transaction, or the bytes as they are."""
    out: list[Arrival] = []
    for item in items:
        sent: list[tuple[bytes, str, int]] = []
        if isinstance(item, bytes):
            sent.append((item, "unknown", START))
        else:
            sent += [(encode_record(r), r.partition_key, item.event_time_ms + 20) for r in records_of(item)]
        out += [Arrival(data, str(first + len(out) + i), key, shard, ms) for i, (data, key, ms) in enumerate(sent)]
    return out


def states_once(records: Iterable[Record]) -> dict[Key, bytes]:
    """Return what :func:`fraud.velocity.update` makes of the records, one by one, in order."""
    states: dict[Key, bytes] = defaultdict(bytes)
    for record in records:
        key = (record.entity, record.key)
        states[key], _ = velocity.update(record.entity, states[key], record.change())
    return dict(states)


def states_of(some: Sequence[Arrival]) -> dict[Key, bytes]:
    return states_once(parse_record(arrival.data, currency="EUR") for arrival in some)


def stored(client: "redis.Redis[bytes]", keys: Iterable[Key]) -> dict[Key, bytes]:
    """Return the states that the store holds; an absent one is left out."""
    out: dict[Key, bytes] = {}
    for entity, key in keys:
        data = client.hget(_redis_key(entity, key), state_view(entity).state)
        value = decode_value(data)
        if isinstance(value, bytes):
            out[(entity, key)] = value
    return out


def revisions(client: "redis.Redis[bytes]", keys: Iterable[Key]) -> dict[Key, int]:
    out: dict[Key, int] = {}
    for entity, key in keys:
        data = client.hget(_redis_key(entity, key), state_view(entity).revision)
        value = decode_value(data)
        assert isinstance(value, int)
        out[(entity, key)] = value
    return out


def _redis_key(entity: Entity, key: str) -> bytes:
    return entity_key(JOIN_KEYS[entity], key, "fraud")
