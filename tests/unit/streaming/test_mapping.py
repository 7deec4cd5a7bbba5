"""The event source mapping's rules: order, stop at first failure, bisect, bounded retries."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.arrivals import Arrival
from streaming.mapping import RETRIES, Interrupted, deliver_batch


def batch(count: int) -> list[Arrival]:
    return [Arrival(b"", str(number), "k", "s", 0) for number in range(count)]


class Handler:
    """Applies all but what it is told to refuse; remembers what it applied, in order."""

    def __init__(self, *, raises: set[int] | None = None, refuses: dict[int, int] | None = None) -> None:
        self.raises = raises or set()
        self.refuses = refuses or {}
        self.applied: list[int] = []
        self.deliveries = 0

    def __call__(self, some: Sequence[Arrival]) -> int | None:
        self.deliveries += 1
        numbers = [int(arrival.sequence_number) for arrival in some]
        if self.raises & set(numbers):
            raise ValueError("a defect")
        for place, number in enumerate(numbers):
            if self.refuses.get(number, 0) > 0:
                self.refuses[number] -= 1
                return place
            self.applied.append(number)
        return None


def run(handler: Callable[[Sequence[Arrival]], int | None], count: int) -> tuple[list[int], list[float]]:
    discarded: list[int] = []
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    deliver_batch(
        batch(count),
        deliver=handler,
        discard=lambda arrival, _: discarded.append(int(arrival.sequence_number)),
        pause=pause,
    )
    return discarded, pauses


@given(
    st.integers(1, 40), st.sets(st.integers(0, 39), max_size=5), st.dictionaries(st.integers(0, 39), st.integers(1, 9))
)
def test_every_record_is_applied_once_in_order_or_discarded(
    count: int, raises: set[int], refuses: dict[int, int]
) -> None:
    handler = Handler(raises=raises, refuses={k: v for k, v in refuses.items() if k not in raises})
    discarded, _ = run(handler, count)
    assert discarded == sorted(raises & set(range(count)))
    assert handler.applied == [number for number in range(count) if number not in raises]


def test_single_record_that_raises_is_delivered_a_bounded_number_of_times() -> None:
    handler = Handler(raises={0})
    discarded, pauses = run(handler, 1)
    assert discarded == [0]
    assert handler.deliveries == RETRIES + 1
    assert len(pauses) == RETRIES


def test_retryable_failure_is_never_given_up_and_backs_off() -> None:
    handler = Handler(refuses={0: 50})
    discarded, pauses = run(handler, 3)
    assert discarded == []
    assert handler.applied == [0, 1, 2]
    assert len(pauses) == 50
    assert pauses == sorted(pauses)
    assert pauses[-1] > pauses[0]


def test_told_to_stop_interrupts_the_waiting() -> None:
    handler = Handler(refuses={1: 50})
    with pytest.raises(Interrupted):
        deliver_batch(batch(3), deliver=handler, discard=lambda *_: None, pause=lambda _: True)
    assert handler.applied == [0]
