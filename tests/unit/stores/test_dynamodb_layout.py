"""The layout in DynamoDB: the same keys as Feast's, times whose text sorts as they do, items that carry everything."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.dynamodb_layout import (
    decode_time,
    encode_time,
    entity_id,
    item,
    keys_and_attributes,
    raise_state,
    raise_time,
    swap_state,
)
from stores.layout import encode_value

TIMES_US = st.integers(0, 253_402_300_799_999_999)  # 1970 to 9999


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(value=st.text())
def test_entity_id_is_feasts(value: str) -> None:
    from feast.infra.online_stores.helpers import compute_entity_id
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=["card_id"], entity_values=[Value(string_val=value)])
    assert entity_id("card_id", value) == compute_entity_id(key, entity_key_serialization_version=3)


@given(TIMES_US, TIMES_US)
def test_order_of_text_is_order_of_time(one: int, two: int) -> None:
    assert (encode_time(one) < encode_time(two)) == (one < two)
    assert (encode_time(one) == encode_time(two)) == (one == two)


@given(TIMES_US)
def test_time_is_kept_to_the_microsecond_and_read_to_the_millisecond(time_us: int) -> None:
    text = encode_time(time_us)
    assert datetime.fromisoformat(text) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    assert decode_time(text) == time_us // 1000


def test_time_is_written_as_feast_writes_it_and_read_in_any_zone() -> None:
    moment = datetime(2026, 2, 2, 2, 40, tzinfo=UTC)
    assert encode_time(int(moment.timestamp()) * 1_000_000) == str(moment)
    for text in (str(moment), str(moment.replace(tzinfo=None)), str(moment.astimezone(timezone(timedelta(hours=-5))))):
        assert decode_time(text) == int(moment.timestamp()) * 1000


def test_velocity_item_carries_its_revision_as_a_number_beside_feasts_attributes() -> None:
    plain = item("k", {"a": b"\x01"}, 0)
    assert plain == {
        "entity_id": {"S": "k"},
        "event_ts": {"S": "1970-01-01 00:00:00+00:00"},
        "values": {"M": {"a": {"B": b"\x01"}}},
    }
    assert item("k", {"a": b"\x01"}, 0, 12) == plain | {"revision": {"N": "12"}}


def test_swap_expects_what_was_read_and_raise_what_is_smaller_or_older() -> None:
    first = swap_state("fraud", "card", "c1", b"", (b"state", 1, 5))
    assert first["ConditionExpression"] == "attribute_not_exists(#v.#r)"
    assert "ExpressionAttributeValues" not in first
    next_ = swap_state("fraud", "card", "c1", encode_value(1), (b"state", 2, 5))
    assert next_["ExpressionAttributeNames"] == {"#v": "values", "#r": "card_revision"}
    assert next_["ExpressionAttributeValues"] == {":read": {"B": encode_value(1)}}
    assert next_["TableName"] == "fraud.card_velocity"
    assert next_["Item"] == item(
        entity_id("card_id", "c1"), {"card_state": encode_value(b"state"), "card_revision": encode_value(2)}, 5000, 2
    )
    assert raise_state("t", next_["Item"])["ExpressionAttributeValues"] == {
        ":new": {"N": "2"},
        ":time": {"S": encode_time(5000)},
    }
    assert raise_time("t", next_["Item"])["ExpressionAttributeValues"] == {":new": {"S": encode_time(5000)}}


def test_only_what_is_wanted_is_asked_for() -> None:
    asked = keys_and_attributes(["x", "y"], ["a", "values"], consistent=False)
    names = asked["ExpressionAttributeNames"]
    paths = [".".join(names[part] for part in path.split(".")) for path in asked["ProjectionExpression"].split(", ")]
    assert paths == ["entity_id", "event_ts", "values.a", "values.values"]
    assert asked["Keys"] == [{"entity_id": {"S": "x"}}, {"entity_id": {"S": "y"}}]
    assert asked["ConsistentRead"] is False
    none = keys_and_attributes(["x"], [], consistent=True)
    assert none["ExpressionAttributeNames"] == {"#k": "entity_id", "#t": "event_ts"}  # an unused name is refused
