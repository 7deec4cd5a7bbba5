"""Velocity states in DynamoDB: the same promises as in Redis, by conditional writes."""

from collections.abc import Sequence
from typing import Final

from fraud.settings import Settings
from fraud.velocity import newest_time_ms
from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from stores.dynamodb_layout import VALUES, entity_id, state_features, swap_state, table_name
from stores.dynamodb_tables import Tables, Wanted, connect_tables
from stores.layout import decode_value
from streaming.states import Held, Key, Swap

WORKERS: Final = 16
"""Requests under way at a time: each write is a request of its own."""


def connect_states(settings: Settings) -> Tables:
    """Return tables that are read consistently and where no write is sent twice: the worker decides about that."""
    return connect_tables(settings.region, settings.aws_endpoint, workers=WORKERS)


class DynamoDBStates:
    """States in Feast's layout in DynamoDB.

    Parameters
    ----------
    tables
        See :func:`connect_states`; threads may share it.
    project
        Feast project, the start of every table's name.
    """

    def __init__(self, tables: Tables, *, project: str) -> None:
        self._tables = tables
        self._project = project
        self._names = {entity: table_name(project, f"{entity}_velocity") for entity in ENTITIES}

    def read(self, keys: Sequence[Key]) -> list[Held]:
        """Read in one request for each 100 entities, side by side."""
        places = [(self._names[entity], entity_id(JOIN_KEYS[entity], key)) for entity, key in keys]
        wanted = [
            Wanted(table, [key for name, key in places if name == table], state_features(entity))
            for entity, table in self._names.items()
        ]
        found = self._tables.read(wanted)
        return [_held(entity, found.get(place)) for (entity, _), place in zip(keys, places, strict=True)]

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Write in one conditional request each, side by side."""
        return self._tables.put(
            [
                swap_state(
                    self._project,
                    *swap.key,
                    swap.read.stored,
                    (swap.state, swap.revision, newest_time_ms(swap.key[0], swap.state)),
                )
                for swap in swaps
            ]
        )

    def close(self) -> None:
        """End its threads and connections."""
        self._tables.close()


def _held(entity: Entity, item: dict[str, dict[str, dict[str, dict[str, bytes]]]] | None) -> Held:
    values = item.get(VALUES, {"M": {}})["M"] if item else {}
    state, stored = (bytes(values[name]["B"]) if name in values else b"" for name in state_features(entity))
    held, revision = decode_value(state), decode_value(stored)
    return Held(held if isinstance(held, bytes) else b"", revision if isinstance(revision, int) else 0, stored)
