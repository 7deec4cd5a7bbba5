"""Values of an environment's file: taken as they are, or refused by the key's name with what would do.

A key is given as it is to be read in a message: the file, the section and its own name.
"""

import re
from collections.abc import Collection
from datetime import date, datetime
from typing import Any, Final

import boto3

from infra.catalogue import instance_types, near
from infra.errors import InvalidEnvironment

MOST_TYPES: Final = 5
"""Instance types that SageMaker takes for one variant."""

FIRST_DAY: Final = date(2020, 1, 1)
LAST_DAY: Final = date(2099, 12, 31)
"""A date beyond them is a typing mistake."""


def table(at: str, content: Any, names: Collection[str], optional: Collection[str] = ()) -> dict[str, Any]:
    """Return a table that has all of ``names``, any of ``optional`` and nothing else."""
    if not isinstance(content, dict):
        raise InvalidEnvironment(f"{at}={content!r} is no table; it has the keys {', '.join(names)}")
    odd = sorted(content.keys() ^ {*names, *(key for key in optional if key in content)})
    if odd:
        raise InvalidEnvironment(f"{at}.{odd[0]} is missing or unknown; known are {', '.join([*names, *optional])}")
    return content


def tables(at: str, content: Any) -> list[Any]:
    """Return a list of tables, each still to be looked at."""
    if not isinstance(content, list):
        raise InvalidEnvironment(
            f"{at}={content!r} is no list of tables; begin each of them with [[{at.rpartition(' ')[2]}]]"
        )
    return content


def whole(key: str, value: Any, low: int, high: int) -> int:
    """Return a whole number in ``low..high``."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidEnvironment(f"{key}={value!r} is no whole number in {low}..{high}")
    return value


def text(key: str, value: Any, pattern: str) -> str:
    """Return a text that the whole of a pattern matches."""
    if not matches(pattern, value):
        raise InvalidEnvironment(f"{key}={value!r} does not match {pattern}")
    return str(value)


def types(key: str, value: Any) -> tuple[str, ...]:
    """Return one to five instance types of endpoints, each once."""
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_TYPES:
        raise InvalidEnvironment(f"{key}={value!r} is no list of 1 to {MOST_TYPES} types such as 'ml.c7i.large'")
    for number, item in enumerate(value):
        if item not in instance_types():
            raise InvalidEnvironment(
                f"{key}[{number}]={item!r} is no instance type of endpoints that boto3 {boto3.__version__} knows "
                f"(near: {near(str(item), instance_types())}); correct it, or take a newer boto3"
            )
        if item in value[:number]:
            raise InvalidEnvironment(f"{key}[{number}]={item!r} is named twice; name each type once")
    return tuple(value)


def day(key: str, value: Any) -> date:
    """Return a date."""
    if not isinstance(value, date) or isinstance(value, datetime):
        raise InvalidEnvironment(f"{key}={value!r} is no date; write it without quotes and without a time: 2026-11-26")
    if not FIRST_DAY <= value <= LAST_DAY:
        raise InvalidEnvironment(f"{key}={value} does not lie in {FIRST_DAY}..{LAST_DAY}")
    return value


def matches(pattern: str, value: Any) -> bool:
    """Return whether a value is a text that the whole of a pattern matches."""
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None
