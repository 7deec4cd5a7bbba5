"""The open loop sends every request, also to a server that closes idle connections."""

import asyncio

from bench.http_load import Load, http_request, open_loop


def test_connections_that_the_server_closed_are_not_used_again() -> None:
    served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        await reader.readuntil(b"\r\n\r\n")
        served += 1
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    async def scene() -> Load:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            return await open_loop(server.sockets[0].getsockname()[1], [http_request(b"")], rate=25, seconds=2.0)

    load = asyncio.run(scene())
    assert load.statuses == {200: 50}
    assert served == 50
