"""Nightly profiles know the days before their midnight and nothing after it."""

import statistics
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fraud.transaction import Transaction
from tests.support.lakes import DAY_MS, moment, random_payments, write_lake
from training.errors import UnreadableSource
from training.profiles import PUBLISHED_AFTER_MS, last_day, profiles_up_to_date, write_profiles

PAYMENTS = random_payments(31, 400)
TWO_HOURS_MS = 2 * 3_600_000


def nothing(_done: int, _total: int) -> None:
    """Show no progress."""


def profiles_of(folder: Path, payments: list[Transaction]) -> dict[str, list[dict[str, object]]]:
    write_lake(folder, payments)
    write_profiles(folder, progress=nothing)
    return {name: pq.read_table(folder / "profiles" / name).to_pylist() for name in ("card", "merchant")}


def slow_card_rows(payments: list[Transaction]) -> list[dict[str, object]]:
    """Every card and night, by filtering the whole log again for each."""
    first_seen = list(dict.fromkeys(p.country for p in sorted(payments, key=lambda p: p.event_time_ms)))
    rows = []
    for card in {p.card_id for p in payments}:
        own = [p for p in payments if p.card_id == card]
        for day in {p.event_time_ms // DAY_MS for p in own}:
            midnight = (day + 1) * DAY_MS
            past = [p for p in own if p.event_time_ms < midnight]
            recent = [p for p in past if p.event_time_ms >= midnight - 30 * DAY_MS]
            votes = Counter(p.country for p in recent)
            rows.append(
                {
                    "card_id": card,
                    "card_home_country": max(first_seen, key=lambda name: votes[name]),
                    "card_age_days": (midnight - min(p.event_time_ms for p in past)) // DAY_MS,
                    "card_amount_median_30d": float(statistics.median(p.amount_minor for p in recent)),
                    "card_online_share_30d": sum(p.channel in ("online", "app") for p in recent) / len(recent),
                    "event_timestamp": moment(midnight + TWO_HOURS_MS),
                    "created_timestamp": moment(midnight + TWO_HOURS_MS),
                }
            )
    return sorted(rows, key=lambda row: (str(row["event_timestamp"]), str(row["card_id"])))


def test_card_profiles_equal_a_slow_oracle(tmp_path: Path) -> None:
    found = profiles_of(tmp_path, PAYMENTS)["card"]
    assert len(found) > 100
    assert found == slow_card_rows(PAYMENTS)


def test_merchant_profiles_count_distinct_cards_of_thirty_days(tmp_path: Path) -> None:
    found = profiles_of(tmp_path, PAYMENTS)["merchant"]
    for row in found:
        time = row["event_timestamp"]
        midnight = int(time.timestamp() * 1000) - TWO_HOURS_MS  # type: ignore[attr-defined]
        span = (midnight - 30 * DAY_MS, midnight)
        cards = {
            p.card_id for p in PAYMENTS if p.merchant_id == row["merchant_id"] and span[0] <= p.event_time_ms < span[1]
        }
        assert row["merchant_card_distinct_30d"] == len(cards)
    assert len(found) == len({(p.merchant_id, p.event_time_ms // DAY_MS) for p in PAYMENTS})


def test_what_happens_from_midnight_on_changes_no_profile_of_the_night(tmp_path: Path) -> None:
    middle = PAYMENTS[200].event_time_ms // DAY_MS * DAY_MS
    past = [p for p in PAYMENTS if p.event_time_ms < middle]
    short, whole = profiles_of(tmp_path / "short", past), profiles_of(tmp_path / "whole", PAYMENTS)
    known = moment(middle + PUBLISHED_AFTER_MS)
    for name in ("card", "merchant"):
        before = [row for row in whole[name] if row["event_timestamp"] <= known]  # type: ignore[operator]
        assert before == short[name]
        assert len(before) < len(whole[name])


def test_profiles_are_published_after_the_midnight_they_describe(tmp_path: Path) -> None:
    found = profiles_of(tmp_path, PAYMENTS)
    offsets = {int(row["event_timestamp"].timestamp() * 1000) % DAY_MS for row in found["card"]}  # type: ignore[attr-defined]
    assert offsets == {PUBLISHED_AFTER_MS}


def test_profiles_are_due_again_when_the_log_has_grown(tmp_path: Path) -> None:
    days = sorted({p.event_time_ms // DAY_MS for p in PAYMENTS})
    early = [p for p in PAYMENTS if p.event_time_ms // DAY_MS != days[-1]]
    write_lake(tmp_path, early)
    assert not profiles_up_to_date(tmp_path)
    write_profiles(tmp_path, progress=nothing)
    assert profiles_up_to_date(tmp_path)
    write_lake(tmp_path, PAYMENTS)
    assert not profiles_up_to_date(tmp_path)


def test_the_same_log_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        profiles_of(tmp_path / name, PAYMENTS)
    for entity in ("card", "merchant"):
        one, other = (tmp_path / name / "profiles" / entity / "part-0.parquet" for name in ("one", "other"))
        assert one.read_bytes() == other.read_bytes()


def test_a_lake_without_a_log_says_what_to_do(tmp_path: Path) -> None:
    for ask in (last_day, profiles_up_to_date):
        with pytest.raises(UnreadableSource, match="has no day: generate or import"):
            ask(tmp_path)
    with pytest.raises(UnreadableSource, match="has no day"):
        write_profiles(tmp_path, progress=nothing)
