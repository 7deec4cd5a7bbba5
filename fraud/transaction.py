"""A transaction: one payment attempt to be scored, refused here with field and reason or nowhere later.

Money is integer minor units of the deployment's one currency, time is integer epoch milliseconds (UTC). Identifiers are
tokens: a value that looks like a card number (12 to 19 digits passing the Luhn check) is refused and never repeated
back.
"""

import math
import re
from typing import Final, Literal

import msgspec

from fraud.errors import InvalidTransaction

Channel = Literal["pos", "online", "app", "moto"]
CHANNELS: Final[tuple[Channel, ...]] = ("pos", "online", "app", "moto")

MAX_AMOUNT_MINOR: Final = 10**12
"""Largest amount accepted, in minor units: keeps every window's sums exact in 64 bits."""

MIN_TIME_MS: Final = 946_684_800_000
"""2000-01-01T00:00:00Z: an earlier event time is a unit mistake (seconds for milliseconds)."""

MAX_TIME_MS: Final = 4_102_444_800_000
"""2100-01-01T00:00:00Z: a later event time is a unit mistake (microseconds for milliseconds)."""

MAX_IDENTIFIER: Final = 128

_DIGITS: Final = re.compile(r"[0-9](?:[ -]?[0-9]){11,}")
_LONGEST_SHOWN: Final = 120
_FLOAT_FOR_INT: Final = "Expected `int`, got `float`"
_WHOLE: Final = ("amount_minor", "event_time_ms", "merchant_category")
_LARGEST_EXACT: Final = 2.0**53


class Transaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One payment attempt.

    Parameters
    ----------
    transaction_id
        The caller's unique id; the same id is the same transaction, however often it arrives.
    card_id, merchant_id
        Tokens of the card and the merchant.
    device_id, ip
        Tokens of the device and the address; null when unknown.
    amount_minor
        Amount in minor units, 1 to 10**12.
    currency
        ISO 4217 code.
    event_time_ms
        When the payment was attempted, epoch milliseconds (UTC).
    channel
        How it was made.
    merchant_category
        ISO 18245 category code, 0 to 9999.
    country
        ISO 3166 alpha-2 code of the merchant.
    latitude, longitude
        Where, in degrees; both or neither.
    authorised
        The issuer's answer; null while it is not known (always so when a transaction is scored).
    """

    transaction_id: str
    card_id: str
    merchant_id: str
    amount_minor: int
    currency: str
    event_time_ms: int
    channel: Channel
    merchant_category: int
    country: str
    device_id: str | None = None
    ip: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    authorised: bool | None = None


_decoder = msgspec.json.Decoder(Transaction)
_encoder = msgspec.json.Encoder()


def parse_transaction(body: bytes | memoryview, *, currency: str) -> Transaction:
    """Return the transaction that ``body`` holds as one JSON object.

    Parameters
    ----------
    body
        UTF-8 JSON.
    currency
        The deployment's currency: amounts of another are refused, because sums over windows would mix units.

    Raises
    ------
    InvalidTransaction
        With the field and the reason; ``field`` is ``body`` when the JSON itself is broken.
    """
    try:
        try:
            transaction = _decoder.decode(body)
        except msgspec.ValidationError as error:
            transaction = _with_whole_floats(body, error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # perhaps behind a field that is refused
        raise InvalidTransaction("body", f"not valid JSON ({error})") from None
    check_transaction(transaction, currency=currency)
    return transaction


def _with_whole_floats(body: bytes | memoryview, error: msgspec.ValidationError) -> Transaction:
    """Return the transaction once whole numbers written with a fraction, such as ``8973.0``, are taken as whole.

    JSON and JSON Schema know no other difference between the two than how they are written.

    Raises
    ------
    InvalidTransaction
        It is none for another reason.
    msgspec.DecodeError, UnicodeDecodeError, RecursionError
        What comes behind the field that was refused is no JSON, or a number beyond every range.
    """
    if _FLOAT_FOR_INT not in str(error):
        raise _refusal(str(error)) from None
    found: dict[str, object] = msgspec.json.decode(body)  # an object: its field was named
    for name in _WHOLE:
        value = found.get(name)
        if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT:
            found[name] = int(value)
    try:
        return msgspec.convert(found, Transaction)
    except msgspec.ValidationError as still:
        raise _refusal(str(still)) from None


def encode_transaction(transaction: Transaction) -> bytes:
    """Return the JSON bytes that :func:`parse_transaction` reads back unchanged."""
    return _encoder.encode(transaction)


def check_transaction(transaction: Transaction, *, currency: str) -> None:
    """Raise :class:`InvalidTransaction` unless every field is in its range.

    ``currency`` is the deployment's one currency.
    """
    _check_identifiers(transaction)
    if not 0 < transaction.amount_minor <= MAX_AMOUNT_MINOR:
        raise InvalidTransaction(
            "amount_minor", f"{masked(str(transaction.amount_minor))} is not in 1..{MAX_AMOUNT_MINOR}"
        )
    if transaction.currency != currency:
        raise InvalidTransaction(
            "currency", f"{masked(repr(transaction.currency))} is not this deployment's {currency!r}"
        )
    check_time("event_time_ms", transaction.event_time_ms)
    if not 0 <= transaction.merchant_category <= 9999:
        raise InvalidTransaction("merchant_category", f"{masked(str(transaction.merchant_category))} is not in 0..9999")
    country = transaction.country
    if len(country) != 2 or not (country.isascii() and country.isalpha() and country.isupper()):
        raise InvalidTransaction("country", f"{country[:8]!r} is not an ISO 3166 alpha-2 code such as 'DE'")
    _check_place(transaction.latitude, transaction.longitude)


def _check_identifiers(transaction: Transaction) -> None:
    for field in ("transaction_id", "card_id", "merchant_id", "device_id", "ip"):
        value: str | None = getattr(transaction, field)
        if value is not None:
            check_identifier(field, value)


def check_identifier(field: str, value: str) -> None:
    """Raise :class:`InvalidTransaction` unless ``value`` is a token of 1 to ``MAX_IDENTIFIER`` printable characters."""
    short = 0 < len(value) <= MAX_IDENTIFIER
    if short and value.isalnum() and not value.isdigit():  # nearly every token, printable and no card number
        return
    if not short:
        raise InvalidTransaction(field, f"has {len(value)} characters, not 1..{MAX_IDENTIFIER}")
    if not value.isprintable():
        raise InvalidTransaction(field, "holds an unprintable character")
    if looks_like_card_number(value):
        raise InvalidTransaction(field, "looks like a card number; send a token instead")


def check_time(field: str, time_ms: int) -> None:
    """Raise :class:`InvalidTransaction` unless ``time_ms`` is epoch milliseconds of 2000 to 2099."""
    if not MIN_TIME_MS <= time_ms < MAX_TIME_MS:
        raise InvalidTransaction(field, f"{masked(str(time_ms))} is not epoch milliseconds in 2000..2099")


def _check_place(latitude: float | None, longitude: float | None) -> None:
    if (latitude is None) != (longitude is None):
        raise InvalidTransaction("latitude", "latitude and longitude come together or not at all")
    if latitude is None or longitude is None:
        return
    if not (math.isfinite(latitude) and -90.0 <= latitude <= 90.0):
        raise InvalidTransaction("latitude", f"{latitude:.9g} is not in -90..90 degrees")
    if not (math.isfinite(longitude) and -180.0 <= longitude <= 180.0):
        raise InvalidTransaction("longitude", f"{longitude:.9g} is not in -180..180 degrees")


def looks_like_card_number(value: str) -> bool:
    """Return whether ``value`` is 12 to 19 digits, spaces and dashes aside, that pass the Luhn check.

    Examples
    --------
    >>> looks_like_card_number("4111 1111 1111 1111"), looks_like_card_number("c0001234")
    (True, False)
    """
    if value.isalnum() and not value.isdigit():  # nearly every token
        return False
    digits = value.replace(" ", "").replace("-", "")
    if not (12 <= len(digits) <= 19 and digits.isascii() and digits.isdigit()):
        return False
    total = 0
    for position, character in enumerate(reversed(digits)):
        digit = int(character)
        if position % 2:
            digit = digit * 2 - 9 if digit > 4 else digit * 2
        total += digit
    return total % 10 == 0


def masked(text: str) -> str:
    """Return ``text`` fit to be repeated back: card numbers and longer runs of digits as stars, cut when long.

    Examples
    --------
    >>> masked("4111-1111-1111-1111 or EUR")
    '******** or EUR'
    """
    return _DIGITS.sub(_stars, text)[:_LONGEST_SHOWN]


def _stars(run: re.Match[str]) -> str:
    digits = sum(character.isdigit() for character in run[0])
    return "********" if digits > 19 or looks_like_card_number(run[0]) else run[0]


def _refusal(message: str) -> InvalidTransaction:
    """Turn msgspec's ``<reason> - at `$.field` `` into field and reason, without repeating the value."""
    reason, _, path = message.partition(" - at `")
    field = path.rstrip("`").removeprefix("$").removeprefix(".")
    if not field:
        for marker in ("required field `", "unknown field `"):
            if marker in reason:
                field = reason.split(marker)[1].rstrip("`")
    return InvalidTransaction(masked(field) or "body", masked(reason[0].lower() + reason[1:]))
