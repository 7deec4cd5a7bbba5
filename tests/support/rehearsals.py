"""A rehearsal in memory: the turbulent stream of some payments, applied to states by the algebra itself."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud import velocity
from fraud.features import FEATURE_NAMES, NO_PROFILES, evaluate
from fraud.record import Record, parse_record
from fraud.ring import new_scratch
from fraud.velocity import entity_key
from fraud.windows import ENTITIES, Entity
from monitoring.deliveries import Turbulence, deliveries_of, slots_of
from monitoring.parity import UNSEEN, Served

Applies = Callable[[Record], bool]
"""Whether the store takes a record; a faulty one may not."""


@dataclass
class Memory:
    """States and revisions of every entity, and the log of what was applied."""

    states: dict[tuple[Entity, str], bytes] = field(default_factory=lambda: defaultdict(bytes))
    revisions: dict[tuple[Entity, str], int] = field(default_factory=lambda: defaultdict(int))
    rows: list[dict[str, object]] = field(default_factory=list)

    def apply(self, record: Record, takes: Applies) -> None:
        key = (record.entity, record.key)
        change = record.change()
        after, changed = velocity.update(record.entity, self.states[key], change)
        if not changed:
            return
        if takes(record):
            self.states[key] = after
        self.revisions[key] += changed
        self.rows.append(
            {
                "entity": record.entity,
                "key": record.key,
                "revision_after": self.revisions[key],
                "kind": record.kind,
                "transaction_id": record.transaction_id,
                "event_time_ms": int(change["time"][0]),
                "arrival_ms": 0,
                "visible_ms": 0,
            }
        )


def served_from_memory(
    log: pa.Table, labels: pa.Table | None, *, seed: int, takes: Applies = lambda _record: True, drained: bool = False
) -> tuple[Served, pa.Table]:
    """Return what each payment would have been served, and the stream's log, to its end when ``drained``."""
    deliveries = deliveries_of(log, labels, seed=seed, turbulence=Turbulence())
    time_ms = log["event_timestamp"].cast(pa.int64()).to_numpy() // 1000
    memory, scratch, delivered = Memory(), new_scratch(), 0
    vectors = np.empty((log.num_rows, len(FEATURE_NAMES)))
    revisions: dict[Entity, npt.NDArray[np.int64]] = {e: np.full(log.num_rows, UNSEEN, np.int64) for e in ENTITIES}
    for slot in slots_of(deliveries, time_ms, np.empty(0, np.int64), seed=seed):
        for data, _, _, _ in deliveries.batch(delivered, max(delivered, slot.until)):
            memory.apply(parse_record(data, currency="EUR"), takes)
        delivered = max(delivered, slot.until)
        for place in range(slot.first, slot.last):
            transaction = deliveries.transactions[place]
            states: dict[Entity, bytes] = {}
            for entity in ENTITIES:
                key = (entity, entity_key(entity, transaction) or "")
                states[entity] = memory.states.get(key, b"")
                revisions[entity][place] = memory.revisions.get(key, UNSEEN)
            asked = msgspec.structs.replace(transaction, authorised=None)
            vectors[place] = evaluate(asked, states, NO_PROFILES, scratch)
    if drained:
        for data, _, _, _ in deliveries.batch(delivered, len(deliveries.row)):
            memory.apply(parse_record(data, currency="EUR"), takes)
    return Served(vectors, revisions), pa.Table.from_pylist(memory.rows)
