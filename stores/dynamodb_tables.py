"""DynamoDB as a few calls: read many keys of many tables, put many items each under its own condition, make tables.

Every wait is bounded. What the service refuses because it is busy was not done and is sent again, a few times with
growing pauses; keys that it leaves unanswered are asked again, never taken for absent. Any other failure ends the call.
A write is sent again after a lost answer only when the caller said that this is harmless (``attempts``).
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fraud.errors import StoreUnavailable
from stores.dynamodb_layout import BATCH_KEYS, ID, Item, Put, keys_and_attributes
from stores.errors import InvalidStoreConfig

CONNECT_S: Final = 2.0
READ_S: Final = 2.0
"""Longest waits for a connection and for an answer."""

BUSY_ATTEMPTS: Final = 6
"""How often in a row the service may be too busy."""

PAUSE_S: Final = 0.05
"""First pause; each next one is twice as long, and all are shortened at random so that writers do not march in step."""

CREATION_S: Final = 120
"""Longest wait for a new table."""

_BUSY: Final = frozenset(
    {"ProvisionedThroughputExceededException", "RequestLimitExceeded", "Throttling", "ThrottlingException"}
)
_REFUSED: Final = "ConditionalCheckFailedException"

_Given = TypeVar("_Given")
_Got = TypeVar("_Got")


@dataclass(frozen=True)
class Wanted:
    """What is read of one table: of each key, its event time and some features."""

    table: str
    keys: Sequence[str]
    features: Sequence[str]


class Tables:
    """Tables of one account and region; threads may share it.

    Parameters
    ----------
    client
        A low-level client, see :func:`connect_tables`.
    workers
        Requests under way at a time.
    consistent
        Whether a write that was acknowledged before is always seen.
    """

    def __init__(self, client: Any, *, workers: int, consistent: bool = True) -> None:
        self.client = client
        self._consistent = consistent
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="dynamodb")

    def close(self) -> None:
        """End the threads and connections."""
        self._pool.shutdown()
        self.client.close()

    def read(self, wanted: Sequence[Wanted]) -> dict[tuple[str, str], Item]:
        """Return the items that exist, by table and key: up to 100 keys, whatever their tables, in one request.

        Raises
        ------
        StoreUnavailable
            The service did not answer, or stayed too busy to answer for every key.
        """
        asked = {want.table: want.features for want in wanted}
        pairs = list(dict.fromkeys((want.table, key) for want in wanted for key in want.keys))
        requests = []
        for start in range(0, len(pairs), BATCH_KEYS):
            keys: dict[str, list[str]] = {}
            for table, key in pairs[start : start + BATCH_KEYS]:
                keys.setdefault(table, []).append(key)
            requests.append(
                {
                    table: keys_and_attributes(some, asked[table], consistent=self._consistent)
                    for table, some in keys.items()
                }
            )
        return {place: found for part in self._each(self._fetch, requests) for place, found in part.items()}

    def put(self, puts: Sequence[Put]) -> list[bool]:
        """Put each item; return which conditions held.

        Raises
        ------
        StoreUnavailable
            The service did not answer one of them. None is under way any more; others may have been done.
        """
        return self._each(self._put, puts)

    def create(self, names: Sequence[str]) -> None:
        """Create the tables that are missing and wait for them; those that exist stay as they are.

        Raises
        ------
        InvalidStoreConfig
            A table is missing and may not be created here.
        """
        made = [name for name in names if not self._exists(name)]
        for name in made:
            self._create(name)
        for name in made:
            wait = {"Delay": 1, "MaxAttempts": CREATION_S}
            self.client.get_waiter("table_exists").wait(TableName=name, WaiterConfig=wait)

    def delete(self, names: Sequence[str]) -> None:
        """Delete tables; one that is gone already is no error."""
        for name in names:
            try:
                self.client.delete_table(TableName=name)
            except self.client.exceptions.ResourceNotFoundException:
                continue

    def _exists(self, name: str) -> bool:
        try:
            self.client.describe_table(TableName=name)
        except self.client.exceptions.ResourceNotFoundException:
            return False
        return True

    def _create(self, name: str) -> None:
        try:
            self.client.create_table(
                TableName=name,
                KeySchema=[{"AttributeName": ID, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": ID, "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        except self.client.exceptions.ResourceInUseException:
            return  # somebody else creates it just now
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise InvalidStoreConfig(f"table {name} is missing and may not be created here ({code})") from None

    def _each(self, call: Callable[[_Given], _Got], given: Sequence[_Given]) -> list[_Got]:
        """Return the results in order. After a first failure nothing more is sent, and what was sent is waited for."""
        if len(given) <= 1:
            return [call(one) for one in given]
        errors: list[StoreUnavailable] = []

        def guarded(one: _Given) -> list[_Got]:
            if errors:
                return []
            try:
                return [call(one)]
            except StoreUnavailable as error:
                errors.append(error)
                return []

        done = [result for some in self._pool.map(guarded, given) for result in some]
        if errors:
            raise errors[0]
        return done

    def _fetch(self, request: Mapping[str, Any]) -> dict[tuple[str, str], Item]:
        found: dict[tuple[str, str], Item] = {}
        left, busy = _count(request), 0
        while left:
            response = self._call(self.client.batch_get_item, {"RequestItems": request})
            for table, items in response["Responses"].items():
                found.update(((table, item[ID]["S"]), item) for item in items)
            request = response.get("UnprocessedKeys") or {}
            before, left = left, _count(request)
            busy = 0 if left < before else busy + 1
            if busy == BUSY_ATTEMPTS:
                raise StoreUnavailable(f"the online store left {left} keys unanswered {busy} times over")
            if busy:
                _pause(busy)
        return found

    def _put(self, put: Put) -> bool:
        return self._call(self.client.put_item, put) is not None

    def _call(self, method: Callable[..., dict[str, Any]], arguments: Mapping[str, Any]) -> Any:
        """Return the response; null when a condition did not hold."""
        for busy in range(1, BUSY_ATTEMPTS + 1):
            try:
                return method(**arguments)
            except ClientError as error:
                # The service's text may repeat a key: only the kind of error is told.
                code = error.response["Error"]["Code"]
                if code == _REFUSED:
                    return None
                if code not in _BUSY:
                    advice = "; apply the feature repository" if code == "ResourceNotFoundException" else ""
                    raise StoreUnavailable(f"the online store refused a request ({code}{advice})") from None
            except BotoCoreError as error:
                raise StoreUnavailable(f"the online store did not answer ({type(error).__name__})") from None
            if busy < BUSY_ATTEMPTS:
                _pause(busy)
        raise StoreUnavailable(f"the online store was too busy {BUSY_ATTEMPTS} times over")


def connect_tables(
    region: str, endpoint: str = "", *, workers: int = 8, attempts: int = 1, consistent: bool = True
) -> Tables:
    """Return the tables of a region.

    Parameters
    ----------
    region
        Such as ``eu-west-1``.
    endpoint
        Another address than Amazon's; empty for Amazon's.
    workers
        Requests under way at a time.
    attempts
        How often a request is sent when its answer is lost. More than once only where a repeat is harmless and nobody
        asks whose write it was.
    consistent
        See :class:`Tables`.
    """
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        max_pool_connections=workers,
        tcp_keepalive=True,
        retries={"total_max_attempts": attempts, "mode": "standard"},
    )
    client = boto3.client("dynamodb", region_name=region, endpoint_url=endpoint or None, config=config)
    return Tables(client, workers=workers, consistent=consistent)


def _pause(busy: int) -> None:
    time.sleep(random.uniform(0.5, 1.0) * PAUSE_S * 2 ** (busy - 1))


def _count(request: Mapping[str, Any]) -> int:
    return sum(len(asked["Keys"]) for asked in request.values())
