import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import hiredis
import pytest
import uvloop

from fraud.errors import StoreUnavailable
from fraud.settings import Secret, Settings
from serving.breaker import FAILURES_TO_OPEN
from serving.metrics import Metrics
from serving.redis_store import RedisStore
from stores.access import redis_access
from tests.support.emulators import free_port, start_valkey, valkey_client

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
READ = [(b"HMGET", b"k", b"f")]


@asynccontextmanager
async def started(settings: Settings, metrics: Metrics) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis_access(settings), metrics, timeout_ms=settings.store_timeout_ms)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def pretending(server: Server) -> AsyncIterator[int]:
    """Run something on loopback that speaks as ``server`` does."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await server(reader, writer)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # lets them go


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  # what it waits for happens in the code under test
            await asyncio.sleep(0.01)


async def refused(store: RedisStore) -> None:
    with pytest.raises(StoreUnavailable):
        await store.read(READ)


def test_concurrent_reads_share_one_connection_and_get_their_own_replies() -> None:
    async def scene(port: int) -> tuple[list[bytes], int]:
        async with started(Settings(redis_port=port, store_timeout_ms=10_000), Metrics()) as store:
            futures = [store.read([(b"HMGET", b"k%d" % n, b"f"), (b"ECHO", b"e%d" % n)]) for n in range(300)]
            replies = await asyncio.gather(*futures)
            info = (await store.read([(b"INFO", b"clients")]))[0]
        assert [reply[1] for reply in replies] == [b"e%d" % n for n in range(300)]
        return [reply[0][0] for reply in replies], int(info.partition(b"connected_clients:")[2].split()[0])

    with start_valkey() as port, valkey_client(port) as client:
        for number in range(300):
            client.hset(f"k{number}", "f", f"v{number}")
        client.close()
        values, clients = uvloop.run(scene(port))
    assert values == [b"v%d" % n for n in range(300)]
    assert clients == 1


def test_an_error_reply_stands_in_its_place() -> None:
    async def scene(port: int) -> list[object]:
        async with started(Settings(redis_port=port, store_timeout_ms=10_000), Metrics()) as store:
            return await store.read([(b"HMGET", b"text", b"f"), (b"HMGET", b"none", b"f")])

    with start_valkey() as port, valkey_client(port) as client:
        client.set("text", "no hash")
        wrong, absent = uvloop.run(scene(port))
    assert isinstance(wrong, hiredis.ReplyError)
    assert absent == [None]


def test_a_password_is_sent_and_a_wrong_one_means_unavailable() -> None:
    async def scene(port: int, password: str) -> object:
        settings = Settings(redis_port=port, redis_password=Secret(password), store_timeout_ms=10_000)
        async with started(settings, Metrics()) as store:
            return await store.read([(b"ECHO", b"in")])

    with start_valkey() as port:
        with valkey_client(port) as client:
            client.config_set("requirepass", "right")
        assert uvloop.run(scene(port, "right")) == [b"in"]
        with pytest.raises(StoreUnavailable):
            uvloop.run(scene(port, "wrong"))


def test_a_store_that_is_away_refuses_at_once_and_is_found_when_it_comes() -> None:
    async def scene(port: int, metrics: Metrics) -> None:
        async with started(Settings(redis_port=port), metrics) as store:
            for _ in range(1000):
                await refused(store)
            assert metrics.store_refusals.total() == 1000
            assert metrics.store_timeouts.total() == 0
            with start_valkey(port):
                await until(lambda: metrics.store_probes.values.get(("answered",), 0) > 0)
                assert await store.read(READ) == [[None]]

    uvloop.run(scene(free_port(), Metrics()))


def test_a_silent_store_times_out_a_few_reads_and_then_none() -> None:
    answering = [True]

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            if answering[0]:
                writer.write(b"+PONG\r\n" if b"PING" in data else b"*1\r\n$-1\r\n")
        writer.close()

    async def scene(metrics: Metrics) -> None:
        async with pretending(server) as port, started(Settings(redis_port=port), metrics) as store:
            assert await store.read(READ) == [[None]]
            answering[0] = False
            for _ in range(50):
                await refused(store)
            assert metrics.store_timeouts.total() == FAILURES_TO_OPEN
            assert metrics.store_refusals.total() == 50 - FAILURES_TO_OPEN
            answering[0] = True
            await until(lambda: metrics.store_probes.values.get(("answered",), 0) > 0)
            assert await store.read(READ) == [[None]]

    uvloop.run(scene(Metrics()))


def test_a_reply_that_comes_too_late_is_nobody_elses() -> None:
    late = asyncio.Event

    async def scene(metrics: Metrics) -> None:
        release = late()
        first = [True]

        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(4096):
                if b"PING" in data:
                    writer.write(b"+PONG\r\n")
                    continue
                if first[0]:
                    first[0] = False
                    await release.wait()
                    writer.write(b"*1\r\n$5\r\nfirst\r\n")
                    data = data.replace(b"HMGET", b"", 1)
                if b"HMGET" in data:
                    writer.write(b"*1\r\n$6\r\nsecond\r\n")
            writer.close()

        async with pretending(server) as port, started(Settings(redis_port=port), metrics) as store:
            await refused(store)
            pending = store.read(READ)
            release.set()
            assert await pending == [[b"second"]]
            assert metrics.store_timeouts.total() == 1

    uvloop.run(scene(Metrics()))


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n" * 50])
def test_what_is_no_answer_of_redis_costs_the_connection_only(nonsense: bytes) -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(b"+PONG\r\n" if b"PING" in data else nonsense)
        writer.close()

    async def scene(metrics: Metrics) -> None:
        async with pretending(server) as port, started(Settings(redis_port=port), metrics) as store:
            await asyncio.gather(store.read(READ), return_exceptions=True)
            await until(lambda: metrics.store_losses.total() == 1)

    uvloop.run(scene(Metrics()))
