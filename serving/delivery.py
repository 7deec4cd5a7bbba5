"""Decisions on their way to Firehose, which writes them to S3 as Parquet.

A thread of its own sends what it was offered in batches; nothing here makes an answer wait. What the service refuses
because it is busy, and what it could not be asked to take, is sent again with growing pauses while newer decisions
queue up; what the queue does not hold is lost, counted and said. A batch whose answer is lost is sent again: the table
may hold a decision twice, under one ``decision_id``, and never half.
"""

import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fraud.decision_table import table_row
from fraud.errors import StoreUnavailable
from serving.logs import Seldom, place_of
from serving.metrics import Metrics
from stores.aws_call import AwsCalls
from stores.credentials import NoCredentials

TARGET: Final = "Firehose_20150804.PutRecordBatch"
QUEUE_LENGTH: Final = 50_000
"""Decisions waiting at most, some 100 MB: a minute of Firehose away at 800 decisions a second."""

BATCH_RECORDS: Final = 500
BATCH_BYTES: Final = 3 << 20
"""Firehose takes 4 MiB and 500 records a call."""

PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
CLOSING_S: Final = 10.0
"""How long the end of the process may take for what is left."""

TIMEOUT_S: Final = 5.0
_OK: Final = 200


class Delivery:
    """Delivers logged lines to a delivery stream; :meth:`offer` never waits.

    Parameters
    ----------
    calls
        Of the service ``firehose``; used by this thread only.
    stream
        Name of the delivery stream.
    """

    def __init__(self, calls: AwsCalls, stream: str, *, metrics: Metrics) -> None:
        self._calls = calls
        self._stream = stream
        self._metrics = metrics
        self._queue: deque[bytes] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._give_up_at = float("inf")
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._seldom = Seldom()

    def start(self) -> None:
        """Start delivering."""
        self._thread.start()

    def offer(self, lines: Sequence[bytes]) -> None:
        """Take lines of the decision log, or count them lost when the queue is full."""
        room = max(0, QUEUE_LENGTH - len(self._queue))
        self._queue.extend(lines[:room])
        if len(lines) > room:
            self._lost(len(lines) - room, "queue is full")
        self._wake.set()

    def close(self) -> None:
        """Deliver what is left, for at most ``CLOSING_S``, and stop."""
        self._give_up_at = time.monotonic() + CLOSING_S
        self._closing.set()
        self._wake.set()
        self._thread.join()
        self._calls.close()

    def _run(self) -> None:
        while not self._closing.is_set() or self._queue:
            self._wake.wait(1.0)
            self._wake.clear()
            try:
                self._drain()
            except Exception as error:  # noqa: BLE001  # the outermost loop of this thread: it must not end
                self._seldom.warn("delivery_failed", error=type(error).__name__, at=place_of(error))
            if self._expired():
                break
        if self._queue:
            self._lost(len(self._queue), "not delivered before the end")
            self._queue.clear()

    def _drain(self) -> None:
        pause = PAUSE_S
        while self._queue and not self._expired():
            records = self._take()
            while records:
                before, records = len(records), self._send(records)
                self._metrics.decisions_delivered.add(count=before - len(records))
                if not records:
                    pause = PAUSE_S
                    break
                if self._expired():
                    self._lost(len(records), "not delivered before the end")
                    return
                self._closing.wait(pause)
                pause = min(LONGEST_PAUSE_S, 2.0 * pause)

    def _expired(self) -> bool:
        return time.monotonic() > self._give_up_at

    def _take(self) -> list[bytes]:
        """Return the next batch as records; a line that is no decision is lost."""
        records: list[bytes] = []
        size = 0
        while self._queue and len(records) < BATCH_RECORDS and size < BATCH_BYTES:
            line = self._queue.popleft()
            try:
                record = msgspec.json.encode(table_row(msgspec.json.decode(line, type=dict[str, Any]))) + b"\n"
            except (ValueError, msgspec.DecodeError):
                self._lost(1, "no decision")
                continue
            records.append(record)
            size += len(record)
        return records

    def _send(self, records: Sequence[bytes]) -> list[bytes]:
        """Send a batch; return the records that have to be sent again."""
        data = [{"Data": b64encode(record).decode()} for record in records]
        body = msgspec.json.encode({"DeliveryStreamName": self._stream, "Records": data})
        try:
            status, answer = self._calls.post(TARGET, body)
            results = msgspec.json.decode(answer, type=dict[str, Any]) if status == _OK else {}
        except (StoreUnavailable, NoCredentials, msgspec.DecodeError) as error:
            self._again(len(records), type(error).__name__)
            return list(records)
        if status != _OK:
            self._again(len(records), f"status {status}")
            return list(records)
        responses = results.get("RequestResponses", ())
        left = [record for record, said in zip(records, responses, strict=False) if said.get("ErrorCode")]
        left += records[len(responses) :]
        if left:
            self._again(len(left), "busy")
        return left

    def _again(self, count: int, reason: str) -> None:
        self._metrics.decisions_redelivered.add(count=count)
        self._seldom.warn("delivery_repeated", count=count, reason=reason)

    def _lost(self, count: int, reason: str) -> None:
        with self._counting:  # the log's thread counts here too
            self._metrics.decisions_undelivered.add(count=count)
        self._seldom.warn("decisions_lost", count=count, reason=reason)
