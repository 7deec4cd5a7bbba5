"""The cap on declines: when far more payments would be declined than ever before, people look instead.

A broken feature, a bundle trained on the wrong days or a poisoned list of reports can turn a scorer against everybody.
The policy still says ``decline``, but while the cap is reached the answer is ``review``. It is measured on what the
policy says, not on what was answered, so that a tripped cap can see when it is over.

``closed`` lets declines stand; ``open`` lets none stand for a pause; ``half_open`` lets every tenth stand for another
pause, then closes, unless there are still too many. It reads no clock, and what it remembers does not grow.
"""

from dataclasses import dataclass
from typing import Final, Literal

from fraud.errors import InvalidPolicy

CapState = Literal["closed", "open", "half_open"]
BUCKETS: Final = 10
PROBE_EVERY: Final = 10
HISTORY_HALF_LIFE_S: Final = 86_400.0
REMEMBERED: Final = 1000
"""Declined transactions whose repeats are known, per bucket of the window: more are counted each time they come."""

LEAST_HISTORY: Final = 1000.0
"""Decisions before a process's own history counts."""


@dataclass(frozen=True)
class DeclineCap:
    """How many declines are too many.

    Parameters
    ----------
    share
        Never trips at or below this share of the decisions in a window; 1 switches the cap off.
    times
        Nor below this many times the share in the process's own history.
    window_s
        Length of the window.
    least_decisions, least_declines
        In a window, before it can trip.
    pause_s
        How long each step of a recovery takes.

    Raises
    ------
    InvalidPolicy
        A number out of range.
    """

    share: float = 0.2
    times: float = 20.0
    window_s: float = 120.0
    least_decisions: int = 200
    least_declines: int = 40
    pause_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise InvalidPolicy(f"decline cap share {self.share} is not in (0, 1]")
        if not (self.times >= 1.0 and 1.0 <= self.window_s <= 86_400.0 and 0.0 < self.pause_s <= 86_400.0):
            raise InvalidPolicy(
                f"decline cap times={self.times}, window_s={self.window_s}, pause_s={self.pause_s} are not "
                "times >= 1, window_s in 1..86400, pause_s in (0, 86400]"
            )
        if not 1 <= self.least_declines <= self.least_decisions:
            raise InvalidPolicy(
                f"decline cap least_declines={self.least_declines}, least_decisions={self.least_decisions} are not "
                "1 <= least_declines <= least_decisions"
            )

    def limit(self, history: float) -> float:
        """Return the share of declines above which it trips, given the share in the history."""
        return min(1.0, max(self.share, self.times * history))


class DeclineBreaker:
    """Counts decisions and says whether a decline may stand.

    Examples
    --------
    >>> breaker, cap = DeclineBreaker(), DeclineCap(share=0.5, least_decisions=4, least_declines=4)
    >>> [breaker.admits(cap, decline=True, now_s=0.0) for _ in range(6)], breaker.state
    ([True, True, True, False, False, False], 'open')
    """

    def __init__(self) -> None:
        self.state: CapState = "closed"
        self.trips = 0
        self._decisions = [0] * BUCKETS
        self._declines = [0] * BUCKETS
        self._declined: list[set[str]] = [set() for _ in range(BUCKETS)]
        self._window_s = 0.0
        self._bucket = self._place = 0
        self._ends_s = 0.0
        self._since_s = 0.0
        self._probes = 0
        self._held_decisions = 0.0
        self._held_declines = 0.0

    @property
    def history(self) -> float:
        """Share of declines in the history, in [0, 1]; 0 until there is enough of it."""
        return self._held_declines / self._held_decisions if self._held_decisions >= LEAST_HISTORY else 0.0

    def admits(self, cap: DeclineCap, *, decline: bool, now_s: float, transaction_id: str = "") -> bool:
        """Count what the policy says of one transaction; return whether a decline may stand now.

        A transaction that was declined within the window and is asked about again is counted once.

        Parameters
        ----------
        cap
            Of the policy in service.
        decline
            Whether the policy says decline.
        now_s
            Seconds of a clock that does not go back; a reading that does is taken as the latest one.
        transaction_id
            Empty for one that is never asked about again.
        """
        if now_s >= self._ends_s or cap.window_s != self._window_s:
            self._turn(cap, now_s)
        place = self._place
        if not decline:
            self._decisions[place] += 1
            if self.state == "closed":
                return True
        elif not self._is_known(transaction_id):
            self._decisions[place] += 1
            self._declines[place] += 1
        self._move(cap, now_s)
        if self.state == "half_open" and decline:
            self._probes += 1
            return self._probes % PROBE_EVERY == 0
        return self.state == "closed"

    def _is_known(self, transaction_id: str) -> bool:
        """Return whether a transaction was declined within the window, and remember that it is."""
        if not transaction_id:
            return False
        if any(transaction_id in some for some in self._declined):
            return True
        if len(self._declined[self._place]) < REMEMBERED:
            self._declined[self._place].add(transaction_id)
        return False

    def _too_many(self, cap: DeclineCap) -> bool:
        decisions, declines = sum(self._decisions), sum(self._declines)
        enough = decisions >= cap.least_decisions and declines >= cap.least_declines
        return enough and declines > cap.limit(self.history) * decisions

    def _move(self, cap: DeclineCap, now_s: float) -> None:
        """Go to the next state when it is time; each starts with an empty window."""
        if self._too_many(cap):
            if self.state != "open":
                self.trips += self.state == "closed"
                self._enter("open", now_s)
            elif now_s - self._since_s >= cap.pause_s:
                self._enter("open", now_s)
        elif self.state != "closed" and now_s - self._since_s >= cap.pause_s:
            self._enter("half_open" if self.state == "open" else "closed", now_s)

    def _enter(self, state: CapState, now_s: float) -> None:
        self.state, self._since_s, self._probes = state, now_s, 0
        self._forget()

    def _forget(self) -> None:
        self._decisions[:] = self._declines[:] = [0] * BUCKETS
        for some in self._declined:
            some.clear()

    def _turn(self, cap: DeclineCap, now_s: float) -> None:
        """Leave the buckets that are too old behind; those of a closed breaker become history."""
        width = cap.window_s / BUCKETS
        if cap.window_s != self._window_s:
            self._window_s = cap.window_s
            self._forget()
            self._begin(int(now_s / width), width)
            return
        newest = max(self._bucket, int(now_s / width))
        for bucket in range(max(self._bucket + 1, newest - BUCKETS + 1), newest + 1):
            place = bucket % BUCKETS
            if self.state == "closed" and self._decisions[place]:
                kept = 0.5 ** (width / HISTORY_HALF_LIFE_S)
                self._held_decisions = self._held_decisions * kept + self._decisions[place]
                self._held_declines = self._held_declines * kept + self._declines[place]
            self._decisions[place] = self._declines[place] = 0
            self._declined[place].clear()
        self._begin(newest, width)

    def _begin(self, bucket: int, width_s: float) -> None:
        self._bucket, self._place = bucket, bucket % BUCKETS
        self._ends_s = (bucket + 1) * width_s
