import json
from typing import Any

import pytest

from fraud.transaction import encode_transaction
from serving.requests import (
    MAX_BODY_BYTES,
    MAX_ROWS,
    RequestRefused,
    is_batch,
    parse_one,
    read_headers,
    split_rows,
)
from tests.support.scorers import payment

GOOD = encode_transaction(payment())
TYPE = (b"content-type", b"application/json")


def with_field(name: str, value: Any) -> bytes:
    return json.dumps({**json.loads(GOOD), name: value}).encode()


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, "body"),
        (b"{", 400, "body"),
        (GOOD[:-1], 400, "body"),
        (GOOD + b"x", 400, "body"),
        (b"\xff\xfe", 400, "body"),
        (GOOD.replace(b":1037", b":NaN"), 400, "body"),
        (GOOD.replace(b'"c1"', b'"\\ud800"'), 400, "body"),
        (GOOD.replace(b'"c1"', b'"\xed\xa0\x80"'), 400, "body"),
        (b"null", 422, "body"),
        (b"5", 422, "body"),
        (b"{}", 422, "transaction_id"),
        (GOOD.replace(b":1037", b":Infinity"), 400, "body"),
        (GOOD.replace(b":1037", b":1" + b"0" * 5000), 422, "amount_minor"),
        (GOOD.replace(b":1037", b":1e400"), 422, "amount_minor"),
        (with_field("amount_minor", 10**15), 422, "amount_minor"),
        (with_field("amount_minor", 0), 422, "amount_minor"),
        (with_field("amount_minor", 10.5), 422, "amount_minor"),
        (with_field("amount_minor", "10"), 422, "amount_minor"),
        (with_field("currency", "USD"), 422, "currency"),
        (with_field("channel", "fax"), 422, "channel"),
        (with_field("country", "de"), 422, "country"),
        (with_field("latitude", None), 422, "latitude"),
        (with_field("latitude", 91), 422, "latitude"),
        (with_field("event_time_ms", 1_770_000_000), 422, "event_time_ms"),
        (with_field("card_id", ""), 422, "card_id"),
        (with_field("card_id", "4111 1111 1111 1111"), 422, "card_id"),
        (with_field("card_id", "a\u202eb"), 422, "card_id"),
        (with_field("card_id", "x" * 129), 422, "card_id"),
        (with_field("merchant_category", -1), 422, "merchant_category"),
        (with_field("more", 1), 422, "more"),
    ],
)
def test_what_is_no_transaction_is_refused_with_its_field(body: bytes, status: int, field: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_one(body, currency="EUR")
    assert (refused.value.status, refused.value.field) == (status, field)
    assert 0 < len(refused.value.reason) <= 200


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_one(b"[" * depth + b"]" * depth, currency="EUR")
    assert refused.value.status in {400, 422}
    with pytest.raises(RequestRefused):
        split_rows(b"[" * depth + b"]" * depth)[0] and parse_one(b"[" * depth, currency="EUR")


@pytest.mark.parametrize("again", [b'"amount_minor":5', b'"amount_mino\\u0072":5', b'"amount_minor" : 1037'])
def test_a_field_given_twice_is_refused(again: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_one(GOOD[:-1] + b"," + again + b"}", currency="EUR")
    assert (refused.value.status, refused.value.field) == (422, "amount_minor")


def test_values_that_look_like_field_names_or_hold_escapes_are_no_repeats() -> None:
    body = with_field("card_id", "amount_minor").replace(b'"m1"', b'"cr\\u00e8me \\"x\\""')
    assert parse_one(body, currency="EUR").merchant_id == 'crème "x"'


def test_the_content_type_must_be_json() -> None:
    for value in (b"text/csv", b"", b"application/x-json"):
        with pytest.raises(RequestRefused) as refused:
            read_headers([(b"content-type", value)], b"")
        assert refused.value.status == 415
    assert not read_headers([(b"content-type", b"Application/JSON; charset=utf-8")], b"").explain


def test_a_body_announced_too_long_is_refused_before_it_is_read() -> None:
    read_headers([TYPE, (b"content-length", str(MAX_BODY_BYTES).encode())], b"")
    for length in (MAX_BODY_BYTES + 1, 10**30):
        with pytest.raises(RequestRefused) as refused:
            read_headers([TYPE, (b"content-length", str(length).encode())], b"")
        assert refused.value.status == 413


def test_the_inference_id_is_taken_and_bounded() -> None:
    header = b"x-amzn-sagemaker-inference-id"
    assert read_headers([TYPE, (header, b"abc-1")], b"").inference_id == "abc-1"
    for value in (b"x" * 65, b"a b", b"\xc3\xa9"):
        with pytest.raises(RequestRefused) as refused:
            read_headers([TYPE, (header, value)], b"")
        assert refused.value.status == 422


def test_reasons_are_asked_for_by_query_or_by_custom_attribute() -> None:
    assert read_headers([TYPE], b"explain=1").explain
    assert read_headers([TYPE, (b"x-amzn-sagemaker-custom-attributes", b"a,explain")], b"").explain
    assert not read_headers([TYPE], b"explain=0").explain


def test_rows_of_both_batch_forms_are_split_unparsed() -> None:
    rows = [GOOD, b"{}", b"7"]
    array = b" [" + b",".join(rows) + b"]"
    wrapped = b'{ "transactions": ' + array + b"}"
    assert is_batch(array)
    assert is_batch(wrapped)
    assert not is_batch(GOOD)
    assert split_rows(array) == split_rows(wrapped) == rows


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[", 400),
        (b'{"transactions":5}', 422),
        (b'{"transactions":[],"x":1}', 422),
        (b"[" + b",".join([b"1"] * (MAX_ROWS + 1)) + b"]", 422),
    ],
)
def test_what_is_no_batch_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(RequestRefused) as refused:
        split_rows(body)
    assert refused.value.status == status


def test_the_attributes_of_a_request_are_read_in_any_order_and_an_impossible_budget_is_refused() -> None:
    def asked(text: bytes) -> tuple[bool, int | None]:
        found = read_headers([TYPE, (b"x-amzn-sagemaker-custom-attributes", text)], b"")
        return found.explain, found.budget_ms

    assert asked(b"explain") == (True, None)
    assert asked(b"budget_ms=200, explain,other=1") == (True, 200)
    assert asked(b"other") == (False, None)
    for text in (b"budget_ms=0", b"budget_ms=60001", b"budget_ms=-1", b"budget_ms=\xb2", b"budget_ms"):
        with pytest.raises(RequestRefused, match="budget") as refused:
            asked(text)
        assert refused.value.status == 422
