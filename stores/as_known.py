"""History as it was known: what a training set may see of rows that came late, and where a person asks for it.

Event time alone says what had *happened* by a row's time. Asked *as known*, a row also sees only what had *arrived*: a
source's row whose created time plus a lag is not after it. The lag stands for the stream's own delay, so that training
sees what serving could have seen. In order of precedence it is asked for

* around one request: ``with asking_as_known(AsKnown(lag_ms=2000)): store.get_historical_features(...)``;
* by Feast's own ``get_historical_features(..., filter_by_created_timestamp=True)``, with the configured lag;
* for every request, in ``feature_store.yaml``: ``offline_store: {type: ..., as_known: true, lag_ms: 2000}``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from stores.columns import IntArray
from stores.errors import UnsupportedRequest


@dataclass(frozen=True)
class AsKnown:
    """A row counts from its created time plus ``lag_ms`` on, inclusive.

    Raises
    ------
    UnsupportedRequest
        The lag is negative: nothing is known before it arrives.
    """

    lag_ms: int = 0

    def __post_init__(self) -> None:
        """Refuse a lag that would look into the future."""
        if self.lag_ms < 0:
            raise UnsupportedRequest(f"lag_ms={self.lag_ms} is negative; nothing is known before it arrives")

    def newest_arrival_us(self, as_of_us: IntArray) -> IntArray:
        """Return the newest created time that each question may see, epoch microseconds."""
        return as_of_us - self.lag_ms * 1000


_ASKED: ContextVar[tuple[AsKnown | None] | None] = ContextVar("_ASKED", default=None)


@contextmanager
def asking_as_known(as_known: AsKnown | None) -> Iterator[None]:
    """Ask for history as known in every request made within the block; null asks for event time alone."""
    token = _ASKED.set((as_known,))
    try:
        yield
    finally:
        _ASKED.reset(token)


def asked_as_known(configured: AsKnown | None) -> AsKnown | None:
    """Return what the block around the request asks for, else what is configured."""
    asked = _ASKED.get()
    return configured if asked is None else asked[0]
