"""Changing what a row must not see, and nothing that any other audited row may.

The audited rows, *probes*, share no card, device or merchant. So a transaction may be altered when it lies outside the
past of every probe whose card, device or merchant it has; and new ones may be added to a probe's own entities at will.
Each kind of change is one a careless join would let through:

* ``future``: after the row, by as little as a millisecond; profiles published after it;
* ``same time``: other transactions in the very millisecond of the row;
* ``late arrival``: fraud reports that were made before the row and became known at its time or later (the row's own
  among them), and profile rows that were created later than they say;
* ``own``: the row's own transaction: gone from the log, answered otherwise by the issuer, or there with other contents;
* ``unknown``: transactions that happened before the row and arrived too late for it. Only a set *as known* must not see
  them; otherwise transactions count by event time, and ``python -m monitoring staleness`` measures what that costs.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.windows import DAY, ENTITIES, JOIN_KEYS, MINUTE, Entity
from stores.columns import microseconds, milliseconds, number_keys
from training.probes import BEFORE, Probes, Tables
from training.transaction_log import LABELS_SCHEMA, TRANSACTIONS_SCHEMA

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Kind = Literal["future", "same time", "late arrival", "own", "unknown", "control"]

KINDS: Final[tuple[Kind, ...]] = ("future", "same time", "late arrival", "own")
UNKNOWN: Final[Kind] = "unknown"
"""For sets as known alone."""

CONTROL: Final[Kind] = "control"
"""The same changes made to the past, where they must show: a feature that they leave alone was not put to the test."""

_OFFSETS: Final[Mapping[Kind, tuple[int, ...]]] = {
    "future": (1, 30_000, 20 * MINUTE, DAY),
    "same time": (0,),
    "control": (-1, -30_000, -20 * MINUTE, -DAY, -20 * DAY),
}


def perturb(tables: Tables, probes: Probes, kind: Kind, *, lag_ms: int = 0) -> tuple[Tables, int]:
    """Return the lake after the changes of a kind, and how many rows were altered, removed or added.

    ``lag_ms`` is that of a set as known.
    """
    if kind == UNKNOWN:
        return _unknown(tables, probes, lag_ms)
    if kind == "late arrival":
        return _late(tables, probes)
    if kind == "own":
        return _own(tables, probes)
    touched = probes.bound_ms > BEFORE
    mine = np.isin(np.arange(len(touched)), probes.place)
    reached = {
        "future": touched & (probes.time_ms > probes.bound_ms),
        "same time": touched & (probes.time_ms == probes.bound_ms) & ~mine,
        "control": touched & (probes.time_ms < probes.bound_ms) & ~mine,
    }[kind]
    removed = reached & (np.arange(len(reached)) % 2 == 0) & (kind != "control")
    log = _altered(tables.transactions, reached).filter(pa.array(~removed))
    added = _added(tables.transactions, probes, _OFFSETS[kind])
    out = replace(tables, transactions=_sorted(pa.concat_tables([log, added])))
    changed = int(reached.sum()) + added.num_rows
    if kind == "same time":
        return out, changed
    profiles, more = _profiles(tables, probes, past=kind == "control")
    labels, said = _known_before(tables, probes, lag_ms) if kind == "control" else (tables.labels, 0)
    return replace(out, profiles=profiles, labels=labels), changed + more + said


def _unknown(tables: Tables, probes: Probes, lag_ms: int) -> tuple[Tables, int]:
    """Alter what happened before a probe and arrived too late for it, and add more of the kind."""
    log = tables.transactions
    arrived_us = microseconds(log["created_timestamp"])
    bound_us = np.where(probes.bound_ms > BEFORE, probes.bound_ms, 0) * 1000
    reached = (probes.bound_ms > BEFORE) & (probes.time_ms < probes.bound_ms) & (arrived_us > bound_us - lag_ms * 1000)
    reached[probes.place] = False
    added = _added(log, probes, _OFFSETS[CONTROL])
    owner = np.tile(probes.time_ms[probes.place], added.num_rows // len(probes.place))
    first_unseen = owner - lag_ms + 1
    arrival = np.maximum(milliseconds(added["event_timestamp"]), first_unseen)
    added = _set(added, "created_timestamp", _moments(arrival))
    out = replace(tables, transactions=_sorted(pa.concat_tables([_altered(log, reached), added])))
    return out, int(reached.sum()) + added.num_rows


def _own(tables: Tables, probes: Probes) -> tuple[Tables, int]:
    """Remove every third probe from the log; give the others other contents, or another answer of the issuer."""
    count = len(probes.time_ms)
    third = np.full(count, -1)
    third[probes.place] = np.arange(len(probes.place)) % 3
    log = _altered(tables.transactions, third == 1)
    log = _answered(log, third == 2)
    return replace(tables, transactions=log.filter(pa.array(third != 0))), len(probes.place)


def _late(tables: Tables, probes: Probes) -> tuple[Tables, int]:
    """Report earlier payments, known at the row's time or later; turn the statements that arrive then around."""
    log, labels = tables.transactions, tables.labels
    place = pc.fill_null(pc.index_in(labels["transaction_id"], log["transaction_id"].combine_chunks()), -1)
    owner = place.combine_chunks().to_numpy() if isinstance(place, pa.ChunkedArray) else place.to_numpy()
    created = microseconds(labels["created_timestamp"])
    bound = np.where(owner >= 0, probes.bound_ms[owner], BEFORE)
    turned = (bound > BEFORE) & (created >= bound * 1000)
    flipped = pc.xor(labels["is_fraud"], pa.array(turned))
    labels = labels.set_column(labels.schema.get_field_index("is_fraud"), LABELS_SCHEMA.field("is_fraud"), flipped)
    earlier = np.unique(np.concatenate([_previous(probes, entity) for entity in ENTITIES]))
    said = _reports(log, earlier, probes.time_ms[earlier] + 1, probes.bound_ms[earlier])
    own = _reports(log, probes.place, probes.time_ms[probes.place], probes.time_ms[probes.place] + DAY)
    out = replace(tables, labels=pa.concat_tables([labels, said, own]))
    late = {entity: _backdated(table, probes, tables, entity) for entity, table in tables.profiles.items()}
    profiles = {entity: table for entity, (table, _) in late.items()}
    changed = int(turned.sum()) + said.num_rows + own.num_rows + sum(count for _, count in late.values())
    return replace(out, profiles=profiles), changed


def _known_before(tables: Tables, probes: Probes, lag_ms: int) -> tuple[pa.Table, int]:
    """Report earlier payments in time to be known: for the control."""
    earlier = np.unique(np.concatenate([_previous(probes, entity) for entity in ENTITIES]))
    known = probes.bound_ms[earlier] - 1 - lag_ms
    said = [_reports(tables.transactions, earlier, known - ago, known - ago) for ago in (0, DAY, 29 * DAY)]
    return pa.concat_tables([tables.labels, *said]), len(earlier)


def _previous(probes: Probes, entity: Entity) -> IntArray:
    """Return the place of the last transaction before each probe with its entity, where there is one."""
    number = probes.numbers[entity]
    order = np.lexsort((probes.time_ms, number))
    codes = (number[order] << 42) | probes.time_ms[order]
    asked = (number[probes.place] << 42) | probes.time_ms[probes.place]
    at = np.searchsorted(codes, asked) - 1
    found = order[np.maximum(at, 0)]
    return np.asarray(
        found[(at >= 0) & (number[probes.place] >= 0) & (number[found] == number[probes.place])], np.int64
    )


def _reports(log: pa.Table, place: IntArray, made_ms: IntArray, known_ms: IntArray) -> pa.Table:
    columns: dict[str, Any] = {
        "transaction_id": log["transaction_id"].take(pa.array(place)),
        "is_fraud": pa.array(np.ones(len(place), np.bool_)),
        "source": pa.array(["chargeback"] * len(place), pa.string()),
        "event_timestamp": _moments(np.minimum(made_ms, known_ms)),
        "created_timestamp": _moments(known_ms),
    }
    return pa.table(columns).cast(LABELS_SCHEMA)


def _added(log: pa.Table, probes: Probes, offsets: tuple[int, ...]) -> pa.Table:
    """Return new transactions at offsets from each probe: with all of its entities, and with each one alone."""
    pieces = []
    source = log.take(pa.array(probes.place))
    names = [JOIN_KEYS[entity] for entity in ENTITIES]
    for turn, offset in enumerate(offsets):
        for kept in (*((name,) for name in names), tuple(names)):
            label = f"{'+'.join(kept)}/{offset}"
            rows = _set(
                source, "transaction_id", pc.binary_join_element_wise("added", source["transaction_id"], label, "/")
            )
            for name in names:
                if name not in kept:
                    rows = _set(
                        rows, name, pc.binary_join_element_wise("stranger", source["transaction_id"], label, "/")
                    )
            time = _moments(probes.time_ms[probes.place] + offset)
            rows = _set(_set(rows, "event_timestamp", time), "created_timestamp", time)
            size = 150 if turn % 2 else 777_777
            rows = _set(rows, "amount_minor", pa.array(np.full(len(rows), size)))
            rows = _answered(rows, np.ones(len(rows), np.bool_))
            pieces.append(_moved(rows, np.ones(len(rows), np.bool_)))
    return pa.concat_tables(pieces).cast(TRANSACTIONS_SCHEMA)


def _altered(log: pa.Table, chosen: BoolArray) -> pa.Table:
    """Return the log with other amounts, places and answers in the chosen rows; keys, ids and times stay."""
    amount = pc.if_else(pa.array(chosen), pc.add(pc.multiply(log["amount_minor"], 7), 13), log["amount_minor"])
    return _moved(_answered(_set(log, "amount_minor", amount), chosen), chosen)


def _answered(log: pa.Table, chosen: BoolArray) -> pa.Table:
    """Return the log with the issuer's answer turned around in the chosen rows; unknown becomes declined."""
    turned = pc.fill_null(pc.invert(log["authorised"]), fill_value=False)
    return _set(log, "authorised", pc.if_else(pa.array(chosen), turned, log["authorised"]))


def _moved(log: pa.Table, chosen: BoolArray) -> pa.Table:
    where = pa.array(chosen)
    for name, value in (("country", "NZ"), ("latitude", -41.3), ("longitude", 174.8), ("channel", "moto")):
        log = _set(log, name, pc.if_else(where, value, log[name]))
    return _set(log, "merchant_category", pc.if_else(where, pa.scalar(4829, pa.int32()), log["merchant_category"]))


def _profiles(tables: Tables, probes: Probes, *, past: bool) -> tuple[dict[Entity, pa.Table], int]:
    """Return the profiles with other values in what was published after the probes (or until then), and new rows."""
    out: dict[Entity, pa.Table] = {}
    changed = 0
    for entity, table in tables.profiles.items():
        bound_us = _profile_bound(table, probes, tables, entity)
        time_us = microseconds(table["event_timestamp"])
        chosen = (bound_us > BEFORE) & ((time_us <= bound_us) if past else (time_us > bound_us))
        source = np.flatnonzero(_first_of(table[JOIN_KEYS[entity]]) & (bound_us > BEFORE))
        rows = _exaggerated(table.take(pa.array(source)), np.ones(len(source), np.bool_))
        moment = pa.array(bound_us[source] + (0 if past else 1)).cast(pa.timestamp("us", "UTC"))
        rows = _set(_set(rows, "event_timestamp", moment), "created_timestamp", moment)
        out[entity] = pa.concat_tables([_exaggerated(table, chosen), rows])
        changed += int(chosen.sum()) + len(source)
    return out, changed


def _backdated(table: pa.Table, probes: Probes, tables: Tables, entity: Entity) -> tuple[pa.Table, int]:
    """Return the profiles with other values in rows that say they are older than the probe but arrived after it."""
    bound_us = _profile_bound(table, probes, tables, entity)
    late = (bound_us > BEFORE) & (microseconds(table["event_timestamp"]) <= bound_us)
    late &= microseconds(table["created_timestamp"]) > bound_us
    return _exaggerated(table, late), int(late.sum())


def _profile_bound(table: pa.Table, probes: Probes, tables: Tables, entity: Entity) -> IntArray:
    """Return the time in microseconds of the probe that each profile row is about, far in the past for none."""
    ids = tables.transactions[JOIN_KEYS[entity]].take(pa.array(probes.place)).combine_chunks()
    place = pc.fill_null(pc.index_in(table[JOIN_KEYS[entity]], ids), -1).to_numpy()
    times = np.append(probes.time_ms[probes.place] * 1000, BEFORE)
    return np.asarray(times[place], np.int64)


def _exaggerated(table: pa.Table, chosen: BoolArray) -> pa.Table:
    for field in table.schema:
        column = table[field.name]
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            other = pc.cast(pc.add(pc.multiply(column, 3), 1), field.type)
        elif field.name == "card_home_country":
            other = pa.scalar("NZ")
        else:
            continue
        table = _set(table, field.name, pc.if_else(pa.array(chosen), other, column))
    return table


def _first_of(keys: Any) -> BoolArray:
    _, (numbers,) = number_keys([keys])
    first = np.zeros(len(numbers), np.bool_)
    first[np.unique(numbers, return_index=True)[1]] = True
    return first


def _sorted(log: pa.Table) -> pa.Table:
    return log.sort_by([("event_timestamp", "ascending"), ("transaction_id", "ascending")])


def _set(table: pa.Table, name: str, column: Any) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(index, table.schema.field(index), pc.cast(column, table.schema.field(index).type))


def _moments(time_ms: IntArray) -> Any:
    return pa.array(time_ms * 1000).cast(pa.timestamp("us", "UTC"))
