"""Slow, obviously right twins of what the product computes fast. Nothing here shares code with what it checks."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fraud.windows import LARGE_AFTER, RING_READ, SMALL_AMOUNT_MINOR, WINDOWS

DAY = 86_400_000


@dataclass(frozen=True)
class Event:
    """A transaction (or a fraud report) as one entity sees it."""

    time_ms: int
    name: str
    amount: int
    party: str
    other: str
    country: str
    declined: bool = False
    report: bool = False


def ring_values(events: Sequence[Event], as_of_ms: int, party: str) -> dict[str, float]:
    """Every statistic of every window of a ring, by filtering the whole history again for each."""
    unique = {(event.time_ms, event.name, event.report): event for event in events}
    before = sorted((e for e in unique.values() if e.time_ms < as_of_ms), key=lambda e: e.time_ms)[-RING_READ:]
    usual = [e.amount for e in before if as_of_ms - WINDOWS[-1].length_ms <= e.time_ms and not e.report]
    out: dict[str, float] = {}
    for window in WINDOWS:
        inside = [e for e in before if as_of_ms - window.length_ms <= e.time_ms]
        paid = [e for e in inside if not e.report]
        amounts = [e.amount for e in paid]
        values = {
            "transaction_count": len(paid),
            "amount_sum": sum(amounts),
            "amount_mean": sum(amounts) / len(amounts) if amounts else math.nan,
            "amount_max": max(amounts) if amounts else math.nan,
            "amount_std": statistics.stdev(amounts) if len(amounts) > 1 else math.nan,
            "party_distinct": len({e.party for e in paid}),
            "other_distinct": len({e.other for e in paid if e.other}),
            "country_distinct": len({e.country for e in paid}),
            "declined_count": sum(e.declined for e in paid),
            "small_count": sum(a <= SMALL_AMOUNT_MINOR for a in amounts),
            "report_count": sum(e.report for e in inside),
            "large_count": sum(a * len(usual) > 3 * sum(usual) for a in amounts),
        }
        out |= {f"{name}_{window.label}": float(value) for name, value in values.items()}
    month = [e for e in before if as_of_ms - WINDOWS[-1].length_ms <= e.time_ms and not e.report]
    week, delay = 7 * DAY, 7 * DAY
    reports = [e for e in before if as_of_ms - week <= e.time_ms and e.report]
    matured = [e for e in before if as_of_ms - delay - week <= e.time_ms < as_of_ms - delay and not e.report]
    out["report_risk_7d"] = len(reports) / max(1, len(matured))
    out["previous_seconds"] = (as_of_ms - month[-1].time_ms) / 1000 if month else math.nan
    out["party_known_30d"] = float(any(e.party == party for e in month))
    return out


def tile_values(events: Sequence[Event], as_of_ms: int) -> dict[str, float]:
    """Every statistic of every tile-aligned window, by filtering the whole history again for each."""
    unique = {(event.time_ms, event.name, event.report): event for event in events}
    out: dict[str, float] = {}
    for window in WINDOWS:
        floor = (as_of_ms - window.length_ms) // window.tile_ms * window.tile_ms
        inside = [e for e in unique.values() if floor <= e.time_ms < as_of_ms]
        paid = [e for e in inside if not e.report]
        count = len(paid)
        reports = sum(e.report for e in inside)
        values = {
            "transaction_count": count,
            "amount_sum": sum(e.amount for e in paid),
            "amount_mean": sum(e.amount for e in paid) / count if count else math.nan,
            "declined_count": sum(e.declined for e in paid),
            "declined_share": sum(e.declined for e in paid) / count if count else math.nan,
            "small_share": sum(e.amount <= SMALL_AMOUNT_MINOR for e in paid) / count if count else math.nan,
            "report_count": reports,
            "report_share": reports / count if count else math.nan,
            "large_share": sum(_is_large(e, unique.values()) for e in paid) / count if count else math.nan,
        }
        out |= {f"{name}_{window.label}": float(value) for name, value in values.items()}
    return out | _risks(list(unique.values()), as_of_ms)


def _risks(events: Sequence[Event], as_of_ms: int) -> dict[str, float]:
    """Reports of whole days before today over the payments of as many days, seven days earlier; ages of reports."""
    today = as_of_ms // DAY
    floor = (as_of_ms - 30 * DAY) // DAY * DAY
    reported = sorted(e.time_ms // DAY for e in events if e.report and floor <= e.time_ms < as_of_ms)
    out = {
        "report_first_days": (as_of_ms - reported[0] * DAY) / DAY if reported else math.nan,
        "report_last_days": (as_of_ms - reported[-1] * DAY) / DAY if reported else math.nan,
    }
    for label, days in (("24h", 1), ("7d", 7), ("30d", 30)):
        reports = [e for e in events if e.report and today - days <= e.time_ms // DAY < today]
        matured = [e for e in events if not e.report and today - 7 - days <= e.time_ms // DAY < today - 7]
        out[f"report_risk_{label}"] = len(reports) / max(1, len(matured))
    return out


def _is_large(event: Event, history: Iterable[Event]) -> bool:
    """More than three times the merchant's mean over its last 30 aligned days, once it has 20 payments to compare."""
    month = WINDOWS[-1]
    floor = (event.time_ms - month.length_ms) // month.tile_ms * month.tile_ms
    usual = [e.amount for e in history if floor <= e.time_ms < event.time_ms and not e.report]
    return len(usual) >= LARGE_AFTER and event.amount * len(usual) > 3 * sum(usual)
