"""A circuit breaker: after a few failures in a row nobody waits any more until a probe has answered.

``closed`` lets reads through; ``open`` lets none through, and a probe is due after a pause that doubles; ``half_open``
is a probe on its way. Probes are our own: no customer's request is spent on finding out. It reads no clock.
"""

from typing import Final, Literal

State = Literal["closed", "open", "half_open"]

FAILURES_TO_OPEN: Final = 5
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0


class Breaker:
    """Counts failures in a row and says whether to read, and when to probe next.

    Examples
    --------
    >>> breaker = Breaker()
    >>> [breaker.failed() for _ in range(FAILURES_TO_OPEN)][-2:], breaker.state
    ([False, True], 'open')
    >>> breaker.next_pause_s(), breaker.next_pause_s()
    (0.05, 0.1)
    >>> breaker.probing(); breaker.answered(); breaker.state
    'closed'
    """

    def __init__(self) -> None:
        self.state: State = "open"
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self.answered()

    def failed(self) -> bool:
        """Note a read that failed; return whether this one opened the breaker."""
        self._failures += 1
        if self.state == "closed" and self._failures >= FAILURES_TO_OPEN:
            return self.trip()
        return False

    def trip(self) -> bool:
        """Open at once, as when the connection is lost; return whether it was closed."""
        was_closed = self.state == "closed"
        self.state = "open"
        return was_closed

    def probing(self) -> None:
        """Note that a probe is on its way."""
        self.state = "half_open"

    def answered(self) -> None:
        """Note an answer; it closes an open breaker."""
        self._failures = 0
        if self.state != "closed":
            self.state = "closed"
            self._pause_s = FIRST_PAUSE_S

    def next_pause_s(self) -> float:
        """Return how long to wait before the next probe, and double it for the one after."""
        pause = self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, 2.0 * pause)
        return pause
