"""The audited rows, and the lake they are in, as tables that can be changed and written anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from stores.columns import microseconds, number_keys
from stores.files import Location, Span, read_files
from training.labels import read_labels
from training.offline_vectors import profile_columns
from training.transaction_log import LABELS_SCHEMA, TRANSACTIONS_SCHEMA

IntArray = npt.NDArray[np.int64]

BEFORE: Final = -(2**62)
"""A time before everything."""


@dataclass(frozen=True)
class Tables:
    """A lake in memory.

    Parameters
    ----------
    transactions, labels
        In the schemas of the data set.
    profiles
        Of cards and merchants, those that the lake has.
    """

    transactions: pa.Table
    labels: pa.Table
    profiles: Mapping[Entity, pa.Table]


@dataclass(frozen=True)
class Probes:
    """The audited rows, and what every transaction of the log is to them.

    Parameters
    ----------
    place
        Of each probe in the log.
    bound_ms
        For each transaction of the log, the latest time of the probes with which it shares an entity; far in the past
        when there is none.
    time_ms
        Of each transaction.
    numbers
        Of each kind of entity, the key number of each transaction, -1 for none.
    """

    place: IntArray
    bound_ms: IntArray
    time_ms: IntArray
    numbers: Mapping[Entity, IntArray]


def read_tables(lake: Path, span: Span) -> Tables:
    """Return a lake as tables, of its log a span; a lake without labels has none, and without profiles none."""
    location = Location(str(lake))
    names, logged = TRANSACTIONS_SCHEMA.names, location.within("transactions")
    log = read_files(logged, names, "event_timestamp", span, declared=TRANSACTIONS_SCHEMA)
    labels = read_labels(lake) if location.within("labels.parquet").exists() else LABELS_SCHEMA.empty_table()
    entities: tuple[Entity, ...] = ("card", "merchant")
    found = {entity: location.within(f"profiles/{entity}") for entity in entities}
    profiles = {
        entity: read_files(place, profile_columns(entity), "event_timestamp", Span())
        for entity, place in found.items()
        if place.exists()
    }
    return Tables(log.cast(TRANSACTIONS_SCHEMA).combine_chunks(), labels.cast(LABELS_SCHEMA).combine_chunks(), profiles)


def write_tables(tables: Tables, folder: Path) -> Path:
    """Write a lake; returns its folder."""
    for name, table in (
        ("transactions/part-0", tables.transactions),
        ("labels", tables.labels),
        *((f"profiles/{entity}/part-0", table) for entity, table in tables.profiles.items()),
    ):
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, compression="none")
    return folder


def choose_probes(log: pa.Table, candidates: IntArray, *, most: int, seed: int) -> Probes:
    """Return up to ``most`` of the candidate rows that share no entity, drawn at random.

    Parameters
    ----------
    candidates
        Places in ``log``.
    """
    numbers: dict[Entity, IntArray] = {entity: number_keys([log[JOIN_KEYS[entity]]])[1][0] for entity in ENTITIES}
    time_ms = microseconds(log["event_timestamp"]) // 1000
    taken: set[tuple[Entity, int]] = set()
    chosen: list[int] = []
    for place in np.random.default_rng(seed).permutation(candidates)[: 50 * most].tolist():
        keys = {(entity, int(numbers[entity][place])) for entity in ENTITIES if numbers[entity][place] >= 0}
        if taken.isdisjoint(keys):
            taken |= keys
            chosen.append(place)
            if len(chosen) == most:
                break
    places = np.sort(np.array(chosen, np.int64))
    bound = np.full(len(time_ms), BEFORE, np.int64)
    for number in numbers.values():
        of_key = np.full(int(number.max(initial=-1)) + 2, BEFORE, np.int64)  # the last place is that of no entity
        owned = places[number[places] >= 0]
        of_key[number[owned]] = time_ms[owned]
        bound = np.maximum(bound, of_key[number])
    return Probes(places, bound, time_ms, numbers)


def neighbourhood(tables: Tables, probes: Probes) -> tuple[Tables, Probes]:
    """Return the part of a lake that shares an entity with a probe, and the probes in it.

    No feature of a probe can depend on the rest, and no change is made there.
    """
    near = probes.bound_ms > BEFORE
    log = tables.transactions.filter(pa.array(near))
    labels = tables.labels.filter(pc.is_in(tables.labels["transaction_id"], log["transaction_id"].combine_chunks()))
    profiles = {
        entity: table.filter(pc.is_in(table[JOIN_KEYS[entity]], log[JOIN_KEYS[entity]].combine_chunks()))
        for entity, table in tables.profiles.items()
    }
    places = np.cumsum(near) - 1
    numbers = {entity: number[near] for entity, number in probes.numbers.items()}
    inside = Probes(places[probes.place].astype(np.int64), probes.bound_ms[near], probes.time_ms[near], numbers)
    return Tables(log.combine_chunks(), labels.combine_chunks(), profiles), inside
