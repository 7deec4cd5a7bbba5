"""The HTTP surface, as a plain ASGI application: SageMaker's two paths, metrics and the schema.

One place turns errors into HTTP: a refusal is a typed 4xx that names the field, anything unforeseen a 500 that says
nothing about us. ``/ping`` never touches the online store, or one outage would replace every instance at once.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from fraud.transaction import Transaction
from serving.answers import Answer, BatchAnswer, ErrorAnswer, Pong, answer_of, encode, error_of
from serving.budget import Budget
from serving.clients import ARRIVED
from serving.logs import Seldom, place_of
from serving.metrics import Metrics
from serving.requests import (
    MAX_BODY_BYTES,
    Asked,
    RequestRefused,
    announces_too_much,
    is_batch,
    parse_one,
    read_headers,
    split_rows,
    too_large,
)
from serving.schema import openapi
from serving.scorer import Scorer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CONCURRENT_ROWS: Final = 16
"""Rows of a batch in flight at once, so that a batch does not keep its neighbours waiting."""

_JSON: Final = (b"content-type", b"application/json")
_TEXT: Final = (b"content-type", b"text/plain; version=0.0.4")
_METHODS: Final = {
    "/invocations": ("POST",),
    "/metrics": ("GET", "HEAD"),
    "/ping": ("GET", "HEAD"),
    "/schema": ("GET", "HEAD"),
}


_FIELDS: Final = frozenset(
    {*Transaction.__struct_fields__, "body", "budget", "content-type", "inference-id", "transactions"}
)
_CLOSE: Final = (b"connection", b"close")
_RETRY_AFTER: Final = (b"retry-after", b"1")

LINGER_S: Final = 1.0
LINGER_BYTES: Final = 4 * MAX_BODY_BYTES
"""After a refusal of a body that is not read: how long, and how much of it, is still taken and thrown away, so that the
client can read the answer before the connection is closed under it."""


class ClientGone(Exception):
    """The client hung up before its request was whole: nobody is there to answer."""


class App:
    """Answers HTTP requests with a scorer; ``draining`` makes ``/ping`` say so.

    Parameters
    ----------
    budget_ms
        Of a request that asks for no other.
    render
        Gives what ``/metrics`` shows; null for this process's own.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        metrics: Metrics,
        currency: str,
        budget_ms: float,
        render: Callable[[], bytes] | None = None,
    ) -> None:
        self.draining = False
        self._scorer = scorer
        self._metrics = metrics
        self._render = metrics.render if render is None else render
        self._currency = currency
        self._budget_s = budget_ms / 1000.0
        self._schema = encode(openapi(currency))
        self._seldom = Seldom()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = [_TEXT if scope["path"] == "/metrics" else _JSON]
        try:
            status, body = await self._route(scope, receive)
        except RequestRefused as refusal:
            status, body = refusal.status, encode(self._refuse(refusal))
            headers = [_JSON, *_headers_of(refusal, scope["path"])]
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  # the outermost loop of a request: the others must go on
            self._seldom.warn("request_failed", error=type(error).__name__, at=place_of(error))
            status, body = 500, encode(error_of("internal_error", "", "the request failed here; it may be sent again"))
            headers = [_JSON]
        path = scope["path"]
        self._metrics.requests.add((path if path in _METHODS else "other", str(status)))
        closing = status >= 400 and not scope.get("read") and announces_too_much(scope["headers"])
        if closing:
            headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": status, "headers": [*headers, _length(body)]})
        if closing:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await _throw_away(receive)
            body = b""
        await send({"type": "http.response.body", "body": body})

    async def _route(self, scope: Message, receive: Receive) -> tuple[int, bytes]:
        path = scope["path"]
        if path not in _METHODS:
            raise RequestRefused(404, "not_found", "path", f"known are {', '.join(_METHODS)}")
        if scope["method"] not in _METHODS[path]:
            raise RequestRefused(405, "method_not_allowed", "method", f"use {_METHODS[path][0]}")
        if path == "/invocations":
            asked = read_headers(scope["headers"], scope["query_string"])
            body = await read_body(receive)
            scope["read"] = True
            return 200, await self._invoke(body, asked, scope.get(ARRIVED, time.perf_counter()))
        if path == "/ping":
            return self._ping()
        return 200, self._render() if path == "/metrics" else self._schema

    async def _invoke(self, body: bytes, asked: Asked, arrived: float) -> bytes:
        budget = Budget(arrived, self._budget_s if asked.budget_ms is None else asked.budget_ms / 1000.0)
        begun = time.perf_counter()
        self._metrics.latency.add(begun - arrived, (self._scorer.model.bundle.version, "queue"))
        if budget.is_hopeless(begun):
            self._metrics.requests_shed.add()
            self._seldom.warn("requests_shed", waited_ms=round((begun - arrived) * 1e3))
            raise RequestRefused(503, "overloaded", "budget", "the request waited too long here; send it again")
        if is_batch(body):
            answer = encode(await self._decide_all(split_rows(body), asked, budget))
        else:
            decision_id = asked.inference_id or os.urandom(16).hex()
            answer = encode(await self._decide(body, decision_id, budget, explain=asked.explain))
        if budget.is_over(time.perf_counter()):
            self._metrics.over_budget.add()
        return answer

    async def _decide(self, body: bytes, decision_id: str, budget: Budget, *, explain: bool) -> Answer:
        transaction = parse_one(body, currency=self._currency)
        return answer_of(await self._scorer.decide(transaction, decision_id, explain=explain, budget=budget))

    async def _decide_all(self, rows: list[bytes], asked: Asked, budget: Budget) -> BatchAnswer:
        results: list[Answer | ErrorAnswer] = []
        for first in range(0, len(rows), CONCURRENT_ROWS):
            some = enumerate(rows[first : first + CONCURRENT_ROWS], first)
            results += await asyncio.gather(*(self._decide_row(index, row, asked, budget) for index, row in some))
        return BatchAnswer(tuple(results))

    async def _decide_row(self, index: int, row: bytes, asked: Asked, budget: Budget) -> Answer | ErrorAnswer:
        decision_id = f"{asked.inference_id}-{index}" if asked.inference_id else os.urandom(16).hex()
        try:
            return await self._decide(row, decision_id, budget, explain=asked.explain)
        except RequestRefused as refusal:
            return self._refuse(refusal)

    def _refuse(self, refusal: RequestRefused) -> ErrorAnswer:
        field = refusal.field if refusal.field in _FIELDS else "other"  # a caller's own words are no label
        self._metrics.refusals.add((refusal.error_code, field))
        return error_of(refusal.error_code, refusal.field, refusal.reason)

    def _ping(self) -> tuple[int, bytes]:
        version = self._scorer.model.bundle.version
        return 503 if self.draining else 200, encode(Pong("draining" if self.draining else "ready", version))


async def read_body(receive: Receive) -> bytes:
    """Return the whole body.

    Raises
    ------
    RequestRefused
        413 as soon as it is longer than allowed.
    ClientGone
        The client hung up.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        if len(body) > MAX_BODY_BYTES:
            raise too_large()
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientGone
    if len(body) > MAX_BODY_BYTES:
        raise too_large()
    return body


async def _throw_away(receive: Receive) -> None:
    """Take what a refused client still sends, within bounds, until it has read the answer and hung up."""
    taken = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while taken <= LINGER_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _headers_of(refusal: RequestRefused, path: str) -> tuple[tuple[bytes, bytes], ...]:
    if refusal.status == 405:
        return ((b"allow", ", ".join(_METHODS[path]).encode()),)
    return (_RETRY_AFTER,) if refusal.status == 503 else ()


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()
