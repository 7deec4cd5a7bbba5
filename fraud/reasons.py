"""Reason codes: from exact attributions to at most three short whys that an analyst can read and a program can count.

Attributions add up, so those of features that say the same thing are summed into their *family* (what they speak of,
such as ``card.velocity``), whose heaviest feature gives code and sentence; a family that on balance speaks for the
customer gives none. Families of one code, as when nothing is known of a card, are one reason that weighs what all of
them weigh. So no code stands twice, and the weights of all reasons are the positive part of what the families sum to.
Codes are stable, sentences carry values and, where it can be told, what is usual (:mod:`fraud.usual`).
"""

import math
import re
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.features import FEATURE_NAMES
from fraud.kernels import kernel
from fraud.policy import Reason
from fraud.reason_codes import WORDINGS
from fraud.transaction import CHANNELS, Transaction
from fraud.usual import DailyMean, comparisons, daily_mean, others_before
from fraud.velocity import FloatArray
from fraud.windows import SMALL_AMOUNT_MINOR

IntArray = npt.NDArray[np.int64]

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
_CODES: Final = tuple(
    dict.fromkeys(code for wording in _ORDERED for code in (wording.code, wording.low_code, wording.unknown_code))
)
_CODE_OF: Final = np.array(
    [[_CODES.index(code) for code in (wording.code, wording.low_code, wording.unknown_code)] for wording in _ORDERED]
)
_LOW_BELOW: Final = np.array([wording.low_below for wording in _ORDERED])
_COMPARED: Final = {_PLACE[name]: made for name, made in comparisons().items()}
_COMPARED_AT: Final = {
    place: (made, tuple(_PLACE[name] for name in (made.day, made.week, made.seen_week, made.seen_month)))
    if isinstance(made, DailyMean)
    else (made, (place, _PLACE[made.longer], _PLACE[made.seen]))
    for place, made in _COMPARED.items()
}
_NOTHING_KNOWN: Final = {
    f"{entity}_HISTORY_UNKNOWN": f"the history of this {noun} is not known"
    for entity, noun in (("CARD", "card"), ("DEVICE", "device"), ("IP", "network address"), ("MERCHANT", "merchant"))
}


def find_reasons(
    transaction: Transaction, vector: FloatArray, contributions: FloatArray, *, limit: int = LIMIT
) -> tuple[Reason, ...]:
    """Return the heaviest reasons for a high score, heaviest first, no code twice.

    Parameters
    ----------
    vector
        Feature vector in the order of ``FEATURE_NAMES``; NaN is null.
    contributions
        Exact attributions in log-odds of the model's margin, *before* calibration, same order; 0 for a feature that the
        model does not take. The calibrated score's log-odds move by the bundle's slope times as much.
    limit
        Reasons at most.
    """
    found = np.empty((limit, 3))
    count = _heaviest(contributions, vector, _FAMILY_OF, _LOW_BELOW, _CODE_OF, len(_FAMILIES), len(_CODES), found)
    reasons = []
    for feature, weight, families in found[:count].tolist():
        code, text = describe(transaction, vector, int(feature))
        if families > 1.0:
            text = _NOTHING_KNOWN.get(code, text)
        reasons.append(Reason(code, text, round(weight, 4)))
    return tuple(reasons)


@kernel
def _heaviest(
    contributions: FloatArray,
    vector: FloatArray,
    family_of: IntArray,
    low_below: FloatArray,
    code_of: IntArray,
    families: int,
    codes: int,
    out: FloatArray,
) -> int:
    """Fill in leading feature, weight and number of families of the heaviest codes; return how many there are."""
    sums = np.zeros(families)
    lead = np.full(families, -1)
    for feature in range(len(contributions)):
        family = family_of[feature]
        sums[family] += contributions[feature]
        if lead[family] < 0 or contributions[feature] > contributions[lead[family]]:
            lead[family] = feature
    total = np.zeros(codes)
    number = np.zeros(codes, np.int64)
    best = np.full(codes, -1)
    for family in range(families):
        if not sums[family] > 0.0:
            continue
        feature = lead[family]
        value = vector[feature]
        kind = 2 if np.isnan(value) else 1 if value < low_below[feature] else 0
        code = code_of[feature, kind]
        if best[code] < 0 or sums[family] > sums[best[code]]:
            best[code] = family
        total[code] += sums[family]
        number[code] += 1
    found = 0
    while found < len(out):
        code = int(np.argmax(total))
        if not total[code] > 0.0:
            break
        out[found, 0], out[found, 1], out[found, 2] = lead[best[code]], total[code], number[code]
        total[code] = 0.0
        found += 1
    return found


def describe(transaction: Transaction, vector: FloatArray, feature: int) -> tuple[str, str]:
    """Return code and sentence of one feature, given by its place in ``FEATURE_NAMES``."""
    wording = _ORDERED[feature]
    value = float(vector[feature])
    if math.isnan(value):
        return wording.unknown_code, f"{wording.unknown} is not known"
    is_low = value < wording.low_below
    currency = transaction.currency
    written = _FORMS[wording.form](value, currency)
    sentence = _TEMPLATES[feature][is_low][written != "1"].replace("{value}", written)
    if "{" in sentence:
        sentence = sentence.replace("{amount}", money(transaction.amount_minor, currency))
        sentence = sentence.replace("{small}", money(SMALL_AMOUNT_MINOR, currency))
    sentence += _share_of(wording.total, value, vector) if wording.total else _usual(feature, vector, currency)
    return wording.low_code if is_low else wording.code, sentence


def money(amount_minor: float, currency: str) -> str:
    """Return an amount of minor units as people write it.

    Examples
    --------
    >>> money(123456, "EUR"), money(500, "JPY"), money(1500, "KWD")
    ('1,234.56 EUR', '500 JPY', '1.500 KWD')
    """
    digits = 0 if currency in _NO_MINOR_UNIT else 3 if currency in _THOUSANDTHS else 2
    return f"{amount_minor / 10**digits:,.{digits}f} {currency}"


def _share_of(total_of: str, value: float, vector: FloatArray) -> str:
    if value <= 0.0:
        return ""
    total = float(vector[_PLACE[total_of]])
    return f" ({100.0 * value / total:.0f} % of them)" if total >= value else ""


def _usual(feature: int, vector: FloatArray, currency: str) -> str:
    compared = _COMPARED_AT.get(feature)
    if compared is None:
        return ""
    made, places = compared
    if isinstance(made, DailyMean):
        mean = daily_mean(vector, *places)
        if mean is None:
            return ""
        written = money(mean, currency) if _ORDERED[feature].form == "money" else _mean(mean)
        return f"; usual {written}{made.suffix}"
    others = others_before(vector, *places, ring=made.ring)
    return "" if others is None else f"; {others or 'no'} other{'s' * (others > 1)} in the {made.span} before"


def _mean(value: float) -> str:
    return f"{value:.0f}" if value >= 10.0 else f"{value:.1f}".removesuffix(".0")


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
_TEMPLATES: Final = tuple(
    tuple((_AGREEMENT.sub(r"\1", text), _AGREEMENT.sub(r"\2", text)) for text in (wording.text, wording.low_text))
    for wording in _ORDERED
)
"""Per feature, by whether the value is low: the sentence for one and for many."""
