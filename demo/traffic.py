"""Traffic that goes on in the background while something else happens, such as the promotion of a new champion."""

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from demo.replay import Answers, post, replace_unknown
from fraud.transaction import Transaction, encode_transaction

EVERY_S: Final = 0.02
"""Between two requests: fifty a second, little beside the training that runs on the same cores."""

_CLOSED: Final = (OSError, asyncio.IncompleteReadError)


class SteadyTraffic:
    """Asks the scorer at a steady pace, over one kept connection, from entering the block until it is left.

    A request that gets no answer, or another one than 200, counts as an error; the next is sent all the same.

    Parameters
    ----------
    transactions
        Sent in turn, over and over.
    port
        Of the scorer on loopback.
    """

    def __init__(self, transactions: Sequence[Transaction], port: int, *, every_s: float = EVERY_S) -> None:
        self.answers = Answers()
        self._bodies = [encode_transaction(replace_unknown(transaction)) for transaction in transactions]
        self._port = port
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()), name="traffic", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Wait for the last answer and end."""
        self._ended.set()
        self._thread.join()

    def wait_for(self, version: str, *, answers: int, within_s: float) -> bool:
        """Return whether a model version has given so many answers, as soon as it has or the time is over."""
        deadline = time.monotonic() + within_s
        while self.answers.versions.get(version, 0) < answers and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.answers.versions.get(version, 0) >= answers

    async def _ask(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        due = time.monotonic()
        for body in itertools.cycle(self._bodies):
            if self._ended.is_set():
                break
            self.answers.requests += 1
            try:
                connection = connection or await asyncio.open_connection("127.0.0.1", self._port)
                status, answer = await post(*connection, body)
            except _CLOSED:
                status, answer = 0, b""
                if connection is not None:
                    connection[1].close()
                connection = None
            self._count(status, answer)
            due = max(due + self._every_s, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
        if connection is not None:
            connection[1].close()

    def _count(self, status: int, answer: bytes) -> None:
        if status != 200:
            self.answers.errors += 1
            return
        version = msgspec.json.decode(answer)["model_version"]
        self.answers.versions[version] = self.answers.versions.get(version, 0) + 1
