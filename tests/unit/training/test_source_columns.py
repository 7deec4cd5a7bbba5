"""Texts, numbers and times of any type mean the same; what cannot be read is null and never another value."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.mapping import Moment
from training.source_columns import NEVER, numbers, texts, times_ms


def moment(**rule: Any) -> Moment:
    return Moment(columns=("when",), **rule)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([7, None]),
        pa.array([7.0, float("nan")]),
        pa.array([" 7 ", " "]),
        pa.array(["7.0", None]),
        pa.array([b"7", None]),
        pa.array(["7", "NA"]),
    ],
    ids=["int", "float", "text", "float text", "bytes", "missing"],
)
def test_one_value_is_one_text_whatever_its_type(column: pa.Array) -> None:
    assert texts(column, ("", "NA")).to_pylist() == ["7", None]


def test_a_wide_number_keeps_every_digit() -> None:
    assert texts(pa.array([3_527_213_246_127_876_953])).to_pylist() == ["3527213246127876953"]
    assert texts(pa.array([4_111_111_111_111_111.0])).to_pylist() == ["4111111111111111"]


def test_numbers_are_finite_or_nothing() -> None:
    found = numbers(pa.array(["$1,019.5", "-3", "1e3", ".5", "1e999", "nan", "ten", "1 2", "", None]), strip="$,")
    assert found[:4].tolist() == [1019.5, -3.0, 1000.0, 0.5]
    assert np.isnan(found[4:]).all()
    assert numbers(pa.array(["1.019,99"]), strip=".", decimal=",").tolist() == [1019.99]
    assert numbers(pa.array([Decimal("19.99")])).tolist() == [19.99]
    assert np.isnan(numbers(pa.array([float("inf"), None]))).all()


@given(st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)))  # noqa: DTZ001  # local times on purpose
def test_a_time_reads_the_same_as_text_type_and_number(when: datetime) -> None:
    when = when.replace(microsecond=when.microsecond // 1000 * 1000)
    expected = (when.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    whole = expected // 1000 * 1000
    assert times_ms([pa.array([when.isoformat()])], moment()).tolist() == [expected]
    assert times_ms([pa.array([when.isoformat() + "+02:00"])], moment()).tolist() == [expected - 7_200_000]
    assert times_ms([pa.array([when])], moment()).tolist() == [expected]
    assert times_ms([pa.array([expected])], moment(unit="ms")).tolist() == [expected]
    assert times_ms([pa.array([str(expected)])], moment(unit="ms")).tolist() == [expected]
    text = pa.array([when.strftime("%d/%m/%Y %H-%M-%S")])
    assert times_ms([text], moment(format="%d/%m/%Y %H-%M-%S")).tolist() == [whole]
    parts = [pa.array([when.date()]), pa.array([when.strftime("%H%M%S")])]
    assert times_ms(parts, moment(format="%Y-%m-%d %H%M%S")).tolist() == [whole]


@pytest.mark.parametrize("text", ["2026-02-30", "2026-02-30 10:00:00", "2026-13-01", "01.02.2026", "soon", "", None])
def test_a_day_that_does_not_exist_is_no_time(text: str | None) -> None:
    column = pa.array([text, "2026-03-01 10:00:00"], pa.string())
    for rule in (moment(), moment(format="%Y-%m-%d %H:%M:%S"), moment(format="%Y-%m-%d %H:%M:%S", zone="Asia/Tokyo")):
        found = times_ms([column], rule)
        assert found[0] == NEVER
        assert found[1] != NEVER


def test_clock_changes_have_a_rule() -> None:
    night = pa.array(["2026-03-29 02:30:00", "2026-10-25 02:30:00", "2026-07-01 02:30:00"])
    found = times_ms([night], moment(zone="Europe/Berlin"))
    said = [datetime.fromtimestamp(time / 1000, UTC).strftime("%H:%M") for time in found.tolist()]
    assert said == ["01:00", "00:30", "00:30"]


def test_seconds_count_from_an_origin_of_a_zone() -> None:
    rule = moment(unit="s", origin="2017-12-01T00:00:00", zone="America/New_York")
    assert times_ms([pa.array([1.5, None])], rule).tolist() == [1_512_104_401_500, NEVER]


def test_a_date_alone_is_its_midnight() -> None:
    assert times_ms([pa.array([date(1970, 1, 2)])], moment()).tolist() == [86_400_000]
