"""The floor under the scorer: the same HTTP stack with the same options, echoing the request.

Arguments: a port; then, for the floor that nothing which scores from a store can beat, the port of a Redis and the
directory of a bundle: one round trip of the same commands and one walk of the same trees are added, and nothing is done
with either.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from fraud.bundle import open_bundle
from fraud.trees import predict_margin
from serving.connection import Connection
from stores.bundle_files import read_bundle
from stores.plan import CompiledReader, plan_from

Work = Callable[[], Awaitable[None]]


class Echo:
    """Answers with the request's own body, after ``work``."""

    def __init__(self, work: Work | None) -> None:
        self._work = work

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        body = b"" if scope["path"] == "/ping" else (await receive())["body"]
        if self._work is not None and body:
            await self._work()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def read_and_walk(redis_port: int, directory: Path) -> Work:
    """Return one round trip to Redis and one walk of the bundle's trees."""
    bundle = open_bundle(read_bundle(directory))
    reader = CompiledReader(plan_from(bundle.plan))
    keys = {"card_id": "c000001", "device_id": "d000001", "ip": "i000001", "merchant_id": "m00001"}
    row = np.linspace(0.0, 100.0, len(bundle.features))
    predict_margin(bundle.forest, row)
    held: list[Connection] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        if not held:
            _, connection = await loop.create_connection(
                lambda: Connection(loop, lambda _: None), "127.0.0.1", redis_port
            )
            held.append(connection)
        await held[0].send(reader.payload(keys), len(keys), loop.time() + 10.0)
        predict_margin(bundle.forest, row)

    return work


def main() -> None:
    """Serve until killed."""
    work = read_and_walk(int(sys.argv[2]), Path(sys.argv[3])) if len(sys.argv) > 3 else None
    uvicorn.run(
        Echo(work),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
    )


if __name__ == "__main__":
    main()
