"""The compiled reading from DynamoDB: the same readings as from Redis, in one request, and never a silent null."""

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.errors import StoreUnavailable
from stores.dynamodb_layout import entity_id, item, table_name
from stores.dynamodb_reading import TableReader, unanswered
from stores.layout import Value, encode_timestamp, encode_value
from stores.plan import CompiledReader, PlannedEntity, PlannedField, Reading, ReadPlan

PLAN = ReadPlan(
    "fraud",
    "service",
    (
        PlannedEntity(
            "card",
            "card_id",
            (
                PlannedField("card_velocity", "card_state"),
                PlannedField("card_velocity", "card_revision"),
                PlannedField("card_profile", "home"),
            ),
            ("card_velocity", "card_profile"),
        ),
        PlannedEntity("merchant", "merchant_id", (PlannedField("merchant_profile", "mean"),), ("merchant_profile",)),
    ),
    (),
)
KEYS = {"card_id": "c1", "merchant_id": ""}
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.none(), st.binary(), st.text(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)
)


def answer(held: dict[str, tuple[dict[str, Value], int]]) -> dict[str, Any]:
    """Return the whole response to the request, with one item for each view held."""
    out: dict[str, Any] = {table_name("fraud", view): [] for view in ("card_velocity", "card_profile")}
    for view, (values, time_ms) in held.items():
        key = entity_id("card_id", "c1") if view.startswith("card") else entity_id("merchant_id", "")
        serialised = {name: encode_value(value) for name, value in values.items()}
        out[table_name("fraud", view)] = [item(key, serialised, time_ms * 1000)]
    return {"Responses": out, "UnprocessedKeys": {}}


def on_the_wire(response: dict[str, Any]) -> dict[str, Any]:
    """Return a response as the service's JSON has it."""
    text = json.dumps(response, default=lambda data: b64encode(data).decode())
    whole: dict[str, Any] = json.loads(text)
    return whole


def test_one_request_asks_every_table_once_for_its_key_and_features() -> None:
    asked = TableReader(PLAN).request(KEYS)
    assert list(asked) == ["fraud.card_velocity", "fraud.card_profile", "fraud.merchant_profile"]
    assert {table: one["Keys"] for table, one in asked.items()} == {
        "fraud.card_velocity": [{"entity_id": {"S": entity_id("card_id", "c1")}}],
        "fraud.card_profile": [{"entity_id": {"S": entity_id("card_id", "c1")}}],
        "fraud.merchant_profile": [{"entity_id": {"S": entity_id("merchant_id", "")}}],
    }
    assert set(asked["fraud.card_velocity"]["ExpressionAttributeNames"].values()) == {
        "entity_id",
        "event_ts",
        "values",
        "card_state",
        "card_revision",
    }
    assert all(one["ConsistentRead"] for one in asked.values())
    assert not any(one["ConsistentRead"] for one in TableReader(PLAN, consistent=False).request(KEYS).values())
    assert json.loads(json.dumps(asked)) == asked


def test_every_request_is_its_own() -> None:
    reader = TableReader(PLAN)
    first = reader.request(KEYS)
    assert reader.request({"card_id": "c2", "merchant_id": "m"}) != first
    assert reader.request(KEYS) == first


@given(st.tuples(VALUES, VALUES, VALUES, VALUES), st.tuples(*[st.none() | st.integers(0, 2**41)] * 3))
def test_readings_equal_those_from_redis_in_bytes_and_in_json(
    drawn: tuple[Value, ...], times_ms: tuple[int | None, ...]
) -> None:
    state, revision, home, mean = drawn
    parts: dict[str, dict[str, Value]] = {
        "card_velocity": {"card_state": state, "card_revision": revision},
        "card_profile": {"home": home},
        "merchant_profile": {"mean": mean},
    }
    times = dict(zip(parts, times_ms, strict=True))
    held = {view: (values, time) for view, values in parts.items() if (time := times[view]) is not None}

    def field(view: str, name: str) -> bytes | None:
        return encode_value(parts[view][name]) if view in held else None

    def stamp(view: str) -> bytes | None:
        time = times[view]
        return None if time is None else encode_timestamp(time)

    card = [
        field("card_velocity", "card_state"),
        field("card_velocity", "card_revision"),
        field("card_profile", "home"),
    ]
    merchant = [field("merchant_profile", "mean"), stamp("merchant_profile")]
    from_redis = CompiledReader(PLAN).readings([[*card, stamp("card_velocity"), stamp("card_profile")], merchant])
    reader, response = TableReader(PLAN), answer(held)
    assert reader.readings([response]) == from_redis
    assert reader.readings([on_the_wire(response)]) == from_redis
    assert CompiledReader(PLAN).readings(reader.replies([on_the_wire(response)])) == from_redis


def test_stranger_is_all_null() -> None:
    nothing: dict[str, Any] = {"Responses": {"fraud.card_velocity": []}}
    assert TableReader(PLAN).readings([nothing]) == {
        "card": Reading(
            {"card_state": None, "card_revision": None, "home": None}, {"card_velocity": None, "card_profile": None}
        ),
        "merchant": Reading({"mean": None}, {"merchant_profile": None}),
    }


def test_what_was_left_is_asked_again_and_never_taken_for_absent() -> None:
    reader = TableReader(PLAN)
    asked = reader.request(KEYS)
    whole = answer(
        {"card_velocity": ({"card_state": b"s", "card_revision": 3}, 5), "card_profile": ({"home": "DE"}, 6)}
    )
    late = {"fraud.card_profile": asked["fraud.card_profile"]}
    first = {
        "Responses": {table: rows for table, rows in whole["Responses"].items() if table not in late},
        "UnprocessedKeys": late,
    }
    assert unanswered(first) == late
    assert unanswered(whole) == {}
    with pytest.raises(StoreUnavailable, match="left 1 of its tables"):
        reader.readings([first])
    with pytest.raises(StoreUnavailable, match="left 2 of its tables"):
        reader.readings([])
    second = {"Responses": {table: whole["Responses"][table] for table in late}}
    assert reader.readings([first, second]) == reader.readings([whole])
    assert reader.readings([whole])["card"].values["home"] == "DE"


def test_item_that_lacks_a_feature_reads_null_there() -> None:
    partial = answer({"card_velocity": ({"card_revision": 3}, 5)})
    reading = TableReader(PLAN).readings([partial])["card"]
    assert reading == Reading(
        {"card_state": None, "card_revision": 3, "home": None}, {"card_velocity": 5, "card_profile": None}
    )
