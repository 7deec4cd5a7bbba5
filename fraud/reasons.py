"""Reason codes: from exact attributions to at most three short whys that an analyst can read and a program can count.

Attributions add up, so those of features that say the same thing are summed into their *family* (what they speak of,
such as ``card.velocity``) and a family gives at most one reason: that of its heaviest feature, weighing what the whole
family weighs. A family that on balance speaks for the customer gives none. Codes are stable, sentences carry values.
"""

import math
import re
from collections.abc import Callable
from typing import Final

import numpy as np

from fraud.features import FEATURE_NAMES
from fraud.policy import Reason
from fraud.reason_codes import WORDINGS, Wording
from fraud.transaction import CHANNELS, Transaction
from fraud.velocity import FloatArray
from fraud.windows import SMALL_AMOUNT_MINOR

LIMIT: Final = 3

_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NO_MINOR_UNIT: Final = frozenset(
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split()  # noqa: SIM905  # codes read best so
)
_THOUSANDTHS: Final = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
_AGREEMENT: Final = re.compile(r"\((\w*)\|(\w*)\)")

_ORDERED: Final = tuple(WORDINGS[name] for name in FEATURE_NAMES)
_FAMILIES: Final = tuple(dict.fromkeys(wording.family for wording in _ORDERED))
_FAMILY_OF: Final = np.array([_FAMILIES.index(wording.family) for wording in _ORDERED])
_PLACE: Final = {name: index for index, name in enumerate(FEATURE_NAMES)}


def find_reasons(
    transaction: Transaction, vector: FloatArray, contributions: FloatArray, *, limit: int = LIMIT
) -> tuple[Reason, ...]:
    """Return the heaviest reasons for a high score, heaviest first.

    Parameters
    ----------
    vector
        Feature vector in the order of ``FEATURE_NAMES``; NaN is null.
    contributions
        Exact attributions in log-odds, same order; 0 for a feature that the model does not take.
    limit
        Reasons at most.
    """
    families = np.bincount(_FAMILY_OF, contributions, len(_FAMILIES))
    reasons = []
    for family in np.argsort(-families, kind="stable")[:limit]:
        weight = float(families[family])
        if weight <= 0.0:
            break
        own = np.where(family == _FAMILY_OF, contributions, -math.inf)
        code, text = describe(transaction, vector, int(own.argmax()))
        reasons.append(Reason(code, text, round(weight, 4)))
    return tuple(reasons)


def describe(transaction: Transaction, vector: FloatArray, feature: int) -> tuple[str, str]:
    """Return code and sentence of one feature, given by its place in ``FEATURE_NAMES``."""
    wording = _ORDERED[feature]
    value = float(vector[feature])
    if math.isnan(value):
        return wording.unknown_code, f"{wording.unknown} is not known"
    is_low = value < wording.low_below
    template = wording.low_text if is_low else wording.text
    written = _FORMS[wording.form](value, transaction.currency)
    sentence = _AGREEMENT.sub(r"\1" if written == "1" else r"\2", template).format(
        value=written,
        amount=money(transaction.amount_minor, transaction.currency),
        small=money(SMALL_AMOUNT_MINOR, transaction.currency),
    )
    return wording.low_code if is_low else wording.code, sentence + _share_of(wording, value, vector)


def money(amount_minor: float, currency: str) -> str:
    """Return an amount of minor units as people write it.

    Examples
    --------
    >>> money(123456, "EUR"), money(500, "JPY"), money(1500, "KWD")
    ('1,234.56 EUR', '500 JPY', '1.500 KWD')
    """
    digits = 0 if currency in _NO_MINOR_UNIT else 3 if currency in _THOUSANDTHS else 2
    return f"{amount_minor / 10**digits:,.{digits}f} {currency}"


def _share_of(wording: Wording, value: float, vector: FloatArray) -> str:
    if not wording.total or value <= 0.0:
        return ""
    total = float(vector[_PLACE[wording.total]])
    return f" ({100.0 * value / total:.0f} % of them)" if total >= value else ""


def _times(value: float) -> str:
    return f"{value:.0f}" if value >= 10.0 else f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"


def _span(seconds: float) -> str:
    for name, length in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s"


_FORMS: Final[dict[str, Callable[[float, str], str]]] = {
    "whole": lambda value, _: f"{value:.0f}",
    "money": money,
    "share": lambda value, _: f"{100.0 * value:.0f} %",
    "times": lambda value, _: _times(value),
    "sigmas": lambda value, _: f"{value:+.1f}",
    "span": lambda value, _: _span(value),
    "hour": lambda value, _: f"{value:02.0f}:00-{value:02.0f}:59",
    "weekday": lambda value, _: _WEEKDAYS[int(value)],
    "channel": lambda value, _: CHANNELS[int(value)],
}
