"""Dead letters: records that can never be applied, kept whole with the reason, and put back after a fix.

JSON lines under ``dead-letters/dt=YYYY-MM-DD/{shard}-{sequence number}.jsonl``; the day is that of the arrival, so a
record that is delivered twice is written to the same place. One line is one :class:`DeadLetter`.
"""

import base64
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from fraud.errors import TollgateError
from streaming.arrivals import Arrival
from streaming.folders import Folder

PREFIX: Final = "dead-letters/"


class DeadLetter(msgspec.Struct, frozen=True):
    """One record that was refused, whole.

    Parameters
    ----------
    code
        Stable code of the error.
    reason
        What was wrong, with the field.
    data
        The record's bytes, base64.
    partition_key, sequence_number, shard, arrival_ms
        As Kinesis delivered it.
    """

    code: str
    reason: str
    data: str
    partition_key: str
    sequence_number: str
    shard: str
    arrival_ms: int

    def arrival(self) -> Arrival:
        """Return the record as it arrived, byte for byte."""
        raw = base64.b64decode(self.data)
        return Arrival(raw, self.sequence_number, self.partition_key, self.shard, self.arrival_ms)


class DeadLetterSink(Protocol):
    """Where refused records go."""

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Return once every letter is kept; raise :class:`fraud.errors.StoreUnavailable` when that failed."""


class DeadLetterFolder:
    """Dead letters in a folder, on a disk or in a bucket."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Write the letters of one batch, one object per day of arrival."""
        days: dict[str, list[DeadLetter]] = defaultdict(list)
        for letter in letters:
            days[f"{datetime.fromtimestamp(letter.arrival_ms / 1000, UTC):%Y-%m-%d}"].append(letter)
        for day, some in days.items():
            name = f"{PREFIX}dt={day}/{some[0].shard or 'shard'}-{some[0].sequence_number}.jsonl"
            self._folder.put(name, b"".join(msgspec.json.encode(letter) + b"\n" for letter in some))

    def read(self) -> Iterator[tuple[str, list[DeadLetter]]]:
        """Yield name and letters of each object."""
        decoder = msgspec.json.Decoder(DeadLetter)
        for name in self._folder.names(PREFIX):
            yield name, [decoder.decode(line) for line in self._folder.get(name).splitlines() if line]

    def replace(self, name: str, left: Sequence[DeadLetter]) -> None:
        """Leave only ``left`` of an object's letters; none removes it."""
        if left:
            self._folder.put(name, b"".join(msgspec.json.encode(letter) + b"\n" for letter in left))
        else:
            self._folder.remove(name)


def dead_letter(arrival: Arrival, error: TollgateError) -> DeadLetter:
    """Return the letter that keeps a refused arrival whole."""
    return DeadLetter(
        error.code,
        str(error),
        base64.b64encode(arrival.data).decode(),
        arrival.partition_key,
        arrival.sequence_number,
        arrival.shard,
        arrival.arrival_ms,
    )
