"""Train-serve parity: every served vector must be what the log says it had to be, bit for bit.

A scorer can only use what the stream has made visible. Each decision therefore carries the *revision* of every state it
read, and the stream writes down which transaction made which revision. Two questions follow, and are kept apart:

* **mismatches**: the vector recomputed from the log with exactly the transactions that were visible. Must be none.
* **lag**: the vector as of the transaction's own time from the whole log. Where it differs, the stream was behind; that
  is the price of freshness, not an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud import ring
from fraud.features import FEATURE_NAMES, VELOCITY, cross_columns
from fraud.hashing import U64Array, hash64
from fraud.history import History, Questions, read_history
from fraud.windows import ENTITIES, Entity
from monitoring.visible import LIMIT, NEVER, reach_of, read_visible
from stores.columns import find_keys, hash_strings, same_bits
from stores.log import Log

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

UNSEEN: Final = -1
"""Revision of an entity whose state the scorer did not find."""


@dataclass(frozen=True)
class Served:
    """What the scorer used: equally long columns, one row a decision.

    Parameters
    ----------
    vectors
        Shape ``(n, len(FEATURE_NAMES))``, NaN for null.
    revisions
        Per entity the revision read, ``UNSEEN`` where there was no state.
    """

    vectors: FloatArray
    revisions: Mapping[Entity, IntArray]


@dataclass(frozen=True)
class AppliedRow:
    """One line of the stream's log: this transaction's change made this revision of this entity.

    ``kind`` is ``transaction`` or ``report``; a report is told from another about the same transaction by its
    ``time_ms``, when it became known.
    """

    entity: Entity
    key: str
    revision: int
    transaction_id: str
    kind: str = "transaction"
    time_ms: int = 0


@dataclass(frozen=True)
class Made:
    """The stream's log of one kind of entity: equally long columns, see :class:`AppliedRow`.

    ``key`` is an Arrow string array, ``id`` the hash of the transaction id.
    """

    key: Any
    revision: IntArray
    id: U64Array
    report: BoolArray
    time_ms: IntArray


@dataclass(frozen=True)
class Parity:
    """The certificate.

    Parameters
    ----------
    compared
        Served vectors.
    mismatched
        Vectors that differ in any bit from the log's, given what was visible.
    by_feature
        Mismatches of each feature, only those that have any.
    behind
        Vectors that the stream's lag made differ from the log's as of the transaction's own time.
    worst
        Largest absolute difference of each feature in ``by_feature``; null where one side was null every time.
    current
        Vectors for which everything earlier was visible: for them the log as of their own time is what was compared.
    unlogged
        Decisions about transactions that the log does not hold (yet); they were not compared.
    degraded
        Decisions made while a view could not be read: their nulls say so, no log can. They were not compared.
    never_applied
        Changes of streamed transactions that no state ever took: too late for it, or still under way.
    """

    compared: int
    mismatched: int
    by_feature: Mapping[str, int]
    behind: int
    worst: Mapping[str, float | None] = field(default_factory=dict)
    current: int = 0
    unlogged: int = 0
    degraded: int = 0
    never_applied: int = 0


def made_by(table: pa.Table) -> dict[Entity, Made]:
    """Return the stream's log, a table as the worker writes it, per kind of entity."""
    kinds = table["entity"].to_numpy(zero_copy_only=False)
    out: dict[Entity, Made] = {}
    for entity in ENTITIES:
        rows = table.filter(pa.array(kinds == entity)).combine_chunks()
        out[entity] = Made(
            rows["key"].combine_chunks(),
            rows["revision_after"].to_numpy(),
            hash_strings(rows["transaction_id"].combine_chunks()),
            rows["kind"].to_numpy(zero_copy_only=False) == "report",
            rows["event_time_ms"].to_numpy(),
        )
    return out


def visible_velocity(
    log: Log,
    asked: Mapping[Entity, Questions],
    revisions: Mapping[Entity, IntArray],
    applied: Sequence[AppliedRow],
    streamed_ids: Sequence[str],
) -> FloatArray:
    """Return the velocity values of every question from what was visible, shape ``(n, len(VELOCITY))``.

    Parameters
    ----------
    log
        Everything: what was materialised and what was streamed.
    asked
        Each entity's questions, row by row.
    revisions
        Of the states that were read.
    applied
        The stream's own log.
    streamed_ids
        Ids of the transactions that came by the stream; all others were there from the start.
    """
    table = {
        entity: Made(
            pa.array([row.key for row in applied if row.entity == entity], pa.string()),
            np.array([row.revision for row in applied if row.entity == entity], np.int64),
            np.array([hash64(row.transaction_id) for row in applied if row.entity == entity], np.uint64),
            np.array([row.kind == "report" for row in applied if row.entity == entity], np.bool_),
            np.array([row.time_ms for row in applied if row.entity == entity], np.int64),
        )
        for entity in ENTITIES
    }
    streamed = np.array([hash64(name) for name in streamed_ids], np.uint64)
    return visible_values(log, asked, revisions, table, streamed)[0]


def visible_values(
    log: Log,
    asked: Mapping[Entity, Questions],
    revisions: Mapping[Entity, IntArray],
    made: Mapping[Entity, Made],
    streamed: U64Array | None,
) -> tuple[FloatArray, BoolArray]:
    """Return the velocity values from what was visible, and whether that was everything earlier.

    Parameters
    ----------
    log, asked, revisions
        As for :func:`visible_velocity`.
    made
        The stream's own log.
    streamed
        Hashes of the transactions that came by the stream; null when everything did. A change that came by the stream
        and is not in its log was never visible.

    Returns
    -------
    values
        Shape ``(n, len(VELOCITY))``.
    current
        Shape ``(n,)``: every change of all three entities before the question's time was visible.
    """
    pieces = []
    current = np.ones(len(asked["card"].key), np.bool_)
    for entity in ENTITIES:
        history = log.history(entity)
        since = made_revisions(history, log.keys[entity], made[entity], streamed)
        reach = reach_of(history, asked[entity], since)
        whole = reach.earlier_visible(revisions[entity])
        values = read_history(history, asked[entity])
        behind = np.flatnonzero(~whole)
        values[behind] = read_visible(history, asked[entity], behind, reach, revisions[entity])
        pieces.append(values)
        current &= whole
    return np.hstack(pieces), current


def made_revisions(history: History, keys: Any, made: Made, streamed: U64Array | None) -> IntArray:
    """Return the revision that each change of a history made; 0 when it was there from the start, or ``NEVER``."""
    changes = history.changes
    owner = np.repeat(np.arange(len(history.starts) - 1), np.diff(history.starts))
    report = (changes["flags"] & ring.REPORT) != 0
    ids = changes["id"]
    came = np.ones(len(ids), np.bool_) if streamed is None else np.isin(ids, streamed)
    since = np.where(came, NEVER, 0).astype(np.int64)
    if not len(made.revision):
        return since
    wanted = _codes(find_keys(keys, made.key), made.id, made.report, made.time_ms)
    order = np.argsort(wanted, kind="stable")
    mine = _codes(owner, ids, report, changes["time"])
    place = np.minimum(np.searchsorted(wanted[order], mine), len(order) - 1)
    hit = wanted[order][place] == mine
    since[hit] = np.minimum(made.revision[order][place[hit]], LIMIT)
    return since


def _codes(key: IntArray, ids: U64Array, report: BoolArray, time_ms: IntArray) -> U64Array:
    """Return 64 mixed bits for each (entity, transaction, kind) of a log, for a report with its time."""
    when = np.where(report, time_ms + 1, 0).astype(np.uint64)
    mixed = (key.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) ^ (when * np.uint64(0xC2B2AE3D27D4EB4F))
    return np.asarray(ids ^ mixed, np.uint64)


def compare(
    served: Served,
    as_of_log: FloatArray,
    visible: FloatArray,
    amount_minor: IntArray,
    current: BoolArray | None = None,
) -> Parity:
    """Return the certificate.

    Parameters
    ----------
    served
        What the scorer used.
    as_of_log
        The vectors of the whole log as of each transaction's time, shape ``(n, len(FEATURE_NAMES))``.
    visible
        From :func:`visible_values` or :func:`visible_velocity`.
    amount_minor
        Of each transaction.
    current
        From :func:`visible_values`: where it holds, the vector must also be that of ``as_of_log``.
    """
    expected = as_of_log.copy()
    first = FEATURE_NAMES.index(VELOCITY[0].name)
    expected[:, first : first + len(VELOCITY)] = visible
    crossed = cross_columns(amount_minor, visible)
    expected[:, first + len(VELOCITY) : first + len(VELOCITY) + crossed.shape[1]] = crossed
    wrong = ~same_bits(served.vectors, expected)
    late = ~same_bits(served.vectors, as_of_log)
    if current is not None:
        wrong |= late & current[:, None]
    counts = wrong.sum(axis=0)
    gap = np.abs(served.vectors - expected)
    found = {name: index for index, name in enumerate(FEATURE_NAMES) if counts[index]}
    return Parity(
        compared=len(wrong),
        mismatched=int(wrong.any(axis=1).sum()),
        by_feature={name: int(counts[index]) for name, index in found.items()},
        behind=int(late.any(axis=1).sum()),
        worst={name: _largest(gap[wrong[:, index], index]) for name, index in found.items()},
        current=0 if current is None else int(current.sum()),
    )


def _largest(gaps: FloatArray) -> float | None:
    known = gaps[~np.isnan(gaps)]
    return float(known.max()) if len(known) else None
