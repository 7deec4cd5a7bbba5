"""The local worker: reads every shard of the stream and applies it, as Lambda's event source mapping would.

One thread per shard reads, applies and only then reads on; what it has read is applied in lanes side by side
(:func:`streaming.mapping.lanes`), so that the order within a partition key is kept. Logs are flushed before checkpoints
move: a kill at any point makes records come again, which changes nothing, and loses none.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from fraud.errors import StoreUnavailable, TollgateError
from streaming.applied import ChangeLog
from streaming.arrivals import Arrival, arrival_from_read
from streaming.batches import Collaborators, apply_batch
from streaming.deadletters import dead_letter
from streaming.figures import Figures
from streaming.logs import log
from streaming.mapping import BACKOFF_S, Interrupted, deliver_batch, lanes
from streaming.offline import TransactionLog
from streaming.shards import Checkpoint, list_shards, read_checkpoints, readable_shards, write_checkpoints

READ_LIMIT: Final = 2_000
REDISCOVER_S: Final = 5.0


class HandlerFailed(TollgateError):
    """The handler raised for this record, however often it was delivered."""

    code = "handler_failed"


@dataclass(frozen=True)
class Pace:
    """How often and how much.

    Parameters
    ----------
    poll_s
        Pause between reads of a shard that had nothing new. AWS allows five reads a second and shard.
    batch
        Most records per batch.
    parallel
        Most batches of one shard at a time; as on AWS, 1 to 10. A checkpoint moves when all that was read is applied.
    window_s
        Longest wait for a batch of every lane to fill; 0 applies at once what a read has brought.
    flush_s
        Between flushes of the logs and checkpoints: the most that is delivered again after a kill.
    until_idle_s
        Stop after so many seconds without a record; null runs until told to stop.
    """

    poll_s: float = 0.05
    batch: int = 500
    parallel: int = 1
    window_s: float = 0.0
    flush_s: float = 1.0
    until_idle_s: float | None = None


class Worker:
    """Applies a stream until it is told to stop.

    Parameters
    ----------
    kinesis
        A boto3 Kinesis client; threads share it.
    stream
        Name of the stream.
    state_dir
        Checkpoints and figures.
    collaborators
        What the handler works with; ``applied`` and ``transactions`` are the logs that this worker flushes.
    """

    def __init__(
        self,
        kinesis: Any,
        stream: str,
        *,
        state_dir: Path,
        collaborators: Collaborators,
        applied: ChangeLog,
        transactions: TransactionLog,
        pace: Pace,
    ) -> None:
        self.figures = Figures()
        self._kinesis = kinesis
        self._stream = stream
        self._state_dir = state_dir
        self._with = collaborators
        self._applied = applied
        self._transactions = transactions
        self._pace = pace
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._checkpoints = read_checkpoints(state_dir, stream)
        self._done = dict(self._checkpoints.shards)
        self._threads: dict[str, threading.Thread] = {}
        self._empty_at: dict[str, float] = {}
        self._at_work = 0
        self._busy_until = time.monotonic()
        self._life = f"{time.time_ns():x}"

    def stop(self) -> None:
        """Finish the batches at hand, flush, and end :meth:`run`; from another thread, not from a signal handler."""
        self._stop.set()
        self._wake.set()

    def run(self) -> None:
        """Read and apply until told to stop, or idle for long enough; flushes before it returns."""
        self._busy_until = time.monotonic()
        next_discovery = 0.0
        while not self._stop.is_set():
            if time.monotonic() >= next_discovery:
                next_discovery = time.monotonic() + (REDISCOVER_S if self._start_readers() else BACKOFF_S[-1])
            if self._wake.wait(self._pace.flush_s):
                self._wake.clear()
                next_discovery = 0.0
            self._flush()
            if self._idle():
                self._stop.set()
        for thread in self._threads.values():
            thread.join()
        self._flush()
        log("worker_stopped", records=self.figures.snapshot()["records"])

    def _idle(self) -> bool:
        """Return whether every shard was read, and found empty, long enough after the last record."""
        idle = self._pace.until_idle_s
        alive = [shard for shard, thread in self._threads.items() if thread.is_alive()]
        with self._lock:
            quiet = [self._empty_at.get(shard, 0.0) - self._busy_until for shard in alive]
            return idle is not None and bool(quiet) and not self._at_work and min(quiet) > idle

    def _start_readers(self) -> bool:
        try:
            shards = list_shards(self._kinesis, self._stream)
        except (BotoCoreError, ClientError) as error:
            log("shards_not_listed", error=type(error).__name__)
            return False
        with self._lock:
            ready = readable_shards(shards, self._done)
        for shard in ready:
            thread = self._threads.get(shard)
            if thread is None or not thread.is_alive():
                self._threads[shard] = threading.Thread(target=self._read_shard, args=(shard,), name=shard)
                self._threads[shard].start()
                log("shard_opened", shard=shard)
        return True

    def _flush(self) -> None:
        """Write the logs, then the checkpoints as they stood before, then the figures."""
        with self._lock:
            reached = dict(self._done)
        try:
            self._transactions.flush(self._life)
            self._applied.flush()
            if reached != self._checkpoints.shards:
                self._checkpoints.shards = reached
                write_checkpoints(self._state_dir, self._checkpoints)
            self.figures.write(self._state_dir)
        except (OSError, StoreUnavailable) as error:
            log("flush_failed", error=type(error).__name__)

    def _read_shard(self, shard: str) -> None:
        """Read one shard until it ends or the worker stops; an error of the stream is waited for, then resumed."""
        failures, failed_at = 0, 0.0
        while not self._stop.is_set():
            try:
                ended = self._follow(shard)
            except Interrupted:
                return
            except (BotoCoreError, ClientError) as error:
                log("read_failed", shard=shard, error=_name(error))
                failures = failures if time.monotonic() - failed_at < REDISCOVER_S else 0
                failed_at = time.monotonic()
                self._pause(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1
                continue
            if ended:
                self._reach(shard, Checkpoint(self._reached(shard).sequence_number, ended=True))
                log("shard_ended", shard=shard)
                self._wake.set()
                return

    def _follow(self, shard: str) -> bool:
        """Read from the checkpoint on; return whether the shard ended."""
        iterator: str | None = self._iterator(shard)
        waiting: list[Arrival] = []
        since = 0.0
        while not self._stop.is_set():
            page = self._kinesis.get_records(ShardIterator=iterator, Limit=READ_LIMIT)
            arrivals = [arrival_from_read(record, shard) for record in page["Records"]]
            iterator = page.get("NextShardIterator")
            since = since if waiting else time.monotonic()
            waiting += arrivals
            full = len(waiting) >= self._pace.batch * self._pace.parallel
            if waiting and (full or iterator is None or time.monotonic() - since >= self._pace.window_s):
                self._apply(shard, waiting)
                waiting = []
                if self._stop.is_set():
                    return False
            elif not waiting:
                with self._lock:
                    self._empty_at[shard] = time.monotonic()
            if iterator is None:
                return True
            if len(arrivals) < READ_LIMIT:
                self._pause(self._pace.poll_s)
        return False

    def _iterator(self, shard: str) -> str:
        after = self._reached(shard).sequence_number
        asked: dict[str, str] = {"StreamName": self._stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
        if after:
            asked |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        try:
            iterator: str = self._kinesis.get_shard_iterator(**asked)["ShardIterator"]
        except ClientError as error:
            if not after or _name(error) != "InvalidArgumentException":
                raise
            # The checkpoint has left the stream's retention: all that is left comes again, and changes nothing twice.
            log("checkpoint_not_in_stream", shard=shard)
            asked = {"StreamName": self._stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
            iterator = self._kinesis.get_shard_iterator(**asked)["ShardIterator"]
        return iterator

    def _apply(self, shard: str, arrivals: Sequence[Arrival]) -> None:
        """Apply what was read, in lanes; the checkpoint moves batch by batch in one lane, else at the end."""
        with self._lock:
            self._at_work += 1
        try:
            if self._pace.parallel == 1:
                self._apply_in_order(arrivals, lambda batch: self._reach(shard, Checkpoint(batch[-1].sequence_number)))
            else:
                with ThreadPoolExecutor(self._pace.parallel, thread_name_prefix=shard) as pool:
                    under_way = [
                        pool.submit(self._apply_in_order, lane, lambda _: None)
                        for lane in lanes(arrivals, self._pace.parallel)
                    ]
                for lane in under_way:
                    lane.result()
                self._reach(shard, Checkpoint(arrivals[-1].sequence_number))
        finally:
            with self._lock:
                self._at_work -= 1
                self._busy_until = time.monotonic()

    def _apply_in_order(self, arrivals: Sequence[Arrival], reached: Callable[[Sequence[Arrival]], None]) -> None:
        for start in range(0, len(arrivals), self._pace.batch):
            if self._stop.is_set():
                raise Interrupted
            batch = arrivals[start : start + self._pace.batch]
            deliver_batch(batch, deliver=self._deliver, discard=self._discard, pause=self._pause)
            reached(batch)

    def _deliver(self, batch: Sequence[Arrival]) -> int | None:
        result = apply_batch(batch, self._with)
        self.figures.add(result)
        if result.dead_lettered:
            log("records_dead_lettered", records=result.dead_lettered, shard=batch[0].shard)
        if result.error is not None:
            log("batch_failed", error=result.error.code, shard=batch[0].shard, records=result.records)
        return result.failed

    def _discard(self, arrival: Arrival, error: Exception) -> None:
        letter = dead_letter(arrival, HandlerFailed(f"{type(error).__name__} at every delivery"))
        while True:
            try:
                self._with.dead_letters.keep([letter])
            except StoreUnavailable:
                log("dead_letter_not_kept", shard=arrival.shard)
                if self._pause(BACKOFF_S[-1]):
                    raise Interrupted from None
            else:
                self.figures.discarded()
                log("record_discarded", shard=arrival.shard, error=type(error).__name__)
                return

    def _pause(self, seconds: float) -> bool:
        return self._stop.wait(seconds)

    def _reached(self, shard: str) -> Checkpoint:
        with self._lock:
            return self._done.get(shard, Checkpoint())

    def _reach(self, shard: str, checkpoint: Checkpoint) -> None:
        with self._lock:
            self._done[shard] = checkpoint


def _name(error: BotoCoreError | ClientError) -> str:
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "ClientError"))
    return type(error).__name__
