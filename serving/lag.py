"""Whether the stream is behind, seen from what the scorer reads: evidence, not a heartbeat.

A quiet card's state is old and right, so the age of a state says nothing. But a payment that this process scored long
ago, at a merchant whose state still ends before it, does: the stream has not brought it. A merchant whose state was
there and is gone says that the store has been emptied. Merchants are asked, because they are busy and because the
scorer itself never writes them.

One payment per merchant is waited for, in a table of fixed size: the first to come keeps its place, until nobody has
asked for twice as long as is allowed. A merchant found late, or found in time, is counted once and moves a level by a
sixteenth, so that one lost payment is not taken for a stream that stands still.
"""

import zlib
from typing import Final

from serving.decoding import decode_time

PLACES: Final = 4096
STEP: Final = 1.0 / 16.0


class StreamLag:
    """Judges whether velocity can be trusted.

    Parameters
    ----------
    allowed_s
        Age of a scored payment at which the stream should have brought it.

    Examples
    --------
    >>> lag = StreamLag(allowed_s=60)
    >>> lag.saw("m1", 1_000_000, None, now_s=0.0), lag.behind
    (None, False)
    """

    def __init__(self, allowed_s: float) -> None:
        self.behind = False
        self.level = 0.0
        self._allowed_s = allowed_s
        self._places: list[_Waiting | None] = [None] * PLACES

    def saw(self, merchant_id: str, event_time_ms: int, stored: bytes | None, *, now_s: float) -> bool | None:
        """Take in what was read for a payment; return the new verdict when it has changed, else null.

        Parameters
        ----------
        event_time_ms
            Of the payment being scored, epoch ms.
        stored
            Event time of the merchant's state as stored; null when it has none.
        now_s
            Seconds of a clock that does not go back.
        """
        place = zlib.crc32(merchant_id.encode()) % PLACES
        waiting = self._places[place]
        if waiting is None or waiting.merchant_id != merchant_id:
            if waiting is None or now_s - waiting.since_s > 2.0 * self._allowed_s:
                self._places[place] = _Waiting(merchant_id, event_time_ms, now_s, known=stored is not None)
            return None
        if stored is None and waiting.known:
            return self._find(waiting, late=True)
        waiting.known = stored is not None
        if now_s - waiting.since_s < self._allowed_s and not waiting.late:
            return None
        newest = decode_time(stored)
        late = newest is None or newest < waiting.event_time_ms
        found = self._find(waiting, late=late)
        if not late:
            waiting.event_time_ms, waiting.since_s = event_time_ms, now_s
        return found

    def _find(self, waiting: "_Waiting", *, late: bool) -> bool | None:
        if late and waiting.late:
            return None
        waiting.late = late
        self.level += STEP * (late - self.level)
        behind = self.level > 0.5
        if behind == self.behind:
            return None
        self.behind = behind
        return behind


class _Waiting:
    """A payment that the stream should bring."""

    __slots__ = ("event_time_ms", "known", "late", "merchant_id", "since_s")

    def __init__(self, merchant_id: str, event_time_ms: int, since_s: float, *, known: bool) -> None:
        self.merchant_id = merchant_id
        self.event_time_ms = event_time_ms
        self.since_s = since_s
        self.known = known
        self.late = False
