"""How a batch is delivered until it is done: the rules of Lambda's event source mapping, for the local worker.

A reported failure (the store is down, another writer keeps winning) delivers everything from the first failed record
again, with backoff and without end: nothing is skipped. A handler that raises is given halves of the batch (bisect;
splitting uses up no retry), until one record alone has failed ``RETRIES`` times more: that one is kept whole and the
rest goes on.

Batches of one shard may be under way side by side: records are dealt to lanes by their partition key, and each lane is
delivered in order, so that every entity keeps its order.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Final

from streaming.arrivals import Arrival

RETRIES: Final = 2
"""Further deliveries of a single record whose handler raises."""

BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses before each delivery again; the last one from then on."""

Deliver = Callable[[Sequence[Arrival]], int | None]
"""Applies arrivals; returns the position of the first that has to come again, null when all are done."""


class Interrupted(Exception):
    """The worker was told to stop while a batch could not be applied; it will be delivered again."""


def lanes(arrivals: Sequence[Arrival], count: int) -> list[list[Arrival]]:
    """Return the arrivals dealt to at most ``count`` lanes by partition key, each lane in order and none empty.

    Examples
    --------
    >>> some = [Arrival(b"", str(n), key, "s", 0) for n, key in enumerate(["card:a", "card:c", "card:a", "card:b"])]
    >>> [[arrival.sequence_number for arrival in lane] for lane in lanes(some, 3)]
    [['1'], ['0', '2', '3']]
    """
    out: list[list[Arrival]] = [[] for _ in range(count)]
    for arrival in arrivals:
        out[zlib.crc32(arrival.partition_key.encode()) % count].append(arrival)
    return [lane for lane in out if lane]


def deliver_batch(
    batch: Sequence[Arrival],
    *,
    deliver: Deliver,
    discard: Callable[[Arrival, Exception], None],
    pause: Callable[[float], bool],
) -> None:
    """Deliver ``batch`` until every record is applied or discarded, in order.

    Parameters
    ----------
    batch
        Of one shard, in order.
    deliver
        The handler.
    discard
        Keeps a record whole whose handler raised to the end; may raise, and is then tried again.
    pause
        Waits that many seconds; returns whether the worker was told to stop meanwhile.

    Raises
    ------
    Interrupted
        ``pause`` said so.
    """
    work: list[tuple[Sequence[Arrival], int]] = [(batch, 0)]
    waited = 0
    while work:
        some, attempt = work.pop(0)
        try:
            failed = deliver(some)
        except Exception as error:  # noqa: BLE001  # the outermost loop: whatever a handler raises is handled by the mapping's rules
            if len(some) > 1:
                middle = len(some) // 2
                work[:0] = [(some[:middle], attempt), (some[middle:], attempt)]
                continue
            if attempt >= RETRIES:
                discard(some[0], error)
                continue
            work.insert(0, (some, attempt + 1))
            _wait(attempt, pause)
            continue
        if failed is None:
            waited = 0
            continue
        waited = 0 if failed > 0 else waited
        work.insert(0, (some[failed:], attempt))
        _wait(waited, pause)
        waited += 1


def _wait(turn: int, pause: Callable[[float], bool]) -> None:
    if pause(BACKOFF_S[min(turn, len(BACKOFF_S) - 1)]):
        raise Interrupted
