"""A live hour, replayed: transactions arrive by their own times, compressed; each is scored, then published.

Open loop: a request is sent when it is due, whether or not earlier ones were answered, and its latency counts from the
moment it was due, so a stall cannot hide itself.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from fraud.transaction import Transaction, encode_transaction

PUBLISH_EVERY_S = 0.05
WINDOW = 256


@dataclass
class Answers:
    """What came back, in order of sending."""

    requests: int = 0
    errors: int = 0
    latency_ms: list[float] = field(default_factory=list)
    second: list[int] = field(default_factory=list)
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)


def transactions_of(table: pa.Table) -> list[Transaction]:
    """Return the rows of a transaction log as transactions, authorisation included."""
    columns = table.drop_columns(["created_timestamp", "event_timestamp"]).to_pylist()
    times = (table["event_timestamp"].cast(pa.int64()).to_numpy() // 1000).tolist()
    return [Transaction(**row, event_time_ms=time_ms) for row, time_ms in zip(columns, times, strict=True)]


class Publisher:
    """Puts transactions on the stream in the background, as a checkout's outbox would."""

    def __init__(self, publish: Callable[[Sequence[Transaction]], object]) -> None:
        self._publish = publish
        self._waiting: deque[Transaction] = deque()
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def add(self, transaction: Transaction) -> None:
        """Queue one transaction."""
        self._waiting.append(transaction)

    def close(self) -> None:
        """Publish what is left; raise what publishing raised."""
        self._ended.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._ended.is_set() or self._waiting:
                some = [self._waiting.popleft() for _ in range(min(len(self._waiting), WINDOW))]
                if some:
                    self._publish(some)
                else:
                    time.sleep(PUBLISH_EVERY_S)
        except BaseException as error:  # noqa: BLE001  # carried to close(), on the caller's thread
            self._failure = error


async def replay(
    transactions: Sequence[Transaction],
    *,
    port: int,
    seconds: float,
    answered: Callable[[Transaction, dict[str, Any]], None],
    tick: Callable[[int], None],
    connections: int = 32,
) -> Answers:
    """Send ``transactions`` within ``seconds``, spaced as their event times are, and return the answers.

    Parameters
    ----------
    answered
        Called with each transaction and its decision.
    tick
        Called with the number sent so far.
    """
    first, last = transactions[0].event_time_ms, transactions[-1].event_time_ms
    scale = seconds / max(1, last - first)
    due = [(transaction.event_time_ms - first) * scale for transaction in transactions]
    answers = Answers()
    queue: asyncio.Queue[tuple[float, Transaction] | None] = asyncio.Queue()
    start = time.perf_counter() + 0.1
    senders = [asyncio.create_task(_sender(queue, port, start, answers, answered)) for _ in range(connections)]
    for moment, transaction in zip(due, transactions, strict=True):
        wait = start + moment - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        answers.requests += 1
        tick(answers.requests)
        queue.put_nowait((start + moment, transaction))
    for _ in senders:
        queue.put_nowait(None)
    await asyncio.gather(*senders)
    return answers


async def _sender(
    queue: "asyncio.Queue[tuple[float, Transaction] | None]",
    port: int,
    start: float,
    answers: Answers,
    answered: Callable[[Transaction, dict[str, Any]], None],
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (item := await queue.get()) is not None:
        due, transaction = item
        status, body = await post(reader, writer, encode_transaction(replace_unknown(transaction)))
        now = time.perf_counter()
        answers.latency_ms.append((now - due) * 1000.0)
        answers.second.append(int(due - start))
        if status != 200:
            answers.errors += 1
            continue
        decision = msgspec.json.decode(body)
        answers.decisions[transaction.transaction_id] = decision
        version = decision["model_version"]
        answers.versions[version] = answers.versions.get(version, 0) + 1
        answered(transaction, decision)
    writer.close()


def replace_unknown(transaction: Transaction) -> Transaction:
    """Return the transaction as it is when it is scored: nobody knows yet whether the issuer will authorise it."""
    return msgspec.structs.replace(transaction, authorised=None)


async def post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> tuple[int, bytes]:
    """Send one scoring request on a kept connection; return status and body."""
    head = (
        f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = next(int(line.split(b":")[1]) for line in answer.split(b"\r\n") if line.startswith(b"content-length"))
    return int(answer[9:12]), await reader.readexactly(length)


def percentiles(values: Iterable[float], shares: Sequence[float] = (0.5, 0.95, 0.99)) -> dict[str, float]:
    """Return named percentiles, rounded to microseconds of a millisecond figure."""
    held = np.fromiter(values, np.float64)
    if not len(held):
        return {f"p{share * 100:g}": float("nan") for share in shares}
    return {f"p{share * 100:g}": round(float(np.quantile(held, share)), 3) for share in shares}
