import re
from dataclasses import replace
from pathlib import Path

import pytest

from fraud.errors import InvalidSetting
from fraud.record import encode_record, records_of
from fraud.scaling import PLAN
from fraud.windows import ENTITIES
from simulation.scale import EXAMPLE, Assumptions, Component, Sizing, as_json, size

ROOT = Path(__file__).resolve().parents[3]


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


def test_every_kind_of_entity_takes_memory() -> None:
    whole = size(100_000).derived["cached bytes"]
    known = Assumptions()
    without = (
        replace(known, devices_per_card=0.0),
        replace(known, addresses_per_card=0.0),
        replace(known, merchant_state_bytes=0.0),
    )
    for assumptions in without:
        assert size(100_000, assumptions=assumptions).derived["cached bytes"] < whole
    assert len(ENTITIES) == 4, "a new kind of entity needs its memory here"


def test_documented_sizing_is_the_models() -> None:
    """The table of docs/capacity.md: rows of needed, dollars and the rate of giving way, as far as they are given."""
    text = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
    sizing = size(100_000)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.partition("## At 100,000")[2].partition("## What it does not")[0].splitlines()
        if line.startswith("| ")
    ][1:]
    names = {"cache, as one node behind one address": "cache behind one address"}
    told = {row[0].partition(" (")[0]: row[1:] for row in rows if not row[0].startswith("**")}
    assert len(told) == len(sizing.components)
    for name, (needed, dollars, limit) in told.items():
        found = part(sizing, names.get(name, name))
        assert number(needed) == found.needed, name
        assert number(dollars) == round(found.monthly_cost), name
        assert number(limit) == pytest.approx(found.gives_way_at, rel=0.02), name
    (total,) = (row for row in rows if row[0] == "**sum**")
    assert number(total[2].strip("*")) == round(sizing.monthly_cost)
    derived = sizing.derived
    words = {3: "three", 4: "four", 5: "five"}[int(derived["records per transaction"])]
    assert f"({words} a transaction, {derived['bytes per record']:.0f} bytes each)" in text
    assert f"{derived['cached bytes'] / 1e12:.0f} TB" in text


def number(text: str) -> float:
    found = re.match(r"[0-9,.]+", text)
    return float(found[0].rstrip(".,").replace(",", "")) if found else 0.0


def test_cost_is_the_sum_of_its_parts_and_every_assumption_is_told() -> None:
    sizing = size(50_000)
    told = as_json(sizing)
    assert told["monthly_cost"] == round(sum(found.monthly_cost for found in sizing.components))
    assert told["assumptions"]["shard_hour"] == Assumptions().shard_hour  # type: ignore[index]  # JSON-ready values


def test_rate_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"0\.5"):
        size(0.5)
