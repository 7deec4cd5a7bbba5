"""The stream's one step: a batch of arrivals in, state changes out.

Stop at the first failure: whatever could not be applied is reported by the position of its first arrival, and Kinesis
delivers everything from there again. That is harmless, because a repeat changes nothing. Poison blocks nobody: it is
kept whole and the batch goes on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Protocol

import msgspec
import numpy as np

from fraud import velocity
from fraud.errors import InvalidTransaction, StateConflict, StoreUnavailable, TollgateError
from fraud.record import EntityChange, RecordReader
from fraud.ring import TOO_LATE, TOOK
from fraud.transaction import Transaction
from fraud.windows import ENTITIES, Entity
from streaming.applied import AppliedLog, Change
from streaming.arrivals import Arrival, read_arrival
from streaming.deadletters import DeadLetter, DeadLetterSink, dead_letter
from streaming.states import Held, Key, States, Swap

ATTEMPTS: Final = 8
"""How often an entity that other writers change meanwhile is read and written again."""


class Accepting(Protocol):
    """Told about every accepted transaction, once or more."""

    def accept(self, transactions: Iterable[tuple[Transaction, int]]) -> None:
        """Take transactions with their arrival in epoch ms."""


@dataclass(frozen=True)
class Collaborators:
    """What applying a batch needs.

    Parameters
    ----------
    states
        The online store.
    dead_letters
        Where poison goes.
    applied
        The log of what was applied.
    transactions
        The offline log.
    clock_ms
        Wall clock, epoch ms.
    currency
        The deployment's one currency.
    """

    states: States
    dead_letters: DeadLetterSink
    applied: AppliedLog
    transactions: Accepting
    clock_ms: Callable[[], int]
    currency: str


@dataclass
class BatchResult:
    """What became of a batch.

    ``failed`` is the position of the first arrival that has to be delivered again, null when none has; ``error`` says
    why. ``too_late`` counts changes behind all that a state can still tell apart: they came too late, or are repeats so
    old that nothing knows them any more. ``lags_ms`` and ``ages_ms`` hold arrival to visible and event time to visible
    of each effective change.
    """

    records: int
    applied: int = 0
    repeated: int = 0
    too_late: int = 0
    dead_lettered: int = 0
    conflicts: int = 0
    failed: int | None = None
    error: TollgateError | None = None
    lags_ms: list[int] = field(default_factory=list)
    ages_ms: list[int] = field(default_factory=list)


class _Group(msgspec.Struct, frozen=True, gc=False):
    """The changes of one entity in a batch, in order, with their positions in it."""

    key: Key
    positions: list[int]
    changes: list[EntityChange]


class _Plan(msgspec.Struct, frozen=True, gc=False):
    """What applying a group to the state that was read comes to; no ``swap`` when nothing is new."""

    group: _Group
    swap: Swap | None
    effective: list[Change]
    repeats: list[Change]
    too_late: int


@dataclass(frozen=True, slots=True)
class _Delivery:
    """The arrivals of a batch, what read them, and the dead letters among them, by position."""

    arrivals: Sequence[Arrival]
    reader: RecordReader
    letters: dict[int, DeadLetter]


def apply_batch(arrivals: Sequence[Arrival], collaborators: Collaborators) -> BatchResult:
    """Apply a batch: one round trip to read all touched entities, one to write them, more only on conflict.

    Parameters
    ----------
    arrivals
        Of one shard, in order.
    collaborators
        What it works with.

    Returns
    -------
    BatchResult
        With ``failed`` set when the store did not answer, or another writer won ``ATTEMPTS`` times.
    """
    result = BatchResult(len(arrivals))
    letters: dict[int, DeadLetter] = {}
    reader = RecordReader(currency=collaborators.currency)
    groups = _sort_out(arrivals, reader, letters)
    todo = groups
    try:
        for _ in range(ATTEMPTS):
            if not todo:
                break
            todo = _attempt(todo, _Delivery(arrivals, reader, letters), collaborators, result)
        else:
            if todo:
                result.error = StateConflict(f"other writers changed {len(todo)} entities {ATTEMPTS} times over")
    except StoreUnavailable as error:
        result.error = error
    if result.error is not None:
        result.failed = min(group.positions[0] for group in todo)
    _keep(letters, groups, arrivals, collaborators, result)
    return result


def _keep(
    letters: Mapping[int, DeadLetter],
    groups: Sequence[_Group],
    arrivals: Sequence[Arrival],
    collaborators: Collaborators,
    result: BatchResult,
) -> None:
    """Keep the poison and the transactions that lie before the first failure."""
    end = len(arrivals) if result.failed is None else result.failed
    kept = sorted(position for position in letters if position < end)
    if kept:
        try:
            collaborators.dead_letters.keep([letters[position] for position in kept])
        except StoreUnavailable as error:
            result.failed, result.error = kept[0], error
            end = kept[0]
        else:
            result.dead_lettered = len(kept)
    collaborators.transactions.accept(
        (change.transaction, arrivals[position].arrival_ms)
        for group in groups
        if group.key[0] == "card"
        for position, change in zip(group.positions, group.changes, strict=True)
        if position < end and change.transaction is not None
    )


def _sort_out(arrivals: Sequence[Arrival], reader: RecordReader, letters: dict[int, DeadLetter]) -> list[_Group]:
    """Return the changes per entity, in order; poison goes to ``letters``, by position."""
    groups: dict[Key, _Group] = {}
    for position, arrival in enumerate(arrivals):
        try:
            change = read_arrival(arrival, reader)
        except InvalidTransaction as error:
            letters[position] = dead_letter(arrival, error)
            continue
        key = (change.entity, change.key)
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(key, [], [])
        group.positions.append(position)
        group.changes.append(change)
    return list(groups.values())


def _attempt(
    groups: list[_Group], delivery: _Delivery, collaborators: Collaborators, result: BatchResult
) -> list[_Group]:
    """Read, apply, write; return the groups that lost against another writer."""
    held = collaborators.states.read([group.key for group in groups])
    plans: list[_Plan] = []
    for entity in ENTITIES:
        plans += _plan(entity, groups, held, delivery)
    log_ = collaborators.applied
    log_.intend([change for plan in plans for change in plan.effective])
    swaps = [plan.swap for plan in plans if plan.swap is not None]
    written = iter(collaborators.states.swap(swaps) if swaps else ())
    visible_ms = collaborators.clock_ms()
    lost, effective, repeats, too_late = [], [], [], 0
    for plan in plans:
        if plan.swap is not None and not next(written):
            log_.withdraw(plan.effective)
            lost.append(plan.group)
            continue
        effective += plan.effective
        repeats += plan.repeats
        too_late += plan.too_late
    log_.settle(effective, visible_ms)
    log_.recover(repeats, visible_ms)
    result.applied += len(effective)
    result.repeated += len(repeats) - too_late
    result.too_late += too_late
    result.lags_ms += [visible_ms - change.arrival_ms for change in effective]
    result.ages_ms += [visible_ms - change.event_time_ms for change in effective]
    result.conflicts += len(lost)
    return lost


def _plan(entity: Entity, groups: Sequence[_Group], held: Sequence[Held], delivery: _Delivery) -> list[_Plan]:
    """Return what the groups of one kind of entity come to; those of an unreadable state go to the dead letters."""
    mine = [(group, read) for group, read in zip(groups, held, strict=True) if group.key[0] == entity]
    if not mine:
        return []
    ends = list(accumulate([len(group.changes) for group, _ in mine], initial=0))
    changes = delivery.reader.changes(entity, [change.place for group, _ in mine for change in group.changes])
    done = velocity.update_many(entity, [read.state for _, read in mine], changes, np.array(ends, np.int64))
    fates = done.fates.tolist()
    plans = []
    for place, (group, read) in enumerate(mine):
        if place in done.refused:
            letter = done.refused[place]
            delivery.letters.update((at, dead_letter(delivery.arrivals[at], letter)) for at in group.positions)
            continue
        plans.append(_plan_group(group, read, done.states[place], fates[ends[place] : ends[place + 1]], delivery))
    return plans


def _plan_group(group: _Group, read: Held, state: bytes, fates: Sequence[int], delivery: _Delivery) -> _Plan:
    entity, key = group.key
    effective: list[Change] = []
    repeats: list[Change] = []
    revision = read.revision
    for position, change, fate in zip(group.positions, group.changes, fates, strict=True):
        took_it = fate == TOOK
        revision += took_it
        arrival_ms = delivery.arrivals[position].arrival_ms
        row = Change(entity, key, revision, change.kind, change.transaction_id, change.time_ms, arrival_ms)
        (effective if took_it else repeats).append(row)
    swap = Swap(group.key, read, state, revision) if effective else None
    return _Plan(group, swap, effective, repeats, fates.count(TOO_LATE))
