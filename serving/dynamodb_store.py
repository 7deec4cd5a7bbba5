"""DynamoDB as the scorer sees it: one ``BatchGetItem`` over all tables per request, a deadline, and a breaker in front.

Keys that a busy service leaves unanswered are asked for again while there is time; to take them for absent would be a
silent null. Replies have the shape of Redis's, so that everything behind is the same.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Final

import msgspec

from fraud.errors import StoreUnavailable
from serving.breaker import Breaker
from serving.logs import Seldom, warn
from serving.mending import mend
from serving.metrics import Gauge, Metrics
from serving.redis_store import BREAKER_ABOUT, STATES
from serving.signed_http import SignedEndpoint
from serving.store import Reply
from stores.dynamodb_reading import RequestItems, TableReader, unanswered
from stores.plan import CompiledReader

TARGET: Final = "DynamoDB_20120810.BatchGetItem"
PAUSE_S: Final = 0.002
"""Before unanswered keys are asked for again; it doubles."""

_BUSY: Final = frozenset({"ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"})
_OK: Final = 200
_OURS: Final = range(400, 500)


class DynamoDBStore:
    """Reads from DynamoDB within ``timeout_ms``."""

    def __init__(self, endpoint: SignedEndpoint, metrics: Metrics, *, timeout_ms: float) -> None:
        self._endpoint = endpoint
        self._metrics = metrics
        self._timeout_s = timeout_ms / 1000.0
        self._breaker = Breaker()
        self._seldom = Seldom()
        self._tables: TableReader | None = None
        self._probed: RequestItems | None = None
        self._mending: asyncio.Task[None] | None = None
        metrics.gauges.append(Gauge("tollgate_store_breaker", BREAKER_ABOUT, lambda: {(): STATES[self._breaker.state]}))

    async def start(self) -> None:
        """Connect; a store that is away only means a degraded start."""
        await self._endpoint.start()

    async def close(self) -> None:
        """Disconnect for good."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.gather(self._mending, return_exceptions=True)
        await self._endpoint.close()

    def answered(self) -> None:
        """Note that a read was answered: failures in a row start again at none."""
        self._breaker.answered()

    def failed(self) -> None:
        """Note that a read was answered with nothing but values that do not decode."""
        self._fail("only_errors")

    def fetch(self, reader: CompiledReader, keys: Mapping[str, str]) -> Coroutine[None, None, list[Reply]]:
        """Read what a plan reads, in the layout of Redis's replies.

        Raises
        ------
        StoreUnavailable
            At once when the breaker is open; later when the service refuses or does not answer in time.
        """
        if self._breaker.state != "closed":
            self._metrics.store_refusals.add()
            raise StoreUnavailable("the online store is away")
        if self._tables is None or self._tables.plan is not reader.plan:
            self._tables = TableReader(reader.plan)
        return self._read(self._tables, self._tables.request(keys))

    async def _read(self, tables: TableReader, asked: RequestItems) -> list[Reply]:
        self._probed = asked
        try:
            async with asyncio.timeout(self._timeout_s):
                return tables.replies(await self._ask(asked))
        except TimeoutError:
            self._metrics.store_timeouts.add()
            self._fail("too_slow")
            raise StoreUnavailable("the online store did not answer in time") from None
        except StoreUnavailable as error:
            self._seldom.warn("store_refused_us", reason=str(error))
            self._fail("refused")
            raise

    async def _ask(self, asked: RequestItems) -> list[Mapping[str, Any]]:
        """Return the responses that together answer everything."""
        responses: list[Mapping[str, Any]] = []
        pause = PAUSE_S
        while True:
            status, body = await self._endpoint.post(TARGET, msgspec.json.encode({"RequestItems": asked}))
            if status == _OK:
                response = _decoded(body)
                responses.append(response)
                asked = unanswered(response)
                if not asked:
                    return responses
            elif status in _OURS and (kind := _kind(body)) not in _BUSY:
                advice = "; apply the feature repository" if kind == "ResourceNotFoundException" else ""
                raise StoreUnavailable(f"the online store refused a request ({kind}{advice})")
            self._metrics.store_repeats.add()
            await asyncio.sleep(pause)
            pause *= 2.0

    def _fail(self, reason: str) -> None:
        if self._breaker.failed():
            self._metrics.store_losses.add()
            warn("store_lost", reason=reason)
            self._mending = asyncio.get_running_loop().create_task(mend(self._breaker, self._metrics, self._probe))

    async def _probe(self) -> bool:
        """Ask again what was asked last; whoever it was about."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._ask(self._probed or {})
        except (TimeoutError, StoreUnavailable):
            return False
        self._breaker.answered()
        return True


def _decoded(body: bytes) -> Mapping[str, Any]:
    try:
        response: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        raise StoreUnavailable("the online store answered with something else") from None
    return response


def _kind(body: bytes) -> str:
    """Return what kind of refusal it is; the service's words may repeat a key."""
    try:
        said = str(msgspec.json.decode(body, type=dict[str, Any]).get("__type", ""))
    except msgspec.DecodeError:
        return "unknown"
    return said.rpartition("#")[2][:60] or "unknown"
