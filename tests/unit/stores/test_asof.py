"""The as-of join against a loop over all rows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stores.asof import EVER, Moments, newest_rows, sort_rows

KEYS = 3
ROW = st.tuples(st.integers(0, KEYS - 1), st.integers(0, 8), st.integers(0, 8))
QUESTION = st.tuples(st.integers(-1, KEYS - 1), st.integers(-1, 9), st.integers(0, 4), st.integers(-1, 9))


def slow(rows: list[tuple[int, int, int]], question: tuple[int, int, int, int]) -> int:
    key, until, ttl, known = question
    seen = [
        (time, created, place)
        for place, (owner, time, created) in enumerate(rows)
        if owner == key and until - ttl <= time <= until and created <= known
    ]
    return max(seen)[2] if seen else -1


@settings(max_examples=300, deadline=None)
@given(st.lists(ROW, max_size=25), st.lists(QUESTION, max_size=25))
def test_every_question_sees_the_newest_row_it_may(
    rows: list[tuple[int, int, int]], questions: list[tuple[int, int, int, int]]
) -> None:
    key, time, created = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    asked, until, ttl, known = (np.array([q[i] for q in questions], np.int64) for i in range(4))
    found = newest_rows(sort_rows(key, time, created, KEYS), Moments(asked, until, until - ttl, known))
    assert found.tolist() == [slow(rows, question) for question in questions]


def test_of_one_time_the_row_created_last_counts_whatever_the_order() -> None:
    key, time = np.zeros(3, np.int64), np.full(3, 5, np.int64)
    ask = Moments(np.zeros(1, np.int64), np.array([5]), np.array([-EVER]), np.array([EVER]))
    for created in ([1, 3, 2], [3, 2, 1], [1, 2, 3]):
        rows = sort_rows(key, time, np.array(created, np.int64), 1)
        assert newest_rows(rows, ask).tolist() == [created.index(3)]


def test_rows_of_nobody_are_never_seen() -> None:
    rows = sort_rows(np.array([-1, -1]), np.array([1, 2]), np.array([1, 2]), 0)
    ask = Moments(np.array([-1]), np.array([9]), np.array([-EVER]), np.array([EVER]))
    assert newest_rows(rows, ask).tolist() == [-1]
