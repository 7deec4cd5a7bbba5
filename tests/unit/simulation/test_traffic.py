from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fraud.errors import InvalidSetting
from simulation.traffic import Trace, make_trace, read_trace, write_trace

BERLIN = ZoneInfo("Europe/Berlin")


def rate_at(trace: Trace, local: str) -> float:
    second = datetime.fromisoformat(local).replace(tzinfo=BERLIN).timestamp()
    return float(trace.rates[np.searchsorted(trace.edges, second, side="right") - 1])


def test_payday_surges_at_six_local_and_is_busier_than_ordinary_days() -> None:
    payday, ordinary = make_trace("payday"), make_trace("ordinary")
    assert rate_at(payday, "2026-03-25T18:30") == pytest.approx(2.5 * 3_800, rel=0.03)
    assert rate_at(payday, "2026-03-25T12:30") > 1.5 * rate_at(ordinary, "2026-03-11T12:30")
    assert ordinary.rates.max() == pytest.approx(2_000, rel=0.05)
    busiest = datetime.fromtimestamp(payday.edges[int(payday.rates.argmax())], BERLIN)
    assert (busiest.day, busiest.hour) == (25, 18)


def test_surge_builds_up_within_its_ramp() -> None:
    gentle, sudden = make_trace("payday", ramp_minutes=30), make_trace("payday", ramp_minutes=0)
    assert rate_at(sudden, "2026-03-25T18:01") > 2.4 * rate_at(sudden, "2026-03-25T17:59")
    assert rate_at(gentle, "2026-03-25T18:01") < 1.2 * rate_at(gentle, "2026-03-25T17:59")


@pytest.mark.parametrize(
    ("last", "hours"), [(date(2026, 3, 29), 47), (date(2026, 10, 25), 49), (date(2026, 3, 25), 48)]
)
def test_days_are_local_days_across_the_change_of_clocks(last: date, hours: int) -> None:
    trace = make_trace("payday", payday=last)
    assert (trace.end - trace.start) / 3600 == hours
    assert datetime.fromtimestamp(trace.start, BERLIN).hour == 0
    assert datetime.fromtimestamp(trace.end, BERLIN).hour == 0


def test_file_gives_back_the_trace(tmp_path: Path) -> None:
    trace = make_trace("payday", days=1)
    write_trace(trace, tmp_path / "payday.csv")
    again = read_trace(tmp_path / "payday.csv")
    assert np.array_equal(again.edges, trace.edges)
    assert np.allclose(again.rates, trace.rates, atol=5e-4)


def test_arrivals_are_poisson_at_the_rates_and_in_order() -> None:
    trace = Trace(np.array([0.0, 100.0, 130.0, 400.0]), np.array([50.0, 0.0, 200.0]))
    steps = list(trace.draw(np.random.default_rng(3), 10.0))
    arrivals = np.concatenate([found for _, found in steps])
    assert np.all(np.diff(arrivals) >= 0.0)
    assert [end for end, _ in steps] == pytest.approx(np.arange(10.0, 401.0, 10.0))
    assert all(found.max(initial=0.0) <= end for end, found in steps)
    counts = np.histogram(arrivals, [0.0, 100.0, 130.0, 400.0])[0]
    assert counts[1] == 0
    assert counts[0] == pytest.approx(5_000, abs=4 * np.sqrt(5_000))
    assert counts[2] == pytest.approx(54_000, abs=4 * np.sqrt(54_000))
    gaps = np.diff(arrivals[arrivals > 130.0])
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.03)


def test_part_of_a_trace_has_its_transactions() -> None:
    trace = make_trace("payday", days=1)
    part = trace.between(trace.start + 1_234.5, trace.start + 5_432.1)
    assert part.transactions(part.start, part.end) == pytest.approx(trace.transactions(part.start, part.end))
    assert part.end - part.start == pytest.approx(5_432.1 - 1_234.5)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["2026-03-25T00:00:00,5"], "offset"),
        (["2026-03-25T00:00:00Z,-1"], "-1"),
        (["yesterday,5"], "yesterday"),
        (["2026-03-25T00:00:00Z,5"], "two or more"),
        (["2026-03-25T00:01:00Z,5", "2026-03-25T00:00:00Z,5"], "row 2"),
    ],
)
def test_bad_file_is_refused_with_what_is_wrong(tmp_path: Path, rows: list[str], said: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["start,rate", *rows]))
    with pytest.raises(InvalidSetting, match=said):
        read_trace(path)


def test_absent_column_or_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("when,rate\n1,2\n")
    for name in ("trace.csv", "nowhere.csv"):
        with pytest.raises(InvalidSetting, match=name):
            read_trace(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"# Tollgate\n\nFraud.\n", r"trace\.csv has no column rate and no start; a trace is CSV with the columns"),
        (b"", r"trace\.csv has no column rate and no start"),
        (b"start\n2026-03-25T00:00:00Z\n", r"trace\.csv has no column rate; a trace is"),
        (b"start,rate\n" + b"x" * 200_000, r"trace\.csv, row 1: field larger"),
    ],
)
def test_file_that_is_no_trace_is_told_the_columns_of_one(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "trace.csv").write_bytes(content)
    with pytest.raises(InvalidSetting, match=said):
        read_trace(tmp_path / "trace.csv")


def test_impossible_traces_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="days 0"):
        make_trace("payday", days=0)
    with pytest.raises(InvalidSetting, match=r"surge 0\.5"):
        make_trace("payday", surge=0.5)


def test_rate_holds_until_the_next_row(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("start,rate\n2026-03-25T00:00:00+01:00,5\n2026-03-25T00:10:00+01:00,7\n")
    trace = read_trace(path)
    assert trace.start == datetime(2026, 3, 24, 23, tzinfo=UTC).timestamp()
    assert trace.transactions(trace.start, trace.end) == pytest.approx(600 * 5 + 600 * 7)
