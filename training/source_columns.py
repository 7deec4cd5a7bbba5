"""Columns of a source as texts, numbers and times; what cannot be read is null and the caller says so.

Text is taken without the white space around it. A whole number reads the same whether its column is typed whole,
typed with a fraction, or text: ``1``, ``1.0`` and ``"1"`` are one value.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.mapping import Moment

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NEVER: Final = np.iinfo(np.int64).min
"""A time that could not be read."""

_NUMBER: Final = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?$"
_ISO: Final = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?)?(?P<zone>Z|[+-]\d{2}:?\d{2})?$"
_PER_UNIT: Final = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_DIRECTIVE: Final = re.compile("%(.)")
_ARROW_KNOWS: Final = "YmdHMS"
_DAYS_THAT_ROLL_OVER: Final = 3


def texts(column: Any, missing: Sequence[str] = ("",)) -> Any:
    """Return a column as an Arrow string array; null where nothing stands, as one of ``missing`` says."""
    if pa.types.is_floating(column.type):
        values = column.cast(pa.float64())
        whole = pc.and_(pc.equal(pc.round(values), values), pc.less(pc.abs(values), 2.0**53))
        whole = pc.fill_null(whole, fill_value=False)
        digits = pc.if_else(whole, values, None).cast(pa.int64()).cast(pa.string())
        values = pc.if_else(pc.is_nan(values), None, values)
        return pc.if_else(whole, digits, values.cast(pa.string()))
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    zeros = r"(:\d{2})\.0+$" if pa.types.is_temporal(column.type) else r"^(-?\d+)\.0$"
    text = pc.replace_substring_regex(text, zeros, r"\1")
    return pc.if_else(pc.is_in(text, pa.array(missing, pa.string())), None, text)


def numbers(column: Any, *, strip: str = "", decimal: str = ".", missing: Sequence[str] = ("",)) -> FloatArray:
    """Return a column of numbers; NaN where there is none that is finite."""
    if _is_number(column.type):
        values = column.cast(pa.float64(), safe=False)
    else:
        text = texts(column, missing)
        for character in strip:
            text = pc.replace_substring(text, character, "")
        text = pc.replace_substring(text, decimal, ".") if decimal != "." else text
        good = pc.match_substring_regex(text, _NUMBER)
        values = pc.if_else(good, text, None).cast(pa.float64())
    out = pc.fill_null(values, float("nan")).to_numpy(zero_copy_only=False)
    return np.where(np.isfinite(out), out, np.nan)


def times_ms(columns: Sequence[Any], moment: Moment, missing: Sequence[str] = ("",)) -> IntArray:
    """Return the times that some columns say, epoch milliseconds rounded down; ``NEVER`` where they say none."""
    if moment.unit is not None:
        return _counted(numbers(columns[0], missing=missing), moment)
    if len(columns) == 1 and pa.types.is_temporal(columns[0].type):
        typed = columns[0]
        if getattr(typed.type, "tz", None) is not None:
            return _milliseconds(typed.cast(pa.timestamp("us", "UTC"), safe=False))
        return _milliseconds(_placed(typed.cast(pa.timestamp("us"), safe=False), moment.zone))
    parts = [texts(column, missing) for column in columns]
    text = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, " ")
    if moment.format is not None:
        return _milliseconds(_placed(_formatted(text, moment.format), moment.zone))
    return _iso(text, moment.zone)


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))  # decimals are read as text: exactly


def _counted(values: FloatArray, moment: Moment) -> IntArray:
    origin = datetime.fromisoformat(moment.origin)
    origin = origin if origin.tzinfo else origin.replace(tzinfo=ZoneInfo(moment.zone))
    start = round(origin.timestamp() * 1000)
    known = np.isfinite(values) & (np.abs(values) < 2.0**62)
    since = np.floor(np.where(known, values, 0.0) * _PER_UNIT[moment.unit or "s"]).astype(np.int64)
    return np.where(known, since + start, NEVER)


def _milliseconds(moments: Any) -> IntArray:
    """Return times of whole microseconds as epoch milliseconds."""
    known = moments.is_valid().to_numpy(zero_copy_only=False)
    us = pc.fill_null(moments.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return np.where(known, us // 1000, NEVER)


def _placed(naive: Any, zone: str) -> Any:
    """Return local times as times of the zone; see :class:`training.mapping.Moment` for clock changes."""
    return pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="latest")


def _formatted(text: Any, form: str) -> Any:
    """Return texts of a format as naive times."""
    if not set(_DIRECTIVE.findall(form)) <= set(_ARROW_KNOWS):
        return _slowly(text, form)
    parsed = pc.strptime(text, format=form, unit="us", error_is_null=True)
    # Arrow lets 31 February roll over to 3 March: look twice where that may have happened.
    early = pc.fill_null(pc.less_equal(pc.day(parsed), _DAYS_THAT_ROLL_OVER), fill_value=False)
    again = _slowly(pc.filter(text, early), form)
    return pc.replace_with_mask(parsed, early, again)


def _slowly(text: Any, form: str) -> Any:
    return pa.array([_parsed(value, form) for value in text.to_pylist()], pa.timestamp("us"))


def _parsed(value: str | None, form: str) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.strptime(value, form).replace(tzinfo=None)  # noqa: DTZ007  # the mapping names the zone
    except ValueError:
        return None


def _iso(text: Any, zone: str) -> IntArray:
    """Return ISO 8601 texts as epoch milliseconds."""
    found = pc.match_substring_regex(text, _ISO)
    offset = pc.match_substring_regex(text, r"\d(Z|[+-]\d{2}:?\d{2})$")
    offset = pc.fill_null(pc.and_(offset, pc.match_substring(text, ":")), fill_value=False)
    good = pc.fill_null(found, fill_value=False)
    here = pc.if_else(pc.and_not(good, offset), text, None)
    there = pc.if_else(pc.and_(good, offset), text, None)
    local = _milliseconds(_placed(_cast_iso(here, pa.timestamp("us")), zone))
    if not there.null_count < len(there):
        return local
    return np.maximum(local, _milliseconds(_cast_iso(there, pa.timestamp("us", "UTC"))))


def _cast_iso(text: Any, kind: Any) -> Any:
    """Return texts of the right shape as times; a day that does not exist is null."""
    try:
        return text.cast(kind)
    except pa.ArrowInvalid:
        found = [_from_iso(value, kind.tz is not None) for value in text.to_pylist()]
        return pa.array(found, pa.timestamp("us")).cast(kind) if kind.tz is None else pa.array(found, kind)


def _from_iso(value: str | None, aware: bool) -> datetime | None:  # noqa: FBT001  # private, and named at its caller
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found.astimezone(UTC) if aware else found
