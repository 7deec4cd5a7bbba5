"""The lot is fair, repeatable and secret; what it costs stays under its caps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.control_group import LARGEST_SHARE, MOST_A_DAY, Allowance, ControlGroup
from fraud.errors import InvalidPolicy

GROUP = ControlGroup(0.1, "salt", amount_at_most=1000, daily_amount=5000)


def test_lots_are_uniform() -> None:
    lots = np.array([GROUP.lot(f"t{number}") for number in range(20_000)])
    counts, _ = np.histogram(lots, bins=20, range=(0.0, 1.0))
    assert counts.sum() == 20_000
    assert ((counts - 1000.0) ** 2 / 1000.0).sum() < 43.8  # chi-squared of 19 degrees, one in a thousand
    assert (lots < 0.1).mean() == pytest.approx(0.1, abs=0.01)


def test_a_lot_hangs_on_the_transaction_and_the_salt_alone() -> None:
    again = ControlGroup(0.3, "salt", amount_at_most=7, daily_amount=7)
    other = ControlGroup(0.1, "another", amount_at_most=1000, daily_amount=5000)
    names = [f"t{number}" for number in range(2000)]
    assert [GROUP.lot(name) for name in names] == [again.lot(name) for name in names]
    ours, theirs = (np.array([group.lot(name) for name in names]) for group in (GROUP, other))
    assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.08


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 1500), st.integers(0, 3)), max_size=200))
def test_no_day_costs_more_than_its_allowance_and_no_transaction_counts_twice(
    drawn: list[tuple[int, int, int]],
) -> None:
    allowance = Allowance()
    amounts = {number: amount for number, amount, _ in drawn}
    spent: dict[int, dict[int, int]] = {}
    for number, _, day in sorted(drawn, key=lambda item: item[2]):
        if allowance.covers(GROUP, f"t{number}", amounts[number], day):
            allowance.take(f"t{number}", amounts[number], day)
            spent.setdefault(day, {})[number] = amounts[number]
        else:
            assert amounts[number] > 1000 or allowance.spent + amounts[number] > 5000
        assert allowance.spent == sum(spent.get(day, {}).values()) <= 5000
    assert all(amount <= 1000 for held in spent.values() for amount in held.values())


def test_a_retry_is_let_through_again_when_the_allowance_is_used_up() -> None:
    allowance = Allowance()
    for number in range(5):
        allowance.take(f"t{number}", 1000, day=1)
    assert allowance.covers(GROUP, "t3", 1000, day=1)
    assert not allowance.covers(GROUP, "t9", 1, day=1)
    assert allowance.covers(GROUP, "t9", 1, day=2)


def test_what_is_remembered_is_bounded() -> None:
    group, allowance = ControlGroup(0.5, "s", amount_at_most=10, daily_amount=10**9), Allowance()
    for number in range(MOST_A_DAY + 50):
        if allowance.covers(group, f"t{number}", 1, day=1):
            allowance.take(f"t{number}", 1, day=1)
    assert allowance.spent == MOST_A_DAY


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"share": -0.1}, "share -0.1 is not in"),
        ({"share": LARGEST_SHARE + 0.01}, "is not in"),
        ({"share": float("nan")}, "share nan is not in"),
        ({"salt": ""}, "needs a salt"),
        ({"amount_at_most": 0}, "amount_at_most=0"),
        ({"daily_amount": 999}, "daily_amount=999"),
        ({"salt": "s" * 65}, "longer than 64 bytes"),
    ],
)
def test_a_group_without_salt_or_caps_is_refused(changes: dict[str, object], said: str) -> None:
    fields = {"share": 0.1, "salt": "s", "amount_at_most": 1000, "daily_amount": 5000} | changes
    with pytest.raises(InvalidPolicy, match=said):
        ControlGroup(**fields)  # type: ignore[arg-type]


def test_no_group_needs_nothing() -> None:
    assert ControlGroup().share == 0.0


def test_workers_share_one_allowance() -> None:
    parts = [Allowance(4) for _ in range(4)]
    for place, allowance in enumerate(parts):
        for number in range(50):
            if allowance.covers(GROUP, f"t{place}-{number}", 300, day=1):
                allowance.take(f"t{place}-{number}", 300, day=1)
    assert [allowance.spent for allowance in parts] == [1200] * 4
    assert sum(allowance.spent for allowance in parts) <= GROUP.daily_amount
