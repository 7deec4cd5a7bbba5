"""The size of the whole system at a rate: shards, cache nodes, instances, their monthly cost, what gives way first.

Computed from the product's own record and state layouts and its scaling plan; what is assumed of the platform or of the
payments stands in :class:`Assumptions` and is printed with every result.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from fraud.errors import InvalidSetting
from fraud.record import encode_record, records_of
from fraud.ring import ENTRY
from fraud.scaling import INSTANCE_RATE, PLAN, ScalingPlan, spread
from fraud.transaction import Transaction
from fraud.windows import ENTITIES
from simulation.capacity import target_rate
from simulation.endpoint import Platform
from simulation.traffic import make_trace

HOURS: Final = 730.0
"""Of a month."""

EXAMPLE: Final = Transaction(
    transaction_id="t-0123456789abcdef01234567",
    card_id="c-0123456789abcdef",
    merchant_id="m-0123456789abcdef",
    amount_minor=123_456,
    currency="EUR",
    event_time_ms=1_774_458_000_000,
    channel="online",
    merchant_category=5411,
    country="DE",
    device_id="d-0123456789abcdef",
    ip="i-0123456789abcdef",
    latitude=52.520008,
    longitude=13.404954,
)
"""A transaction with every field, for the size of what it puts on the stream."""


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What is not ours to compute: published limits and list prices (US dollars), and how people pay.

    Limits and prices are as remembered from AWS's public pages and change; set them from a bill before relying on one.
    """

    shard_records_per_s: float = 1_000.0
    shard_bytes_per_s: float = 1_048_576.0
    shard_use: float = 0.6
    shard_quota: int = 1_000
    shard_hour: float = 0.015
    put_units_million: float = 0.014
    cache_node_commands_per_s: float = 150_000.0
    cache_node_bytes: float = 26.0e9
    cache_node_use: float = 0.6
    cache_copies: int = 2
    cache_node_hour: float = 0.44
    cache_bytes_per_key: float = 200.0
    commands_per_write: float = 2.0
    card_transactions_per_month: float = 18.0
    devices_per_card: float = 0.7
    addresses_per_card: float = 1.0
    merchant_transactions_per_day: float = 8.0
    merchant_state_bytes: float = 2_048.0
    busiest_merchant_share: float = 0.01
    consumer_records_per_s: float = 2_000.0
    consumer_second: float = 0.0000295
    endpoint_instance_quota: int = 1_000


@dataclass(frozen=True)
class Component:
    """One part of the system at the asked rate.

    Parameters
    ----------
    needed
        How many, of what.
    monthly_cost
        US dollars.
    gives_way_at
        Transactions per second at which its limit is met.
    limit
        That limit in words.
    """

    name: str
    needed: int
    unit: str
    monthly_cost: float
    gives_way_at: float
    limit: str


@dataclass(frozen=True)
class Sizing:
    """The system at a rate: its components, and what the numbers rest on."""

    rate: float
    mean_rate: float
    components: tuple[Component, ...]
    derived: Mapping[str, float]
    assumptions: Assumptions

    @property
    def monthly_cost(self) -> float:
        """US dollars."""
        return sum(component.monthly_cost for component in self.components)

    @property
    def bottleneck(self) -> Component:
        """What gives way first as traffic grows."""
        return min(self.components, key=lambda component: component.gives_way_at)


def size(
    rate: float,
    *,
    plan: ScalingPlan = PLAN,
    platform: Platform | None = None,
    assumptions: Assumptions | None = None,
) -> Sizing:
    """Return what a peak of ``rate`` transactions per second takes.

    The mean rate, for what is paid by use, follows from the shape of an ordinary week.
    """
    if not 1.0 <= rate <= 1e7:
        raise InvalidSetting(f"rate {rate} is not in 1..10000000 transactions per second")
    platform, known = platform or Platform(), assumptions or Assumptions()
    week = make_trace("ordinary", days=7)
    mean_rate = rate * float(week.rates.mean() / week.rates.max())
    records = [encode_record(record) for record in records_of(EXAMPLE)]
    derived = {
        "records per transaction": float(len(records)),
        "bytes per record": sum(map(len, records)) / len(records),
        "cache commands per transaction": len(ENTITIES) * (1.0 + known.commands_per_write),
        "planned requests/s per instance": target_rate(plan),
        "mean rate / peak rate": mean_rate / rate,
        "cached bytes": _cached_bytes(mean_rate, known),
    }
    components = (
        _scorers(rate, mean_rate, plan, platform, known),
        *_stream(rate, mean_rate, derived, known),
        *_cache(rate, derived, known),
    )
    return Sizing(rate, mean_rate, components, derived, known)


def _scorers(rate: float, mean_rate: float, plan: ScalingPlan, platform: Platform, known: Assumptions) -> Component:
    per_instance = target_rate(plan)
    needed = max(plan.limits.min_instances, math.ceil(rate / per_instance))
    survives = spread(math.ceil(rate / INSTANCE_RATE), plan.limits.zones)
    fleet = max(needed, survives)
    mean_fleet = max(plan.limits.min_instances, mean_rate / per_instance)
    most = min(plan.limits.max_instances, known.endpoint_instance_quota)
    return Component(
        "scorer instances",
        fleet,
        "instances at the peak",
        mean_fleet * HOURS * platform.price_per_hour,
        most * per_instance,
        f"{most} instances: the plan's maximum; the account's quota is next, at {known.endpoint_instance_quota}",
    )


def _stream(
    rate: float, mean_rate: float, derived: Mapping[str, float], known: Assumptions
) -> tuple[Component, Component, Component]:
    records = derived["records per transaction"]
    per_shard = min(known.shard_records_per_s, known.shard_bytes_per_s / derived["bytes per record"])
    shards = math.ceil(rate * records / per_shard / known.shard_use)
    month = HOURS * 3600.0
    puts = mean_rate * records * month / 1e6 * known.put_units_million
    consumers = math.ceil(rate * records / known.consumer_records_per_s)
    consumed = mean_rate * records / known.consumer_records_per_s * month * known.consumer_second
    return (
        Component(
            "stream shards",
            shards,
            "shards",
            shards * HOURS * known.shard_hour + puts,
            known.shard_quota * known.shard_use * per_shard / records,
            f"{known.shard_quota} shards: an account's quota, can be raised",
        ),
        Component(
            "busiest merchant",
            math.ceil(rate * known.busiest_merchant_share / per_shard),
            "shards' worth of records under one key",
            0.0,
            per_shard / known.busiest_merchant_share,
            f"{per_shard:,.0f} records/s: one key lives in one shard; needs a merchant split into sub-keys",
        ),
        Component(
            "stream consumers",
            consumers,
            "running at once at the peak",
            consumed,
            known.shard_quota * 10 * known.consumer_records_per_s / records,
            f"10 consumers a shard, {known.shard_quota} shards",
        ),
    )


def _cache(rate: float, derived: Mapping[str, float], known: Assumptions) -> tuple[Component, Component]:
    commands = derived["cache commands per transaction"]
    by_commands = rate * commands / (known.cache_node_commands_per_s * known.cache_node_use)
    by_bytes = derived["cached bytes"] / (known.cache_node_bytes * known.cache_node_use)
    primaries = math.ceil(max(by_commands, by_bytes))
    one_by_bytes = rate / by_bytes
    one_by_commands = rate / by_commands
    what = "memory" if by_bytes > by_commands else "commands"
    return (
        Component(
            "cache nodes",
            primaries * known.cache_copies,
            f"nodes, {known.cache_copies} copies ({what} decide)",
            primaries * known.cache_copies * HOURS * known.cache_node_hour,
            min(one_by_commands, one_by_bytes) * 500 / known.cache_copies,
            "500 nodes: the most one cluster may have",
        ),
        Component(
            "cache behind one address",
            primaries,
            "shards that a client must know",
            0.0,
            min(one_by_commands, one_by_bytes),
            "one node: the scorer and the consumers talk to one address, not to a cluster's shards",
        ),
    )


def _cached_bytes(mean_rate: float, known: Assumptions) -> float:
    """Return the bytes of all states of a month, by the layout of the ring and a typical merchant's tiles."""
    ring = 8.0 + ENTRY.itemsize * known.card_transactions_per_month + known.cache_bytes_per_key
    a_month, a_day = mean_rate * 30 * 86_400, mean_rate * 86_400
    cards = a_month / known.card_transactions_per_month
    others = cards * (known.devices_per_card + known.addresses_per_card)
    merchants = a_day / known.merchant_transactions_per_day
    return (cards + others) * ring + merchants * (known.merchant_state_bytes + known.cache_bytes_per_key)


def as_json(sizing: Sizing) -> dict[str, object]:
    """Return a sizing as JSON-ready values."""
    return {
        "rate": sizing.rate,
        "mean_rate": round(sizing.mean_rate, 1),
        "monthly_cost": round(sizing.monthly_cost),
        "bottleneck": sizing.bottleneck.name,
        "components": [asdict(component) for component in sizing.components],
        "derived": {name: round(value, 3) for name, value in sizing.derived.items()},
        "assumptions": asdict(sizing.assumptions),
    }
