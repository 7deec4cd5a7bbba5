"""One connection to Redis, shared by all concurrent requests: pipelined, answered in order.

A request's commands go out in one write; replies are matched to requests first in, first out. A request given up keeps
its place in the queue until its replies have passed, or the next request would get them.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis

from fraud.errors import StoreUnavailable

Reply = Any
"""Bytes, a list of bytes and nulls, a number, or a ``hiredis.ReplyError`` in the place of one."""

MAX_WAITING: Final = 4096
"""Requests in flight on the connection, given up ones included; more are refused at once."""


class Exchange:
    """What one request waits for."""

    __slots__ = ("deadline", "future", "replies", "wanted")

    def __init__(self, future: asyncio.Future[list[Reply]], wanted: int, deadline: float) -> None:
        self.future = future
        self.wanted = wanted
        self.deadline = deadline
        self.replies: list[Reply] = []


class Connection(asyncio.Protocol):
    """The protocol; ``lost`` is called once when the connection is gone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[["Connection"], None]) -> None:
        self._loop = loop
        self._lost = lost
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self.waiting: deque[Exchange] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def pause_writing(self) -> None:
        """Refuse new requests: the store does not take what it was sent."""
        self._writable = False

    def resume_writing(self) -> None:
        """Take requests again."""
        self._writable = True

    def send(self, payload: bytes, wanted: int, deadline: float) -> asyncio.Future[list[Reply]]:
        """Write ``payload``, whose commands give ``wanted`` replies.

        Raises
        ------
        StoreUnavailable
            The connection is gone or full.
        """
        if self._transport is None or not self._writable or len(self.waiting) >= MAX_WAITING:
            raise StoreUnavailable("the connection to the online store is gone or full")
        exchange = Exchange(self._loop.create_future(), wanted, deadline)
        self.waiting.append(exchange)
        self._transport.write(payload)
        return exchange.future

    def data_received(self, data: bytes) -> None:
        """Hand replies to those who wait."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                exchange = self.waiting[0]
                exchange.replies.append(reply)
                if len(exchange.replies) == exchange.wanted:
                    self.waiting.popleft()
                    if not exchange.future.done():
                        exchange.future.set_result(exchange.replies)
        except (hiredis.ProtocolError, IndexError):
            self.abort()  # not Redis, or a reply nobody asked for: nothing after it can be matched

    def expire(self, now: float) -> int:
        """Fail the requests whose deadline has passed; return how many."""
        expired = 0
        for exchange in self.waiting:
            if exchange.deadline > now:
                break
            if not exchange.future.done():
                exchange.future.set_exception(StoreUnavailable("the online store did not answer in time"))
                expired += 1
        return expired

    def next_deadline(self) -> float | None:
        """Return the deadline of the oldest request still waited for; null when there is none."""
        return next((e.deadline for e in self.waiting if not e.future.done()), None)

    def abort(self) -> None:
        """Drop the connection without a goodbye."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """Fail everybody who waits."""
        self._transport = None
        for exchange in self.waiting:
            if not exchange.future.done():
                exchange.future.set_exception(StoreUnavailable("the connection to the online store was lost"))
        self.waiting.clear()
        self._lost(self)
