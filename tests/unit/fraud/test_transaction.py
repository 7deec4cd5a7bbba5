"""Every invalid transaction is refused with its field, and no card number is repeated back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.errors import InvalidTransaction
from fraud.transaction import (
    CHANNELS,
    MAX_AMOUNT_MINOR,
    MAX_TIME_MS,
    MIN_TIME_MS,
    Transaction,
    check_transaction,
    encode_transaction,
    looks_like_card_number,
    masked,
    parse_transaction,
)

CARD_NUMBER = "4111111111111111"
VALID: dict[str, Any] = {
    "transaction_id": "t1",
    "card_id": "c0001",
    "merchant_id": "m0001",
    "amount_minor": 4_999,
    "currency": "EUR",
    "event_time_ms": 1_770_000_000_000,
    "channel": "online",
    "merchant_category": 5411,
    "country": "DE",
    "device_id": "d0001",
    "ip": "ip0001",
    "latitude": 52.52,
    "longitude": 13.405,
}


def parse(body: bytes) -> Transaction:
    return parse_transaction(body, currency="EUR")


def refusal(**changes: Any) -> InvalidTransaction:
    with pytest.raises(InvalidTransaction) as caught:
        parse(json.dumps(VALID | changes).encode())
    return caught.value


def test_valid_transaction_is_read_field_by_field() -> None:
    transaction = parse(json.dumps(VALID).encode())
    assert {name: getattr(transaction, name) for name in VALID} == VALID
    assert transaction.authorised is None


@pytest.mark.parametrize("field", ["device_id", "ip", "authorised"])
def test_what_may_be_unknown_may_be_left_out_or_null(field: str) -> None:
    without = {name: value for name, value in VALID.items() if name != field}
    assert parse(json.dumps(without).encode()) == parse(json.dumps(without | {field: None}).encode())


@pytest.mark.parametrize("field", [name for name in VALID if name not in {"device_id", "ip", "latitude", "longitude"}])
def test_missing_field_is_named(field: str) -> None:
    without = {name: value for name, value in VALID.items() if name != field}
    with pytest.raises(InvalidTransaction) as caught:
        parse(json.dumps(without).encode())
    assert caught.value.field == field
    assert "missing" in caught.value.reason


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("transaction_id", "", "has 0 characters"),
        ("transaction_id", "t" * 129, "has 129 characters"),
        ("transaction_id", 7, "expected `str`, got `int`"),
        ("card_id", None, "got `null`"),
        ("card_id", "c\n1", "unprintable"),
        ("card_id", CARD_NUMBER, "looks like a card number"),
        ("card_id", "4111 1111-1111 1111", "looks like a card number"),
        ("merchant_id", "m\x00", "unprintable"),
        ("merchant_id", "6011000990139424", "looks like a card number"),
        ("device_id", "", "has 0 characters"),
        ("device_id", "5555555555554444", "looks like a card number"),
        ("ip", "\u202e1.2.3.4", "unprintable"),
        ("amount_minor", 0, "0 is not in 1.."),
        ("amount_minor", -5, "-5 is not in 1.."),
        ("amount_minor", MAX_AMOUNT_MINOR + 1, "is not in 1.."),
        ("amount_minor", 10**30, "is not in 1.."),
        ("amount_minor", True, "expected `int`, got `bool`"),
        ("amount_minor", 49.99, "expected `int`, got `float`"),
        ("amount_minor", "4999", "expected `int`, got `str`"),
        ("currency", "USD", "'USD' is not this deployment's 'EUR'"),
        ("currency", "eur", "'eur' is not"),
        ("event_time_ms", 1_770_000_000, "1770000000 is not epoch milliseconds"),
        ("event_time_ms", 1_770_000_000_000_000, "is not epoch milliseconds"),
        ("event_time_ms", MIN_TIME_MS - 1, "is not epoch milliseconds"),
        ("event_time_ms", MAX_TIME_MS, "is not epoch milliseconds"),
        ("event_time_ms", False, "got `bool`"),
        ("channel", "fax", "invalid enum value 'fax'"),
        ("channel", None, "got `null`"),
        ("merchant_category", -1, "-1 is not in 0..9999"),
        ("merchant_category", 10_000, "10000 is not in 0..9999"),
        ("merchant_category", "5411", "got `str`"),
        ("country", "de", "'de' is not an ISO 3166"),
        ("country", "DEU", "'DEU' is not an ISO 3166"),
        ("country", "ÄÖ", "is not an ISO 3166"),
        ("country", "D1", "is not an ISO 3166"),
        ("latitude", 90.5, "90.5 is not in -90..90"),
        ("latitude", "52", "got `str`"),
        ("latitude", None, "come together"),
        ("longitude", -180.001, "-180.001 is not in -180..180"),
        ("longitude", True, "got `bool`"),
        ("authorised", 1, "got `int`"),
        ("cvv", "x", "unknown field `cvv`"),
    ],
)
def test_refusal_names_field_and_reason(field: str, value: object, reason: str) -> None:
    error = refusal(**{field: value})
    assert error.field == field
    assert reason in error.reason
    assert str(error) == f"{error.field}: {error.reason}"


def test_refusal_has_a_code_and_will_not_go_away_by_itself() -> None:
    error = refusal(amount_minor=0)
    assert (error.code, error.retryable) == ("invalid_transaction", False)


@pytest.mark.parametrize(
    "number", [CARD_NUMBER, "378282246310005", "4222222222222", "6304000000000000", "4111-1111-1111-1111"]
)
@pytest.mark.parametrize("field", [*VALID, "authorised", "unheard_of"])
def test_card_number_in_any_field_is_never_repeated(field: str, number: str) -> None:
    digits = number.replace("-", "")
    spoilt = (
        [number, f"x {number} y"]
        if field not in {"card_id", "merchant_id", "transaction_id", "device_id", "ip"}
        else [number]
    )
    for value in [*spoilt, int(digits)]:
        if field == "event_time_ms" and isinstance(value, int) and MIN_TIME_MS <= value < MAX_TIME_MS:
            continue
        error = refusal(**{field: value})
        assert digits not in str(error)
        assert number not in str(error)
        assert error.field == field


def test_card_number_as_a_field_name_is_never_repeated() -> None:
    error = refusal(**{CARD_NUMBER: 1})
    assert CARD_NUMBER not in str(error)
    assert "unknown field" in error.reason


@pytest.mark.parametrize("field", ["channel", "currency", "country"])
def test_long_values_are_not_repeated_whole(field: str) -> None:
    assert len(str(refusal(**{field: "x" * 100_000}))) < 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"4111111111111111",
        b'"4111111111111111"',
        b"\xff\xfe",
        b'{"card_id": "\xff"}',
        b"[" * 100_000,
        json.dumps(VALID).encode() + b"{}",
        json.dumps(VALID).replace("52.52", "NaN").encode(),
        json.dumps(VALID).replace("52.52", "Infinity").encode(),
    ],
)
def test_broken_json_is_a_refused_body(body: bytes) -> None:
    with pytest.raises(InvalidTransaction) as caught:
        parse(body)
    assert caught.value.field == "body"
    assert CARD_NUMBER not in str(caught.value)


@pytest.mark.parametrize(
    "rest",
    ['"more": NaN', '"more": 1e999', '"more": "\\ud800"', '"more": 1]', '"more": ' + "[" * 100_000, '"more": "\xff"'],
)
@pytest.mark.parametrize("amount", [12.0, 12.5])
def test_what_is_broken_behind_a_number_with_a_fraction_is_a_refused_body(amount: float, rest: str) -> None:
    body = json.dumps(VALID | {"amount_minor": amount})[:-1] + f", {rest}" + "}"
    with pytest.raises(InvalidTransaction) as caught:
        parse(body.encode("latin-1"))
    assert caught.value.field == "body"


@pytest.mark.parametrize(
    ("field", "number"), [("amount_minor", "1e400"), ("amount_minor", "9" * 6_000), ("latitude", "1e400")]
)
def test_number_beyond_every_range_names_its_field(field: str, number: str) -> None:
    body = json.dumps(VALID | {field: "HERE"}).replace('"HERE"', number).encode()
    with pytest.raises(InvalidTransaction) as caught:
        parse(body)
    assert caught.value.field == field
    assert "out of range" in caught.value.reason


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_refused_not_a_crash(opening: str) -> None:
    body = json.dumps(VALID)[:-1] + ',"ip":' + opening * 100_000
    with pytest.raises(InvalidTransaction):
        parse(body.encode())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["latitude", "longitude"])
def test_place_that_is_no_number_is_refused_however_it_came(field: str, bad: float) -> None:
    transaction = Transaction(**(VALID | {field: bad}))
    with pytest.raises(InvalidTransaction) as caught:
        check_transaction(transaction, currency="EUR")
    assert caught.value.field == field


def tokens(prefix: str) -> st.SearchStrategy[str]:
    printable = st.characters(exclude_categories=["C", "Z"])
    return st.text(printable, max_size=100).map(lambda text: prefix + text).filter(str.isprintable)


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    placed = draw(st.booleans())
    return Transaction(
        transaction_id=draw(tokens("t")),
        card_id=draw(tokens("c")),
        merchant_id=draw(tokens("m")),
        device_id=draw(st.none() | tokens("d")),
        ip=draw(st.none() | tokens("i")),
        amount_minor=draw(st.integers(1, MAX_AMOUNT_MINOR)),
        currency="EUR",
        event_time_ms=draw(st.integers(MIN_TIME_MS, MAX_TIME_MS - 1)),
        channel=draw(st.sampled_from(CHANNELS)),
        merchant_category=draw(st.integers(0, 9999)),
        country=draw(st.text("ABCXYZ", min_size=2, max_size=2)),
        latitude=draw(st.floats(-90, 90)) if placed else None,
        longitude=draw(st.floats(-180, 180)) if placed else None,
        authorised=draw(st.none() | st.booleans()),
    )


@given(transactions())
def test_encoded_transaction_parses_back_unchanged(transaction: Transaction) -> None:
    assert parse(encode_transaction(transaction)) == transaction


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_garbage_is_refused_and_nothing_else_is_raised(body: bytes) -> None:
    with pytest.raises(InvalidTransaction):
        parse(body)


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "5555555555554444",
        "378282246310005",
        "30569309025904",
        "6011111111111117",
        "4222222222222",
        "6304 0000 0000 0000",
        "4111-1111-1111-1111",
    ],
)
def test_published_test_card_numbers_look_like_card_numbers(number: str) -> None:
    assert looks_like_card_number(number)


@pytest.mark.parametrize(
    "value",
    ["4111111111111112", "41111111111", "41111111111111111111", "c411111111111111", "①" * 16, "", "1" * 15 + "x"],
)
def test_other_values_do_not(value: str) -> None:
    assert not looks_like_card_number(value)


@given(st.text("0123456789", min_size=11, max_size=18))
def test_exactly_one_last_digit_passes_the_luhn_check(stem: str) -> None:
    assert sum(looks_like_card_number(stem + digit) for digit in "0123456789") == 1


@given(st.text("0123456789", min_size=11, max_size=18), st.text(" abc:'`-", max_size=5))
def test_masked_text_holds_no_card_number(stem: str, around: str) -> None:
    number = next(stem + digit for digit in "0123456789" if looks_like_card_number(stem + digit))
    assert number not in masked(f"{around}{number}{around}")


def test_a_whole_number_may_be_written_with_a_fraction_and_no_other() -> None:
    names = ("amount_minor", "event_time_ms", "merchant_category")
    written = json.dumps(VALID | {name: float(VALID[name]) for name in names}).encode()
    assert parse_transaction(written, currency="EUR") == parse_transaction(json.dumps(VALID).encode(), currency="EUR")
    for changes, field in (
        ({"amount_minor": 12.5}, "amount_minor"),
        ({"amount_minor": 1e300}, "amount_minor"),
        ({"amount_minor": 0.0}, "amount_minor"),
        ({"amount_minor": 12.0, "merchant_category": "1"}, "merchant_category"),
        ({"amount_minor": 12.0, "more": 1}, "more"),
    ):
        with pytest.raises(InvalidTransaction) as refused:
            parse_transaction(json.dumps(VALID | changes).encode(), currency="EUR")
        assert refused.value.field == field
