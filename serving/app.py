"""The HTTP surface, as a plain ASGI application: SageMaker's two paths, metrics and the schema.

One place turns errors into HTTP: a refusal is a typed 4xx that names the field, anything unforeseen a 500 that says
nothing about us. ``/ping`` never touches the online store, or one outage would replace every instance at once.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from fraud.transaction import Transaction
from serving.answers import Answer, BatchAnswer, ErrorAnswer, answer_of, encode, error_of
from serving.logs import Seldom, place_of
from serving.metrics import Metrics
from serving.requests import (
    MAX_BODY_BYTES,
    Asked,
    RequestRefused,
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


_FIELDS: Final = frozenset({*Transaction.__struct_fields__, "body", "content-type", "inference-id", "transactions"})


class ClientGone(Exception):
    """The client hung up before its request was whole: nobody is there to answer."""


class App:
    """Answers HTTP requests with a scorer; ``draining`` makes ``/ping`` say so."""

    def __init__(self, scorer: Scorer, *, metrics: Metrics, currency: str) -> None:
        self.draining = False
        self._scorer = scorer
        self._metrics = metrics
        self._currency = currency
        self._schema = encode(openapi())
        self._seldom = Seldom()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        kind = _TEXT if scope["path"] == "/metrics" else _JSON
        try:
            status, body = await self._route(scope, receive)
        except RequestRefused as refusal:
            kind, status, body = _JSON, refusal.status, encode(self._refuse(refusal))
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  # the outermost loop of a request: the others must go on
            self._seldom.warn("request_failed", error=type(error).__name__, at=place_of(error))
            status, body = 500, encode(error_of("internal_error", "", "the request failed here; it may be sent again"))
        path = scope["path"]
        self._metrics.requests.add((path if path in _METHODS else "other", str(status)))
        await send({"type": "http.response.start", "status": status, "headers": [kind, _length(body)]})
        await send({"type": "http.response.body", "body": body})

    async def _route(self, scope: Message, receive: Receive) -> tuple[int, bytes]:
        path = scope["path"]
        if path not in _METHODS:
            raise RequestRefused(404, "not_found", "path", f"known are {', '.join(_METHODS)}")
        if scope["method"] not in _METHODS[path]:
            raise RequestRefused(405, "method_not_allowed", "method", f"use {_METHODS[path][0]}")
        if path == "/invocations":
            asked = read_headers(scope["headers"], scope["query_string"])
            return 200, await self._invoke(await read_body(receive), asked)
        if path == "/ping":
            return self._ping()
        return 200, self._metrics.render() if path == "/metrics" else self._schema

    async def _invoke(self, body: bytes, asked: Asked) -> bytes:
        if is_batch(body):
            return encode(await self._decide_all(split_rows(body), asked))
        return encode(await self._decide(body, asked.inference_id or os.urandom(16).hex(), explain=asked.explain))

    async def _decide(self, body: bytes, decision_id: str, *, explain: bool) -> Answer:
        transaction = parse_one(body, currency=self._currency)
        return answer_of(await self._scorer.decide(transaction, decision_id, explain=explain))

    async def _decide_all(self, rows: list[bytes], asked: Asked) -> BatchAnswer:
        results: list[Answer | ErrorAnswer] = []
        for first in range(0, len(rows), CONCURRENT_ROWS):
            some = enumerate(rows[first : first + CONCURRENT_ROWS], first)
            results += await asyncio.gather(*(self._decide_row(index, row, asked) for index, row in some))
        return BatchAnswer(tuple(results))

    async def _decide_row(self, index: int, row: bytes, asked: Asked) -> Answer | ErrorAnswer:
        decision_id = f"{asked.inference_id}-{index}" if asked.inference_id else os.urandom(16).hex()
        try:
            return await self._decide(row, decision_id, explain=asked.explain)
        except RequestRefused as refusal:
            return self._refuse(refusal)

    def _refuse(self, refusal: RequestRefused) -> ErrorAnswer:
        field = refusal.field if refusal.field in _FIELDS else "other"  # a caller's own words are no label
        self._metrics.refusals.add((refusal.error_code, field))
        return error_of(refusal.error_code, refusal.field, refusal.reason)

    def _ping(self) -> tuple[int, bytes]:
        status = "draining" if self.draining else "ready"
        version = self._scorer.model.bundle.version
        return 503 if self.draining else 200, encode({"status": status, "model_version": version})


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


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()
