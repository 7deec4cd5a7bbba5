"""Getting a lost store back: our own probes, with growing pauses, until one is answered."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from serving.breaker import Breaker
from serving.logs import note
from serving.metrics import Metrics


async def mend(breaker: Breaker, metrics: Metrics, probe: Callable[[], Awaitable[bool]]) -> None:
    """Probe until the store answers; ``probe`` closes the breaker when it does."""
    while True:
        pause = breaker.next_pause_s()
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # many scorers must not probe in step
        breaker.probing()
        answered = await probe()
        metrics.store_probes.add(("answered" if answered else "failed",))
        if answered:
            note("store_found")
            return
        breaker.trip()
