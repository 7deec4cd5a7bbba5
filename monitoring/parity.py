"""Train-serve parity: is every served vector what the log says it had to be, bit for bit?

A scorer can only use what the stream has made visible. Each decision therefore carries the *revision* of every state it
read, and the stream writes down which transaction made which revision. Two questions follow, and are kept apart:

* **mismatches**: the vector recomputed from the log with exactly the transactions that were visible. Must be none.
* **lag**: the vector as of the transaction's own time from the whole log. Where it differs, the stream was behind; that
  is the price of freshness, not an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud.features import FEATURE_NAMES, VELOCITY, cross_columns
from fraud.hashing import hash64
from fraud.history import History, Questions, read_history
from fraud.velocity import Changes
from fraud.windows import ENTITIES, Entity
from stores.log import Log

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

UNSEEN = -1
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
    """One line of the stream's log: this transaction's change made this revision of this entity."""

    entity: Entity
    key: str
    revision: int
    transaction_id: str


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
    """

    compared: int
    mismatched: int
    by_feature: Mapping[str, int]
    behind: int


def visible_velocity(
    log: Log,
    asked: Mapping[Entity, Questions],
    revisions: Mapping[Entity, IntArray],
    applied: list[AppliedRow],
    streamed_ids: list[str],
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
    streamed = np.array([hash64(name) for name in streamed_ids], np.uint64)
    pieces = []
    for entity in ENTITIES:
        history = log.history(entity)
        made: dict[str, list[tuple[int, int]]] = {}
        for row in applied:
            if row.entity == entity:
                made.setdefault(row.key, []).append((row.revision, hash64(row.transaction_id)))
        names = log.keys[entity].to_pylist()
        narrowed, questions = _narrow(history, asked[entity], revisions[entity], streamed, made, names)
        pieces.append(read_history(narrowed, questions))
    return np.hstack(pieces)


def _narrow(
    history: History,
    asked: Questions,
    revisions: IntArray,
    streamed: npt.NDArray[np.uint64],
    made: Mapping[str, list[tuple[int, int]]],
    names: list[str],
) -> tuple[History, Questions]:
    """Return a history with one key for each (entity, revision) read, holding what that revision held."""
    pairs = np.stack([asked.key, revisions], axis=1)
    distinct, number = np.unique(pairs, axis=0, return_inverse=True)
    slices: list[Changes] = []
    for key, revision in distinct.tolist():
        held = history.of(key) if key >= 0 and revision != UNSEEN else history.changes[:0]
        if len(held):
            visible = np.array([who for made_at, who in made.get(names[key], []) if made_at <= revision], np.uint64)
            held = held[~np.isin(held["id"], streamed) | np.isin(held["id"], visible)]
        slices.append(held)
    starts = np.cumsum([0, *(len(held) for held in slices)]).astype(np.int64)
    narrowed = History(history.entity, np.concatenate(slices), starts)
    key_column = number.reshape(-1).astype(np.int64)
    return narrowed, Questions(key_column, asked.as_of_ms, asked.party, asked.latitude, asked.longitude)


def compare(served: Served, as_of_log: FloatArray, visible: FloatArray, amount_minor: IntArray) -> Parity:
    """Return the certificate.

    Parameters
    ----------
    served
        What the scorer used.
    as_of_log
        The vectors of the whole log as of each transaction's time, shape ``(n, len(FEATURE_NAMES))``.
    visible
        From :func:`visible_velocity`.
    amount_minor
        Of each transaction.
    """
    expected = as_of_log.copy()
    first = FEATURE_NAMES.index(VELOCITY[0].name)
    expected[:, first : first + len(VELOCITY)] = visible
    crossed = cross_columns(amount_minor, visible)
    expected[:, first + len(VELOCITY) : first + len(VELOCITY) + crossed.shape[1]] = crossed
    wrong = ~same_bits(served.vectors, expected)
    counts = wrong.sum(axis=0)
    return Parity(
        compared=len(wrong),
        mismatched=int(wrong.any(axis=1).sum()),
        by_feature={name: int(count) for name, count in zip(FEATURE_NAMES, counts, strict=True) if count},
        behind=int((~same_bits(served.vectors, as_of_log)).any(axis=1).sum()),
    )


def same_bits(found: FloatArray, expected: FloatArray) -> npt.NDArray[np.bool_]:
    """Return where two arrays hold the same bits; any NaN equals any other, and 0.0 equals -0.0 does not hold."""
    both_null = np.isnan(found) & np.isnan(expected)
    left = np.ascontiguousarray(found).view(np.int64)
    right = np.ascontiguousarray(expected).view(np.int64)
    return np.asarray(both_null | (left == right), np.bool_)
