"""The scaling plan of an environment: its own limits, time zone and peaks, with the policies of ``fraud/scaling.py``.

Limits and peaks differ between two deployments and stand in the section ``[scaling]`` of an environment's file. The
policies follow from what one instance can do and are code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar
from zoneinfo import available_timezones

from fraud.scaling import LAST_DAY, PLAN, Limits, MonthlyPeak, Promotion, ScalingPlan, scheduled_actions
from infra.errors import InvalidEnvironment
from infra.values import day, table, tables, text, whole

MOST_INSTANCES: Final = 1000
MOST_DAYS: Final = 366
"""Longest promotion."""

MOST_SCHEDULED: Final = 200
"""Scheduled minimums that Application Auto Scaling takes for one endpoint."""

LAST: Final = "last"
"""Stands for a month's last day in the file."""

_OF_THE_MACHINE: Final = ("localtime", "Factory")
_NAME: Final = r"[a-z][a-z0-9-]{0,39}"

Peak = TypeVar("Peak", MonthlyPeak, Promotion)
Peaks = Sequence[tuple[str, MonthlyPeak | Promotion]]
"""Peaks, each with the place where it stands in the file."""


def read_plan(at: str, content: Any, *, with_peaks: bool) -> ScalingPlan:
    """Return the plan that a section says.

    Parameters
    ----------
    at
        File and name of the section, for messages.
    content
        The section as TOML gives it.
    with_peaks
        Whether peaks hold; without them they are read, for their mistakes, and left out.

    Raises
    ------
    InvalidEnvironment
        A key is unknown, missing or out of range, or two of them contradict each other.
    """
    given = table(at, content, ("timezone", "min_instances", "max_instances"), ("monthly", "promotions"))
    limits = _limits(at, given)
    timezone = _timezone(f"{at}.timezone", given["timezone"])
    monthly = _listed(f"{at}.monthly", given, _monthly)
    promotions = _listed(f"{at}.promotions", given, _promotion)
    _check_names([*monthly, *promotions])
    _check_together(at, [peak for _, peak in monthly])
    quiet = replace(PLAN, limits=limits, timezone=timezone, monthly=(), promotions=())
    if not with_peaks:
        return quiet
    _check_minimums([*monthly, *promotions], limits)
    plan = replace(
        quiet,
        monthly=tuple(peak for _, peak in monthly),
        promotions=tuple(promotion for _, promotion in promotions),
    )
    scheduled = len(scheduled_actions(plan))
    if scheduled > MOST_SCHEDULED:
        raise InvalidEnvironment(
            f"{at}.promotions: the peaks make {scheduled} scheduled minimums and AWS takes {MOST_SCHEDULED}; take out "
            "promotions that are over, or shorten them"
        )
    return plan


def _limits(at: str, given: Mapping[str, Any]) -> Limits:
    low = whole(f"{at}.min_instances", given["min_instances"], 1, MOST_INSTANCES)
    high = whole(f"{at}.max_instances", given["max_instances"], 1, MOST_INSTANCES)
    if high < low:
        raise InvalidEnvironment(f"{at}.max_instances={high} lies below min_instances={low}; raise it, or lower that")
    return Limits(low, high)


def _timezone(key: str, value: Any) -> str:
    if value in _OF_THE_MACHINE:
        raise InvalidEnvironment(f"{key}={value!r} is another time zone on every machine; write one as Europe/Berlin")
    if not isinstance(value, str) or value not in available_timezones():
        raise InvalidEnvironment(
            f"{key}={value!r} is no time zone known here; write one as Europe/Berlin, and have tzdata installed"
        )
    return value


def _listed(at: str, given: Mapping[str, Any], read: Callable[[str, Any], Peak]) -> list[tuple[str, Peak]]:
    """Return the entries of an optional list of tables, each with its place."""
    content = tables(at, given.get(at.rpartition(".")[2], []))
    return [(place, read(place, item)) for place, item in ((f"{at}[{n}]", item) for n, item in enumerate(content))]


def _monthly(at: str, content: Any) -> MonthlyPeak:
    given = table(at, content, ("name", "days", "from_hour", "to_hour", "min_instances"))
    begin = whole(f"{at}.from_hour", given["from_hour"], 0, 22)
    end = whole(f"{at}.to_hour", given["to_hour"], 1, 23)
    if end <= begin:
        raise InvalidEnvironment(f"{at}.to_hour={end} is not after from_hour={begin}; a peak ends on its own day")
    return MonthlyPeak(
        text(f"{at}.name", given["name"], _NAME), _days(f"{at}.days", given["days"]), begin, end, _minimum(at, given)
    )


def _days(key: str, value: Any) -> tuple[int, ...]:
    if value == LAST:
        return (LAST_DAY,)
    if not isinstance(value, list) or not value or len(value) > len(set(map(repr, value))):
        raise InvalidEnvironment(f"{key}={value!r} is neither {LAST!r} nor a list of days of the month, each once")
    return tuple(whole(f"{key}[{number}]", item, 1, 31) for number, item in enumerate(value))


def _promotion(at: str, content: Any) -> Promotion:
    given = table(at, content, ("name", "first", "last", "min_instances"))
    first, last = day(f"{at}.first", given["first"]), day(f"{at}.last", given["last"])
    if last < first:
        raise InvalidEnvironment(f"{at}.last={last} lies before first={first}; the last day is part of it")
    if (last - first).days >= MOST_DAYS:
        raise InvalidEnvironment(f"{at}.last={last} lies over {MOST_DAYS} days from first={first}; is the year right?")
    return Promotion(text(f"{at}.name", given["name"], _NAME), first, last, _minimum(at, given))


def _minimum(at: str, given: Mapping[str, Any]) -> int:
    return whole(f"{at}.min_instances", given["min_instances"], 1, MOST_INSTANCES)


def _check_names(peaks: Peaks) -> None:
    """Refuse a second peak of one name: what is scheduled is kept by name, and the later one would replace it."""
    taken: dict[str, str] = {}
    for at, peak in peaks:
        if peak.name in taken:
            raise InvalidEnvironment(f"{at}.name={peak.name!r} is taken by {taken[peak.name]}; give it another")
        taken[peak.name] = at.rpartition(" ")[2]


def _check_together(at: str, monthly: Sequence[MonthlyPeak]) -> None:
    if len({(peak.from_hour, peak.to_hour, peak.min_instances) for peak in monthly}) > 1:
        raise InvalidEnvironment(
            f"{at}.monthly: peaks may meet on one day, and the end of one would cut the other short; give all of them "
            "the same from_hour, to_hour and min_instances"
        )


def _check_minimums(peaks: Peaks, limits: Limits) -> None:
    for at, peak in peaks:
        if not limits.min_instances <= peak.min_instances <= limits.max_instances:
            raise InvalidEnvironment(
                f"{at}.min_instances={peak.min_instances} does not lie in {limits.min_instances}.."
                f"{limits.max_instances}, the section's limits; change it, or min_instances or max_instances there"
            )
