"""Putting dead letters back on the stream, once whatever refused them is fixed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fraud.errors import InvalidTransaction
from fraud.record import RecordReader
from streaming.arrivals import read_arrival
from streaming.deadletters import DeadLetter, DeadLetterFolder
from streaming.producer import Entry, publish


@dataclass(frozen=True)
class Replayed:
    """Records put back, and records that would still be refused and stay where they are."""

    replayed: int
    refused: int


def replay(
    letters: DeadLetterFolder,
    client: Any,
    stream: str,
    *,
    currency: str,
    now_ms: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Replayed:
    """Put back every dead letter that today's code accepts, and remove it; leave the others.

    A kill in between puts some back twice, which changes nothing.

    Parameters
    ----------
    now_ms
        When the records would arrive, epoch ms: an event time that lay in the future may have come to pass.
    advance
        Told how many letters were looked at.
    """
    replayed = refused = 0
    seen: set[tuple[str, str]] = set()
    for name, some in letters.read():
        ready: list[Entry] = []
        left: list[DeadLetter] = []
        for letter in some:
            if (letter.shard, letter.sequence_number) in seen:
                continue
            seen.add((letter.shard, letter.sequence_number))
            if _accepted(letter, currency=currency, now_ms=now_ms):
                ready.append(Entry(letter.arrival().data, letter.partition_key))
            else:
                left.append(letter)
        publish(client, stream, ready)
        letters.replace(name, left)
        replayed += len(ready)
        refused += len(left)
        advance(len(some))
    return Replayed(replayed, refused)


def _accepted(letter: DeadLetter, *, currency: str, now_ms: int) -> bool:
    arrival = letter.arrival()
    try:
        read_arrival(
            type(arrival)(arrival.data, "", arrival.partition_key, "", now_ms), RecordReader(currency=currency)
        )
    except InvalidTransaction:
        return False
    return True
