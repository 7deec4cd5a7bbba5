"""What the scorer asks of an online store, whatever it is: one read per request within its time, or a quick no."""

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from stores.plan import CompiledReader

Reply = Any
"""Serialised values in the order of a planned entity's fields and views, nulls among them; or an error in its place."""


class OnlineStore(Protocol):
    """Reads features within ``settings.store_timeout_ms``."""

    async def start(self) -> None:
        """Connect; a store that is away only means a degraded start."""

    async def close(self) -> None:
        """Disconnect for good."""

    def fetch(self, reader: CompiledReader, keys: Mapping[str, str]) -> Awaitable[list[Reply]]:
        """Return the reply for each of the plan's entities, in order.

        Parameters
        ----------
        reader
            Of the plan in service.
        keys
            Join key to value, empty for none.

        Raises
        ------
        StoreUnavailable
            At once when the store is known to be away, or when no answer came in time.
        """

    def answered(self) -> None:
        """Note that a read was answered: failures in a row start again at none."""

    def failed(self) -> None:
        """Note that a read was answered with nothing but errors, as by a store that is loading."""
