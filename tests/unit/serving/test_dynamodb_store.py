"""The scorer's reading of DynamoDB against a server on loopback that is busy, slow, silent or wrong."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from fraud.errors import StoreUnavailable
from fraud.settings import Secret
from serving.breaker import FAILURES_TO_OPEN
from serving.dynamodb_store import DynamoDBStore
from serving.metrics import Metrics
from serving.signed_http import MOST, SignedEndpoint
from stores.credentials import NoCredentials, Renewed
from stores.dynamodb_layout import item
from stores.layout import encode_timestamp, encode_value
from stores.plan import CompiledReader
from stores.signing import Credentials
from tests.support.bundles import read_plan

READER = CompiledReader(read_plan())
KEYS = {"card_id": "c1", "device_id": "d1", "ip": "i1", "merchant_id": "m1"}
TABLES = [f"fraud.{view}" for planned in READER.plan.entities for view in planned.views]
KEPT = Credentials("AKID", Secret("S"), Secret("T"))
Asked = dict[str, Any]
Answer = tuple[int, Any] | None
"""Status and body; null for silence."""


class Service:
    """Answers each request with ``answer``; counts requests and connections."""

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.heads: list[str] = []
        self.connections = 0
        self.hang_up_after_answer = False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                length = int(next(line for line in head.splitlines() if line.startswith("content-length")).split()[1])
                asked = json.loads(await reader.readexactly(length))["RequestItems"]
                self.asked.append(asked)
                self.heads.append(head)
                answer = self.answer(asked)
                if answer is None:
                    continue
                status, body = answer
                data = json.dumps(body).encode() if not isinstance(body, bytes) else body
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
                if self.hang_up_after_answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


def whole(asked: Asked) -> Answer:
    """Answer for every key asked for: a state for the card, nothing else."""
    held = item("k", {"card_state": encode_value(b"state"), "card_revision": encode_value(3)}, 1_770_000_000_123_000)
    wire = json.loads(json.dumps(held, default=_base64))
    found = {table: [wire] if table == "fraud.card_velocity" else [] for table in asked}
    return 200, {"Responses": found, "UnprocessedKeys": {}}


def _base64(data: bytes) -> str:
    from base64 import b64encode

    return b64encode(data).decode()


@asynccontextmanager
async def opened(
    service: Service, metrics: Metrics, *, timeout_ms: float = 5_000, credentials: Renewed | None = None
) -> AsyncIterator[DynamoDBStore]:
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await service(reader, writer)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    endpoint = SignedEndpoint("dynamodb", "eu-west-1", f"http://127.0.0.1:{port}", credentials or Renewed(lambda: KEPT))
    store = DynamoDBStore(endpoint, metrics, timeout_ms=timeout_ms)
    await store.start()
    try:
        yield store
    finally:
        await store.close()
        listener.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  # what it waits for happens in the code under test
            await asyncio.sleep(0.01)


def run(scene: Callable[[], Awaitable[None]]) -> None:
    uvloop.run(scene())  # type: ignore[arg-type]  # a coroutine function's awaitable is a coroutine


def test_one_signed_request_reads_everything_in_the_shape_of_redis() -> None:
    service = Service(whole)

    async def scene() -> None:
        async with opened(service, Metrics()) as store:
            card, *others = await store.fetch(READER, KEYS)
            fields = READER.plan.entities[0].fields
            found = dict(zip([f.feature for f in fields], card, strict=False))
            assert (found["card_state"], found["card_revision"]) == (encode_value(b"state"), encode_value(3))
            assert card[len(fields) :] == [encode_timestamp(1_770_000_000_123), None]
            assert all(set(other) == {None} for other in others)
            assert [len(reply) for reply in (card, *others)] == [
                len(planned.fields) + len(planned.views) for planned in READER.plan.entities
            ]

    run(scene)
    assert [sorted(asked) for asked in service.asked] == [sorted(TABLES)]
    head = service.heads[0].lower()
    assert "x-amz-target: dynamodb_20120810.batchgetitem" in head
    assert "x-amz-security-token: t" in head
    assert "authorization: aws4-hmac-sha256 credential=akid/" in head


def test_requests_share_kept_connections() -> None:
    service = Service(whole)

    async def scene() -> None:
        async with opened(service, Metrics()) as store:
            for _ in range(50):
                await store.fetch(READER, KEYS)
            before = service.connections
            await asyncio.gather(*(store.fetch(READER, KEYS) for _ in range(before)))
            assert service.connections == before

    run(scene)
    assert service.connections < 10


def test_a_connection_that_ends_between_two_requests_costs_nothing() -> None:
    service = Service(whole)
    service.hang_up_after_answer = True

    async def scene() -> None:
        async with opened(service, metrics) as store:
            for _ in range(20):
                await store.fetch(READER, KEYS)

    metrics = Metrics()
    run(scene)
    assert metrics.store_losses.total() == 0


def test_keys_left_unanswered_are_asked_again_and_only_those() -> None:
    def busy(asked: Asked) -> Answer:
        answer = whole(asked)
        assert answer is not None
        later = list(asked)[1:]
        left = {table: asked[table] for table in later}
        body = answer[1]
        body["Responses"] = {table: found for table, found in body["Responses"].items() if table not in later}
        return 200, {**body, "UnprocessedKeys": left}

    service, metrics = Service(busy), Metrics()

    async def scene() -> None:
        async with opened(service, metrics) as store:
            replies = await store.fetch(READER, KEYS)
            assert encode_value(b"state") in replies[0]

    run(scene)
    assert [len(asked) for asked in service.asked] == list(range(len(TABLES), 0, -1))
    assert metrics.store_repeats.total() == len(TABLES) - 1


@pytest.mark.parametrize(
    ("answer", "repeated"),
    [
        ((400, {"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}), True),
        ((500, {"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError"}), True),
        ((400, {"__type": "com.amazon.coral.service#AccessDeniedException", "message": "no c1"}), False),
        ((400, b"<html>"), False),
        ((200, b"[]"), False),
    ],
)
def test_busy_is_tried_again_and_a_refusal_is_not(answer: Answer, repeated: bool) -> None:
    answers = [answer]
    service, metrics = Service(lambda asked: answers.pop() if answers else whole(asked)), Metrics()

    async def scene() -> None:
        async with opened(service, metrics) as store:
            if repeated:
                assert encode_value(b"state") in (await store.fetch(READER, KEYS))[0]
                return
            with pytest.raises(StoreUnavailable) as caught:
                await store.fetch(READER, KEYS)
            assert "c1" not in str(caught.value)

    run(scene)
    assert len(service.asked) == 1 + repeated


def test_a_silent_service_costs_a_few_deadlines_then_nothing_until_it_answers_again() -> None:
    silent = [True]
    service, metrics = Service(lambda asked: None if silent[0] else whole(asked)), Metrics()

    async def scene() -> None:
        async with opened(service, metrics, timeout_ms=30) as store:
            for _ in range(50):
                with pytest.raises(StoreUnavailable):
                    await store.fetch(READER, KEYS)
            assert metrics.store_timeouts.total() == FAILURES_TO_OPEN
            assert metrics.store_refusals.total() == 50 - FAILURES_TO_OPEN
            silent[0] = False
            await until(lambda: metrics.store_probes.values.get(("answered",), 0) > 0)
            assert encode_value(b"state") in (await store.fetch(READER, KEYS))[0]

    run(scene)


def test_an_answer_given_up_is_nobody_elses() -> None:
    first = [True]

    def answer(asked: Asked) -> Answer:
        slow, first[0] = first[0], False
        return None if slow else whole(asked)

    metrics = Metrics()

    async def scene() -> None:
        async with opened(Service(answer), metrics, timeout_ms=200) as store:
            with pytest.raises(StoreUnavailable):
                await store.fetch(READER, KEYS)
            assert encode_value(b"state") in (await store.fetch(READER, KEYS))[0]

    run(scene)


def test_more_requests_than_connections_are_refused_at_once() -> None:
    service, metrics = Service(lambda _: None), Metrics()

    async def scene() -> None:
        async with opened(service, metrics, timeout_ms=1_000) as store:
            results = await asyncio.gather(
                *(store.fetch(READER, KEYS) for _ in range(MOST + 50)), return_exceptions=True
            )
            assert all(isinstance(result, StoreUnavailable) for result in results)
            assert sum("waiting already" in str(result) for result in results) == 50

    run(scene)
    assert service.connections <= MOST + 10


def test_without_credentials_reads_are_refused_and_renewal_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving import signed_http

    monkeypatch.setattr(signed_http, "RETRY_S", 0.02)
    calls = [0]

    def find() -> Credentials:
        calls[0] += 1
        if calls[0] < 4:
            raise NoCredentials("none yet")
        return KEPT

    async def scene() -> None:
        async with opened(Service(whole), Metrics(), credentials=Renewed(find)) as store:
            with pytest.raises(StoreUnavailable, match="no AWS credentials"):
                await store.fetch(READER, KEYS)
            await until(lambda: calls[0] == 4)
            await asyncio.sleep(0.01)
            assert encode_value(b"state") in (await store.fetch(READER, KEYS))[0]

    run(scene)
