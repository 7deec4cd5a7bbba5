"""Splits in time keep their gaps, and cards already known are left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import InvalidSplit
from training.ranking import DAY_MS
from training.split import SplitPlan, not_known_compromised, prequential_folds, split_by_time, start_ending

PLAN = SplitPlan(train_days=10, delay_days=3, validation_days=4, test_days=5)
TIME = np.random.default_rng(0).integers(0, 60 * DAY_MS, 5000)


def test_each_part_holds_exactly_the_rows_of_its_days() -> None:
    split = split_by_time(TIME, PLAN, start_ms=2 * DAY_MS)
    day = TIME // DAY_MS
    assert split.train.tolist() == np.flatnonzero((day >= 2) & (day < 12)).tolist()
    assert split.validation.tolist() == np.flatnonzero((day >= 15) & (day < 19)).tolist()
    assert split.test.tolist() == np.flatnonzero((day >= 22) & (day < 27)).tolist()


def test_every_label_has_arrived_when_the_next_part_starts() -> None:
    split = split_by_time(TIME, PLAN, start_ms=0)
    delay = PLAN.delay_days * DAY_MS
    assert TIME[split.train].max() + delay < split.validation_period.start_ms
    assert TIME[split.validation].max() + delay < split.test_period.start_ms


def test_without_validation_one_delay_lies_before_the_test() -> None:
    plan = SplitPlan(train_days=7, delay_days=7, test_days=7)
    split = split_by_time(TIME, plan, start_ms=DAY_MS)
    assert len(split.validation) == 0
    assert split.test_period.start_ms == split.train_period.end_ms + 7 * DAY_MS
    assert plan.days == 21


def test_a_period_holds_its_first_millisecond_and_not_its_last() -> None:
    time = np.array([0, DAY_MS - 1, DAY_MS, 2 * DAY_MS - 1, 2 * DAY_MS])
    split = split_by_time(time, SplitPlan(train_days=1, delay_days=0, test_days=1), start_ms=0)
    assert split.train.tolist() == [0, 1]
    assert split.test.tolist() == [2, 3]


def test_a_plan_can_be_laid_so_that_it_ends_at_a_moment() -> None:
    split = split_by_time(TIME, PLAN, start_ms=start_ending(PLAN, end_ms=60 * DAY_MS))
    assert split.test_period.end_ms == 60 * DAY_MS


def test_folds_test_each_day_once_and_roll_forward() -> None:
    folds = prequential_folds(TIME, PLAN, start_ms=0, folds=4)
    tested = np.concatenate([fold.test for fold in folds])
    assert len(tested) == len(set(tested.tolist()))
    assert sorted(set((TIME[tested] // DAY_MS).tolist())) == list(range(20, 40))
    assert [fold.train_period.start_ms for fold in folds] == [0, 5 * DAY_MS, 10 * DAY_MS, 15 * DAY_MS]


def test_a_part_without_rows_is_refused_by_name() -> None:
    with pytest.raises(InvalidSplit, match=r"test on in 1970-02-22T00:00\.\.1970-02-27"):
        split_by_time(TIME[TIME < 50 * DAY_MS], PLAN, start_ms=32 * DAY_MS)


@pytest.mark.parametrize(
    ("train_days", "delay_days", "test_days", "validation_days"),
    [(0, 1, 1, 1), (1, -1, 1, 1), (1, 1, 0, 1), (1, 1, 1, -1)],
)
def test_impossible_lengths_are_refused(train_days: int, delay_days: int, test_days: int, validation_days: int) -> None:
    with pytest.raises(InvalidSplit, match="is not at least"):
        SplitPlan(train_days=train_days, delay_days=delay_days, test_days=test_days, validation_days=validation_days)


def test_no_fold_is_refused() -> None:
    with pytest.raises(InvalidSplit, match="folds 0"):
        prequential_folds(TIME, PLAN, start_ms=0, folds=0)


MOMENT = st.tuples(st.integers(0, 4), st.integers(0, 12))


@given(st.lists(MOMENT, max_size=30), st.lists(MOMENT, max_size=10), st.sampled_from([None, 1, 3, 100]))
def test_known_cards_are_those_with_an_earlier_arrival(
    rows: list[tuple[int, int]], labels: list[tuple[int, int]], forget_after_ms: int | None
) -> None:
    def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        array = np.array(pairs, np.int64).reshape(-1, 2)
        return np.array([f"c{card}" for card in array[:, 0]], dtype="<U8"), array[:, 1]

    (card, time), (fraud_card, arrival) = columns(rows), columns(labels)
    expected = [
        not any(c == d and a <= t and (forget_after_ms is None or t - a < forget_after_ms) for d, a in labels)
        for c, t in rows
    ]
    kept = not_known_compromised(
        card, time, fraud_card=fraud_card, fraud_arrival_ms=arrival, forget_after_ms=forget_after_ms
    )
    assert kept.dtype == np.bool_
    assert kept.tolist() == expected
