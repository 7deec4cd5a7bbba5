"""A rehearsal: a lake's whole past goes through the stream and the store again, and every transaction is served once.

The records run through the stream's own handler into a real store, turbulent as the contract allows; profiles are
published when they were; each transaction is read by the compiled plan and evaluated as the scorer does, before the
stream goes on. What was served, and from which revisions, is what :mod:`monitoring.certificate` compares with the log.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import redis

from fraud.features import (
    CARD_PROFILE_FEATURES,
    FEATURE_NAMES,
    HOME_COUNTRY,
    MERCHANT_PROFILE_FEATURES,
    Profiles,
    evaluate,
)
from fraud.ring import new_scratch
from fraud.settings import Settings
from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from monitoring.deliveries import Deliveries, Slot, Turbulence, deliveries_of, slots_of
from monitoring.parity import UNSEEN, Served
from monitoring.processes import Feed, feed
from stores.columns import microseconds
from stores.guards import RAISE_TIME, raise_arguments
from stores.layout import encode_moment, encode_value, entity_key, feature_field, timestamp_field
from stores.plan import CompiledReader, Reading, ReadPlan

IntArray = npt.NDArray[np.int64]
Advance = Callable[[int, int], None]
"""Called with what is done and all there is."""

BATCH: Final = 500
"""Most records of a batch, as the worker's."""

_CARD: Final = tuple(feature.name for feature in CARD_PROFILE_FEATURES)
_MERCHANT: Final = tuple(feature.name for feature in MERCHANT_PROFILE_FEATURES)


@dataclass(frozen=True)
class Rehearsed:
    """What came of it.

    Parameters
    ----------
    served
        Vectors and revisions of every transaction, in the order of the log.
    records, applied, repeated, too_late, dead_lettered
        Records delivered (repeats and rewinds included), and what became of them.
    distinct
        Different records there were.
    rewinds
        How often the stream was rewound.
    published
        Profile rows.
    """

    served: Served
    records: int
    applied: int
    repeated: int
    too_late: int
    dead_lettered: int
    distinct: int
    rewinds: int
    published: int


class Publications:
    """Batch profiles, published to the store when they were: by the very script that guards Feast's writes."""

    def __init__(self, lake: Path, client: Any, project: str) -> None:
        self._script = client.register_script(RAISE_TIME)
        self._client = client
        self._rows = deque(sorted(_profile_rows(lake, project), key=lambda row: row[0]))
        self.count = 0

    def edges(self) -> IntArray:
        """Return the distinct times of publication, epoch ms rounded up."""
        return np.unique(np.array([-(-row[0] // 1000) for row in self._rows], np.int64))

    def until(self, time_ms: int) -> None:
        """Publish what was there at a time."""
        while self._rows and self._rows[0][0] <= time_ms * 1000:
            with self._client.pipeline(transaction=False) as pipe:
                for _ in range(min(BATCH, len(self._rows))):
                    if self._rows[0][0] > time_ms * 1000:
                        break
                    _, key, arguments = self._rows.popleft()
                    self._script(keys=[key], args=arguments, client=pipe)
                    self.count += 1
                pipe.execute()


def _profile_rows(lake: Path, project: str) -> list[tuple[int, bytes, list[bytes]]]:
    """Return publication time in microseconds, key, and the script's arguments of every profile row."""
    out: list[tuple[int, bytes, list[bytes]]] = []
    for entity, names in (("card", (HOME_COUNTRY, *_CARD)), ("merchant", _MERCHANT)):
        folder = lake / "profiles" / entity
        if not folder.is_dir():
            continue
        table = pq.read_table(folder)
        view = f"{entity}_profile"
        fields = [timestamp_field(view), *(feature_field(view, name) for name in names)]
        columns = [table[name].to_pylist() for name in names]
        keys = [entity_key(f"{entity}_id", key, project) for key in table[f"{entity}_id"].to_pylist()]
        times = microseconds(table["event_timestamp"]).tolist()
        for time_us, key, values in zip(times, keys, zip(*columns, strict=True), strict=True):
            row = [encode_moment(time_us), *map(encode_value, values)]
            out.append((time_us, key, raise_arguments(fields, [row])))
    return out


def rehearse(
    lake: Path,
    log: pa.Table,
    plan: ReadPlan,
    settings: Settings,
    applied: Path,
    *,
    seed: int,
    turbulence: Turbulence,
    advance: Advance,
) -> Rehearsed:
    """Run the rehearsal and return what was served.

    Parameters
    ----------
    lake
        For its labels and profiles.
    log
        Transactions in order of time and id.
    plan
        Compiled; its project must be that of ``settings``, and have nothing in the store yet.
    applied
        Where the stream's logs go.
    """
    labels = pq.read_table(lake / "labels.parquet") if (lake / "labels.parquet").exists() else None
    deliveries = deliveries_of(log, labels, seed=seed, turbulence=turbulence)
    client: Any = redis.Redis(
        host=settings.redis_host, port=settings.redis_port, password=settings.redis_password.value or None
    )
    with client, feed(applied, settings) as stream:
        stage = _Stage(deliveries, stream, CompiledReader(plan), client, turbulence)
        published = Publications(lake, client, settings.project)
        time_ms = log["event_timestamp"].cast(pa.int64()).to_numpy() // 1000
        for slot in slots_of(deliveries, time_ms, published.edges(), seed=seed):
            published.until(int(time_ms[slot.first]))
            stage.play(slot)
            advance(slot.last, len(time_ms))
        stage.finish()
        _forget(client, log, settings.project)
    revisions: dict[Entity, IntArray] = {entity: stage.revisions[place] for place, entity in enumerate(ENTITIES)}
    return Rehearsed(
        Served(stage.vectors, revisions),
        **stage.counts,
        distinct=len(deliveries.row) - deliveries.repeats,
        rewinds=stage.rewinds,
        published=published.count,
    )


class _Stage:
    """Delivers, reads and evaluates, slot by slot; evaluates while the next batch is applied."""

    def __init__(
        self, deliveries: Deliveries, stream: Feed, reader: CompiledReader, client: Any, turbulence: Turbulence
    ) -> None:
        self._deliveries = deliveries
        self._stream = stream
        self._reader = reader
        self._client = client
        self._turbulence = turbulence
        self._scratch = new_scratch()
        self._delivered = 0
        self._slots = 0
        self._read: tuple[Slot, list[Any]] | None = None
        count = len(deliveries.transactions)
        self.vectors = np.empty((count, len(FEATURE_NAMES)))
        self.revisions = np.full((len(ENTITIES), count), UNSEEN, np.int64)
        self.counts = dict.fromkeys(("records", "applied", "repeated", "too_late", "dead_lettered"), 0)
        self.rewinds = 0

    def play(self, slot: Slot) -> None:
        """Deliver what is due, then read the requests of the slot."""
        self._slots += 1
        if self._slots % self._turbulence.rewind_every == 0 and slot.until > 0:
            self.rewinds += 1
            hour_ago = self._deliveries.due_ms[slot.until - 1] - 3_600_000
            start = int(np.searchsorted(self._deliveries.due_ms, hour_ago))
            self._deliver(max(start, self._delivered - self._turbulence.rewind_most, 0), self._delivered)
        self._deliver(self._delivered, slot.until)
        self._delivered = max(self._delivered, slot.until)
        with self._client.pipeline(transaction=False) as pipe:
            for place in range(slot.first, slot.last):
                for command in self._reader.commands(self._keys(place)):
                    pipe.execute_command(*command)
            self._read = slot, pipe.execute()

    def finish(self) -> None:
        """Deliver the rest and evaluate what was read last."""
        self._deliver(self._delivered, len(self._deliveries.row))
        self._evaluate()
        self._stream.close()

    def _deliver(self, start: int, stop: int) -> None:
        """Send ``start:stop`` in batches; evaluate what was read before while the handler works."""
        for first in range(start, stop, BATCH):
            self._stream.send(self._deliveries.batch(first, min(first + BATCH, stop)))
            self._evaluate()
            answer = self._stream.answer()
            for name in self.counts:
                self.counts[name] += getattr(answer, name)
        self._evaluate()

    def _keys(self, place: int) -> dict[str, str]:
        transaction = self._deliveries.transactions[place]
        return {
            "card_id": transaction.card_id,
            "device_id": transaction.device_id or "",
            "ip": transaction.ip or "",
            "merchant_id": transaction.merchant_id,
        }

    def _evaluate(self) -> None:
        if self._read is None:
            return
        (slot, replies), self._read = self._read, None
        width = len(self._reader.plan.entities)
        for place in range(slot.first, slot.last):
            start = (place - slot.first) * width
            self._evaluate_one(place, self._reader.readings(replies[start : start + width]))

    def _evaluate_one(self, place: int, readings: Mapping[str, Reading]) -> None:
        states: dict[Entity, bytes] = {}
        for number, entity in enumerate(ENTITIES):
            values = readings[entity].values
            held, revision = values.get(f"{entity}_state"), values.get(f"{entity}_revision")
            states[entity] = held if isinstance(held, bytes) else b""
            self.revisions[number, place] = revision if isinstance(revision, int) else UNSEEN
        home = readings["card"].values.get(HOME_COUNTRY)
        profiles = Profiles(
            home if isinstance(home, str) and home else None,
            _numbers(readings["card"], _CARD),
            _numbers(readings["merchant"], _MERCHANT),
        )
        asked = msgspec.structs.replace(self._deliveries.transactions[place], authorised=None)
        self.vectors[place] = evaluate(asked, states, profiles, self._scratch)


def _numbers(reading: Reading, names: Sequence[str]) -> tuple[float, ...]:
    held = [reading.values.get(name) for name in names]
    return tuple(float(value) if isinstance(value, int | float) else np.nan for value in held)


def _forget(client: Any, log: pa.Table, project: str) -> None:
    """Remove every key of the rehearsal's project from the store."""
    for entity in ENTITIES:
        keys = log[JOIN_KEYS[entity]].unique().drop_null().to_pylist()
        for start in range(0, len(keys), BATCH):
            client.unlink(*(entity_key(JOIN_KEYS[entity], key, project) for key in keys[start : start + BATCH]))
