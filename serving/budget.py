"""The time a request has: from the arrival of its last byte to its answer, whatever it waits for in between.

Waiting counts, in the kernel's buffer and in ours, because the checkout waits all the same. A request that has used up
most of its budget before it is looked at is decided without the online store; one that has waited for several budgets
is turned away, because its caller has given up and everybody behind it still waits.
"""

from dataclasses import dataclass
from typing import Final

READS_END: Final = 0.7
"""Share of the budget after which nothing is read any more: the rest is for the decision and its answer."""

LEAST_READ: Final = 0.2
"""Share of the budget that a read needs to be worth beginning; more than a store in good health takes."""

SHED_AFTER: Final = 4.0
"""Budgets of waiting after which a request is turned away."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long one request may take.

    Parameters
    ----------
    arrived
        When its last byte was here, seconds on ``time.perf_counter``.
    seconds
        From then to the answer.

    Examples
    --------
    >>> budget = Budget(arrived=100.0, seconds=0.05)
    >>> round(budget.left_to_read(100.0), 3), round(budget.left_to_read(100.025), 3), budget.left_to_read(100.04)
    (0.035, 0.01, 0.0)
    >>> budget.is_over(100.04), budget.is_over(100.06), budget.is_hopeless(100.06), budget.is_hopeless(100.21)
    (False, True, False, True)
    """

    arrived: float
    seconds: float

    def left_to_read(self, now: float) -> float:
        """Return how long the online store may be waited for, in seconds; 0 when it is too late to ask."""
        left = self.arrived + READS_END * self.seconds - now
        return left if left >= LEAST_READ * self.seconds else 0.0

    def is_over(self, now: float) -> bool:
        """Return whether an answer would come after the budget."""
        return now - self.arrived > self.seconds

    def is_hopeless(self, now: float) -> bool:
        """Return whether it has waited so long that nobody is helped by an answer."""
        return now - self.arrived > SHED_AFTER * self.seconds
