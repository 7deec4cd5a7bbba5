"""Declines beyond the cap do not stand, however they come; the cap lets go by itself; its clock is what it is told."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.decline_cap import BUCKETS, LEAST_HISTORY, PROBE_EVERY, REMEMBERED, DeclineBreaker, DeclineCap
from fraud.errors import InvalidPolicy

CAP = DeclineCap(share=0.2, times=20.0, window_s=100.0, least_decisions=50, least_declines=10, pause_s=30.0)


def play(breaker: DeclineBreaker, cap: DeclineCap, *, decisions: int, every: int, from_s: float, step_s: float) -> int:
    """Pass decisions of which each ``every``-th is a decline; return how many declines stood."""
    stood = 0
    for number in range(decisions):
        decline = number % every == 0
        stood += breaker.admits(cap, decline=decline, now_s=from_s + number * step_s) and decline
    return stood


caps = st.builds(
    DeclineCap,
    share=st.floats(0.05, 1.0),
    times=st.floats(1.0, 50.0),
    window_s=st.floats(1.0, 600.0),
    least_decisions=st.integers(20, 60),
    least_declines=st.integers(1, 20),
    pause_s=st.floats(0.5, 300.0),
)
traffic = st.lists(st.tuples(st.floats(0.0, 20.0), st.booleans()), max_size=400)


def state_of(breaker: DeclineBreaker) -> str:
    return breaker.state


@settings(deadline=None)
@given(caps, traffic)
def test_a_breaker_that_is_closed_has_no_more_declines_in_its_window_than_the_cap(
    cap: DeclineCap, gaps: list[tuple[float, bool]]
) -> None:
    breaker, now = DeclineBreaker(), 0.0
    seen: list[tuple[int, bool]] = []
    for gap, decline in gaps:
        now += gap
        before = state_of(breaker)
        breaker.admits(cap, decline=decline, now_s=now)
        bucket = int(now / (cap.window_s / BUCKETS))
        seen.append((bucket, decline))
        if state_of(breaker) != before:
            seen.clear()
        window = [said for when, said in seen if when > bucket - BUCKETS]
        enough = len(window) >= cap.least_decisions and sum(window) >= cap.least_declines
        if decline and state_of(breaker) == "closed" and enough:
            assert sum(window) <= cap.share * len(window)


@given(caps, traffic)
def test_approvals_and_reviews_are_never_held_back_while_closed_and_nothing_is_while_off(
    cap: DeclineCap, gaps: list[tuple[float, bool]]
) -> None:
    off = DeclineCap(share=1.0, least_decisions=1, least_declines=1)
    quiet, open_to_all, now = DeclineBreaker(), DeclineBreaker(), 0.0
    for gap, decline in gaps:
        now += gap
        assert quiet.admits(cap, decline=False, now_s=now)
        assert open_to_all.admits(off, decline=decline, now_s=now)
    assert (quiet.state, quiet.trips, open_to_all.state) == ("closed", 0, "closed")


def test_a_usual_share_of_declines_never_trips() -> None:
    breaker = DeclineBreaker()
    assert play(breaker, CAP, decisions=20_000, every=6, from_s=0.0, step_s=0.1) == 3334
    assert breaker.trips == 0


def test_a_scorer_turned_against_everybody_is_held_back_within_one_windows_minimum() -> None:
    breaker = DeclineBreaker()
    play(breaker, CAP, decisions=5000, every=100, from_s=0.0, step_s=0.1)
    stood = play(breaker, CAP, decisions=2000, every=1, from_s=500.0, step_s=0.01)
    assert state_of(breaker) == "open"
    assert stood <= 0.2 * (1000 + 2000)
    assert breaker.trips == 1


def test_it_lets_go_when_a_whole_pause_was_calm_and_another_half_open() -> None:
    breaker = DeclineBreaker()
    play(breaker, CAP, decisions=200, every=1, from_s=0.0, step_s=0.01)
    states = []
    for now in (10.0, 29.0, 31.5, 60.0, 62.0, 91.0, 93.0):
        breaker.admits(CAP, decline=False, now_s=now)
        states.append(state_of(breaker))
    assert states == ["open", "open", "open", "open", "half_open", "half_open", "closed"]
    assert breaker.admits(CAP, decline=True, now_s=94.0)


def test_while_half_open_every_tenth_decline_stands_and_a_new_storm_opens_again() -> None:
    breaker = DeclineBreaker()
    play(breaker, CAP, decisions=200, every=1, from_s=0.0, step_s=0.01)
    play(breaker, CAP, decisions=100, every=50, from_s=200.0, step_s=0.01)
    assert state_of(breaker) == "half_open"
    stood = [breaker.admits(CAP, decline=True, now_s=202.0) for _ in range(9)]
    assert sum(stood) == 1
    play(breaker, CAP, decisions=200, every=1, from_s=203.0, step_s=0.01)
    assert state_of(breaker) == "open"
    assert breaker.trips == 1
    assert PROBE_EVERY == 10


def test_a_storm_that_goes_on_keeps_it_open_pause_after_pause() -> None:
    breaker = DeclineBreaker()
    stood = play(breaker, CAP, decisions=20_000, every=1, from_s=0.0, step_s=0.05)
    assert state_of(breaker) != "closed"
    assert stood < CAP.least_decisions + 20_000 // PROBE_EVERY


def test_a_process_that_has_always_declined_much_may_go_on_but_an_attack_is_no_history() -> None:
    used_to_it, attacked = DeclineBreaker(), DeclineBreaker()
    cap = DeclineCap(share=0.05, times=3.0, window_s=100.0, least_decisions=50, least_declines=10)
    gentle = DeclineCap(share=0.2, times=3.0, window_s=100.0, least_decisions=50, least_declines=10)
    play(used_to_it, gentle, decisions=20_000, every=10, from_s=0.0, step_s=0.1)
    assert used_to_it.history == pytest.approx(0.1, abs=0.01)
    assert cap.limit(used_to_it.history) == pytest.approx(0.3, abs=0.03)
    play(attacked, cap, decisions=20_000, every=2, from_s=0.0, step_s=0.1)
    assert attacked.history == 0.0


def test_history_counts_after_enough_decisions() -> None:
    breaker = DeclineBreaker()
    play(breaker, CAP, decisions=int(LEAST_HISTORY) - 100, every=10, from_s=0.0, step_s=0.1)
    assert breaker.history == 0.0


def test_a_clock_that_goes_back_and_one_that_jumps_change_no_answer_for_the_worse() -> None:
    breaker = DeclineBreaker()
    for now in (1000.0, 10.0, 0.0, 1000.0, 10.0**9, 5.0):
        assert breaker.admits(CAP, decline=True, now_s=now)
    assert state_of(breaker) == "closed"


def test_what_it_remembers_does_not_grow() -> None:
    breaker = DeclineBreaker()
    play(breaker, CAP, decisions=50_000, every=7, from_s=0.0, step_s=3.0)
    assert all(len(held) == BUCKETS for held in (breaker._decisions, breaker._declines))
    assert all(isinstance(value, int | float | str | list) for value in vars(breaker).values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"share": 0.0}, "share 0.0 is not in"),
        ({"share": 1.1}, "share 1.1 is not in"),
        ({"times": 0.5}, "times=0.5"),
        ({"window_s": 0.0}, "window_s=0.0"),
        ({"pause_s": 0.0}, "pause_s=0.0"),
        ({"least_declines": 0}, "least_declines=0"),
        ({"least_decisions": 5, "least_declines": 6}, "least_declines=6, least_decisions=5"),
    ],
)
def test_a_cap_out_of_range_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidPolicy, match=said):
        DeclineCap(**changes)  # type: ignore[arg-type]


def test_a_transaction_asked_about_again_is_counted_once_within_the_window() -> None:
    cap = DeclineCap(share=0.01, times=1.0, window_s=100.0, least_decisions=20, least_declines=20, pause_s=30.0)
    breaker = DeclineBreaker()
    assert all(breaker.admits(cap, decline=True, now_s=0.0, transaction_id="again") for _ in range(1000))
    assert sum(breaker.admits(cap, decline=True, now_s=1.0, transaction_id=f"t{n}") for n in range(30)) == 18
    assert breaker.state == "open"
    later = DeclineBreaker()
    for window in range(30):
        assert later.admits(cap, decline=True, now_s=100.0 * window, transaction_id="again")
    assert all(len(some) <= 1 for some in later._declined)


def test_what_is_remembered_of_declined_transactions_is_bounded() -> None:
    breaker, off = DeclineBreaker(), DeclineCap(share=1.0)
    for number in range(3 * REMEMBERED):
        breaker.admits(off, decline=True, now_s=0.0, transaction_id=f"t{number}")
    assert sum(map(len, breaker._declined)) == REMEMBERED
