"""A stream without Kinesis: batches on standard input, applied by the very handler, one answer for each.

For whoever must know when a batch has become visible, as the parity certificate does. A batch is four bytes of length,
little endian, and a msgpack array of ``[data, partition key, sequence number, arrival in epoch ms]``; the answer is
one JSON line with what became of it. The end of standard input ends the feed.
"""

from collections.abc import Iterator
from typing import BinaryIO, Final

import msgspec

from streaming.applied import ChangeLog
from streaming.arrivals import Arrival
from streaming.batches import Collaborators, apply_batch
from streaming.offline import TransactionLog

SHARD: Final = "feed"
FLUSH_EVERY: Final = 200
"""Batches between two flushes of the logs."""

_decoder: Final = msgspec.msgpack.Decoder(list[tuple[bytes, str, str, int]])


def read_batches(source: BinaryIO) -> Iterator[list[Arrival]]:
    """Yield the batches of a feed."""
    while head := source.read(4):
        rows = _decoder.decode(source.read(int.from_bytes(head, "little")))
        yield [Arrival(data, sequence, key, SHARD, arrival_ms) for data, key, sequence, arrival_ms in rows]


def feed(
    source: BinaryIO, answers: BinaryIO, with_: Collaborators, applied: ChangeLog, transactions: TransactionLog
) -> int:
    """Apply every batch of ``source``, flush the logs, and return how many records there were.

    Raises
    ------
    StoreUnavailable, StateConflict
        The store did not take a batch; whoever feeds decides what then.
    """
    records = 0
    for number, batch in enumerate(read_batches(source)):
        result = apply_batch(batch, with_)
        if result.error is not None:
            raise result.error
        records += result.records
        counts = {"applied": result.applied, "repeated": result.repeated, "too_late": result.too_late}
        counts |= {"records": result.records, "dead_lettered": result.dead_lettered}
        answers.write(msgspec.json.encode(counts) + b"\n")
        answers.flush()
        if number % FLUSH_EVERY == FLUSH_EVERY - 1:
            applied.flush()
            transactions.flush(f"{SHARD}-{number}")
    applied.flush()
    transactions.flush(f"{SHARD}-end")
    return records
