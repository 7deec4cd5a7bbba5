from dataclasses import replace

import pytest

from fraud.errors import InvalidSetting
from fraud.record import encode_record, records_of
from fraud.scaling import PLAN
from simulation.scale import EXAMPLE, Assumptions, Component, Sizing, as_json, size


def part(sizing: Sizing, name: str) -> Component:
    return next(component for component in sizing.components if component.name == name)


def test_shards_carry_the_records_of_the_products_own_encoding() -> None:
    known = Assumptions(shard_use=1.0)
    records = [encode_record(record) for record in records_of(EXAMPLE)]
    assert part(size(1_000, assumptions=known), "stream shards").needed == len(records)
    narrow = replace(known, shard_bytes_per_s=10.0 * sum(map(len, records)) / len(records))
    assert part(size(1_000, assumptions=narrow), "stream shards").needed == 100 * len(records)


def test_instances_are_those_of_the_plans_target() -> None:
    assert part(size(100_000), "scorer instances").needed == 200
    assert part(size(1), "scorer instances").needed == PLAN.limits.min_instances


def test_components_grow_with_the_rate_and_limits_do_not() -> None:
    small, large = size(10_000), size(100_000)
    for before, after in zip(small.components, large.components, strict=True):
        assert after.needed >= before.needed
        assert after.gives_way_at == pytest.approx(before.gives_way_at)
    assert large.monthly_cost > 5 * small.monthly_cost


def test_bottleneck_is_the_component_that_gives_way_first() -> None:
    sizing = size(100_000)
    assert sizing.bottleneck.gives_way_at == min(found.gives_way_at for found in sizing.components)
    hot = size(100_000, assumptions=Assumptions(busiest_merchant_share=0.9, cache_node_bytes=1e15))
    assert hot.bottleneck.name == "busiest merchant"


def test_cache_is_sized_by_memory_or_by_commands_whichever_needs_more() -> None:
    roomy = size(100_000, assumptions=Assumptions(cache_node_bytes=1e15))
    assert "commands" in part(roomy, "cache nodes").unit
    assert "memory" in part(size(100_000), "cache nodes").unit
    assert part(size(100_000), "cache nodes").needed > part(roomy, "cache nodes").needed


def test_cost_is_the_sum_of_its_parts_and_every_assumption_is_told() -> None:
    sizing = size(50_000)
    told = as_json(sizing)
    assert told["monthly_cost"] == round(sum(found.monthly_cost for found in sizing.components))
    assert told["assumptions"]["shard_hour"] == Assumptions().shard_hour  # type: ignore[index]  # JSON-ready values


def test_rate_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"0\.5"):
        size(0.5)
