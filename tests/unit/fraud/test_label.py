"""Which statement counts, and when its absence does."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.errors import InvalidLabel
from fraud.label import PRECEDENCE, Label, Source, is_mature, settle

DAY = 86_400_000


def label(source: Source, arrival: int, *, is_fraud: bool = True, made: int = 0) -> Label:
    return Label("t", is_fraud, source, made, arrival)


def test_verdict_outranks_chargeback_outranks_report_in_any_order() -> None:
    report, chargeback, verdict = label("report", 30), label("chargeback", 20), label("verdict", 10)
    for order in itertools.permutations([report, chargeback, verdict]):
        assert settle(list(order), 100) is verdict
    for pair in itertools.permutations([report, chargeback]):
        assert settle(list(pair), 100) is chargeback


def test_latest_arrival_of_one_source_wins() -> None:
    first, second = label("chargeback", 10), label("chargeback", 20, is_fraud=False)
    assert settle([first, second], 100) is second
    assert settle([second, first], 100) is second


def test_statement_counts_from_the_millisecond_it_arrived() -> None:
    chargeback = label("chargeback", 50)
    assert settle([chargeback], 49) is None
    assert settle([chargeback], 50) is chargeback


def test_stronger_source_that_has_not_arrived_does_not_count_yet() -> None:
    report, verdict = label("report", 10), label("verdict", 90, is_fraud=False)
    assert settle([report, verdict], 89) is report
    assert settle([report, verdict], 90) is verdict


def test_nobody_spoke() -> None:
    assert settle([], 100) is None


labels = st.builds(
    lambda is_fraud, source, made, delay: Label("t", is_fraud, source, made, made + delay),
    st.booleans(),
    st.sampled_from(PRECEDENCE),
    st.integers(0, 3),
    st.integers(0, 3),
)


@given(
    st.lists(labels, max_size=6).flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))),
    st.integers(0, 6),
)
def test_settled_label_does_not_depend_on_the_order_of_statements(
    orders: tuple[list[Label], list[Label]], as_of: int
) -> None:
    assert settle(orders[0], as_of) == settle(orders[1], as_of)


@pytest.mark.parametrize(
    ("age", "delay", "mature"),
    [(30 * DAY, 30 * DAY, True), (30 * DAY - 1, 30 * DAY, False), (0, 0, True), (-1, 0, False)],
)
def test_maturity_begins_exactly_at_the_delay(age: int, delay: int, mature: bool) -> None:
    now = 1_770_000_000_000
    assert is_mature(now - age, now, delay) is mature


def test_label_that_arrived_before_it_was_made_is_refused() -> None:
    with pytest.raises(InvalidLabel, match="arrived at 9, before it was made at 10"):
        Label("t", True, "report", 10, 9)
    assert Label("t", True, "report", 10, 10).arrival_time_ms == 10


def test_unknown_source_is_refused() -> None:
    with pytest.raises(InvalidLabel, match="'rumour' is none of verdict, chargeback, report"):
        Label("t", True, "rumour", 1, 2)  # type: ignore[arg-type]
