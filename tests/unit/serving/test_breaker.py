from serving.breaker import FAILURES_TO_OPEN, LONGEST_PAUSE_S, Breaker


def state_of(breaker: Breaker) -> str:
    return breaker.state


def test_a_success_in_between_keeps_it_closed() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN - 1):
        assert not breaker.failed()
    breaker.answered()
    for _ in range(FAILURES_TO_OPEN - 1):
        assert not breaker.failed()
    assert state_of(breaker) == "closed"
    assert breaker.failed()
    assert state_of(breaker) == "open"


def test_it_opens_once_however_many_fail() -> None:
    breaker = Breaker()
    assert sum(breaker.failed() for _ in range(10 * FAILURES_TO_OPEN)) == 1


def test_a_failed_probe_leaves_it_open_and_an_answer_closes_it() -> None:
    breaker = Breaker()
    breaker.trip()
    breaker.probing()
    assert state_of(breaker) == "half_open"
    breaker.trip()
    assert state_of(breaker) == "open"
    breaker.probing()
    breaker.answered()
    assert state_of(breaker) == "closed"


def test_pauses_double_up_to_a_bound_and_start_again_after_an_answer() -> None:
    breaker = Breaker()
    breaker.trip()
    pauses = [breaker.next_pause_s() for _ in range(8)]
    assert pauses[:3] == [0.05, 0.1, 0.2]
    assert pauses[-1] == LONGEST_PAUSE_S
    breaker.answered()
    breaker.trip()
    assert breaker.next_pause_s() == pauses[0]
