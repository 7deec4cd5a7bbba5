"""The rules of live payments, put to rows of a log: quickly to all, and exactly to those that may break one.

The verdict is :func:`fraud.transaction.check_transaction`'s, the rule that the scorer and the stream apply. A quick
look at whole columns (:func:`doubtful`) spares it the rows that surely keep every rule.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.errors import InvalidTransaction
from fraud.transaction import Transaction, check_transaction, looks_like_card_number
from training.transaction_log import TRANSACTIONS_SCHEMA

BoolArray = npt.NDArray[np.bool_]

REASONS: Final = {
    "amount_minor": "amount out of range",
    "currency": "another currency",
    "event_time_ms": "time out of range",
    "merchant_category": "category out of range",
    "country": "no country code",
    "latitude": "place out of range",
    "longitude": "place out of range",
}
"""What to call a broken rule, by its field."""

_UNFIT: Final = "no token of 1 to 128 printable characters"
_IDENTIFIERS: Final = ("transaction_id", "card_id", "merchant_id", "device_id", "ip")
_PLAIN: Final = r"^[ -~]{1,128}$"
_MAYBE_CARD: Final = r"^[0-9 -]{12,}$"


@dataclass(frozen=True)
class BrokenRule:
    """The field of the log and what is wrong with it, one of few reasons."""

    field: str
    reason: str


def doubtful(rows: pa.Table) -> BoolArray:
    """Return which rows may break a rule of :mod:`fraud.transaction`; the others surely keep all of them.

    Amounts, times and the currency are decided before; identifiers, category, country and place are looked at.
    """
    wrong = np.zeros(rows.num_rows, np.bool_)
    for field in _IDENTIFIERS:
        text = rows[field]
        known = np.asarray(text.is_valid(), np.bool_)
        wrong |= known & (~matches(text, _PLAIN) | matches(text, _MAYBE_CARD))
    wrong |= ~matches(rows["country"], "^[A-Z]{2}$")
    category = pc.fill_null(rows["merchant_category"], -1).to_numpy()
    wrong |= (category < 0) | (category > 9999)
    latitude, longitude = (pc.fill_null(rows[name], np.nan).to_numpy() for name in ("latitude", "longitude"))
    wrong |= np.isnan(latitude) != np.isnan(longitude)
    wrong |= (np.abs(latitude) > 90.0) | (np.abs(longitude) > 180.0)
    return wrong


def broken_rules(rows: pa.Table, currency: str) -> Iterator[tuple[int, BrokenRule]]:
    """Yield the place of each row that breaks a rule, and which.

    Parameters
    ----------
    rows
        With the columns of the transaction log.
    currency
        The data set's.
    """
    for place, row in enumerate(rows.select(TRANSACTIONS_SCHEMA.names).to_pylist()):
        try:
            check_transaction(_transaction(row), currency=currency)
        except InvalidTransaction as error:
            identifier = "card number" if "card number" in error.reason else _UNFIT
            yield place, BrokenRule(error.field, REASONS.get(error.field, identifier))


def card_numbers(text: Any) -> BoolArray:
    """Return which texts of an Arrow column look like card numbers."""
    found = matches(text, _MAYBE_CARD)
    for place in np.flatnonzero(found).tolist():
        found[place] = looks_like_card_number(text[place].as_py())
    return found


def matches(text: Any, pattern: str) -> BoolArray:
    """Return which texts of an Arrow column match a regular expression; null does not."""
    found = pc.fill_null(pc.match_substring_regex(text, pattern), fill_value=False)
    return np.array(found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy(), np.bool_)


def _transaction(row: dict[str, Any]) -> Transaction:
    """Return a row of the log as the rules take it."""
    event_time_ms = round(row.pop("event_timestamp").timestamp() * 1000)
    del row["created_timestamp"]
    return Transaction(event_time_ms=event_time_ms, **row)
