"""Durations as a person writes them."""

import re
from typing import Final

from fraud.windows import DAY, HOUR, MINUTE
from training.errors import InvalidDuration

_UNITS: Final = {"ms": 1, "s": 1000, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_DURATION: Final = re.compile(r"(\d{1,9})(ms|s|m|h|d|w)")


def duration_ms(name: str, text: str) -> int:
    """Return a duration such as ``30d``, ``12h``, ``90m``, ``2s`` or ``250ms`` in milliseconds.

    Parameters
    ----------
    name
        What the duration is of, for the error.

    Raises
    ------
    InvalidDuration
        The text is no whole number with a unit.

    Examples
    --------
    >>> duration_ms("lag", "2s"), duration_ms("label delay", "30d")
    (2000, 2592000000)
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise InvalidDuration(f"{name} {text!r} is not a duration such as 30d, 12h, 90m, 2s or 250ms")
    return int(found[1]) * _UNITS[found[2]]


def duration_text(time_ms: int) -> str:
    """Return a duration in the largest unit that holds it whole.

    Examples
    --------
    >>> duration_text(2_592_000_000), duration_text(5_400_000), duration_text(0)
    ('30d', '90m', '0s')
    """
    for unit in ("d", "h", "m", "s"):
        if time_ms and time_ms % _UNITS[unit] == 0:
            return f"{time_ms // _UNITS[unit]}{unit}"
    return f"{time_ms}ms" if time_ms else "0s"
