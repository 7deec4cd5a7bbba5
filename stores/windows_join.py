"""Velocity from the log: every window of any rows at their own times, and states as they stood."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fraud.features import CROSS_FEATURES, VELOCITY, Feature, cross_columns
from fraud.history import History, Questions, read_history
from fraud.velocity import state_from_history
from fraud.windows import ENTITIES, JOIN_KEYS, PARTIES, Entity
from stores.columns import MOMENT, FloatArray, IntArray, nullable
from stores.log import Log, places

TOKENS: Final[dict[Entity, str]] = {entity: f"{PARTIES[entity][0]}_token" for entity in ENTITIES}
"""The request value that names an entity's counterpart."""

SLAB: Final = 131_072
"""Rows evaluated at a time: bounds the memory beside the result to about 300 MB."""


@dataclass(frozen=True)
class Asked:
    """The rows to evaluate.

    Parameters
    ----------
    table
        Arrow table with the join keys and the request values ``card_token``, ``merchant_token``, ``latitude`` and
        ``longitude``.
    as_of_ms
        Time of each row.
    amount_minor
        Amount of each row.
    """

    table: Any
    as_of_ms: IntArray
    amount_minor: IntArray


def velocity_arrays(log: Log, asked: Asked, wanted: Sequence[str]) -> dict[str, Any]:
    """Return velocity and cross features of rows, bit for bit what the online path reads at the same times.

    Parameters
    ----------
    log
        Loaded for these rows' times.
    asked
        The rows.
    wanted
        Names out of ``VELOCITY`` and ``CROSS_FEATURES``.

    Returns
    -------
    arrays
        One Arrow array for each name: ``int64``, or ``double`` in which null means there was nothing to compare.
    """
    features = [feature for feature in VELOCITY + CROSS_FEATURES if feature.name in set(wanted)]
    chunks: dict[str, list[Any]] = {feature.name: [] for feature in features}
    for seen, amounts in _slabs(log, asked):
        crossed = cross_columns(amounts, seen)
        for feature, column in _pick(features, seen, crossed):
            chunks[feature.name].append(pa.array(column.astype(np.int64)) if feature.whole else nullable(column))
    empty = {feature.name: pa.array([], pa.int64() if feature.whole else pa.float64()) for feature in features}
    return {name: pa.concat_arrays(parts) if parts else empty[name] for name, parts in chunks.items()}


def _slabs(log: Log, asked: Asked) -> Iterator[tuple[FloatArray, IntArray]]:
    prepared = [(log.history(entity), _questions(log, asked, entity)) for entity in ENTITIES]
    for start in range(0, len(asked.as_of_ms), SLAB):
        part = slice(start, start + SLAB)
        seen = np.hstack([read_history(history, _slice(questions, part)) for history, questions in prepared])
        yield seen, asked.amount_minor[part]


def _questions(log: Log, asked: Asked, entity: Entity) -> Questions:
    table = asked.table
    return log.questions(
        entity,
        key=table[JOIN_KEYS[entity]],
        as_of_ms=asked.as_of_ms,
        party=table[TOKENS[entity]],
        place=places(table["latitude"], table["longitude"]),
    )


def _slice(asked: Questions, part: slice) -> Questions:
    return Questions(
        asked.key[part], asked.as_of_ms[part], asked.party[part], asked.latitude[part], asked.longitude[part]
    )


def _pick(features: Sequence[Feature], seen: FloatArray, crossed: FloatArray) -> Iterator[tuple[Feature, FloatArray]]:
    at = {feature.name: index for index, feature in enumerate(VELOCITY + CROSS_FEATURES)}
    for feature in features:
        index = at[feature.name]
        yield feature, seen[:, index] if index < len(VELOCITY) else crossed[:, index - len(VELOCITY)]


def states_at(history: History, key: IntArray, as_of_ms: IntArray) -> tuple[Any, Any]:
    """Return the state and the revision of each row's key just before its time, as Arrow arrays.

    Slow: it replays each key's past for each row. Values of windows are read from the log directly
    (:func:`velocity_arrays`); this is for people who ask for a state itself.
    """
    held: list[bytes | None] = []
    revisions: list[int | None] = []
    for number, as_of in zip(key.tolist(), as_of_ms.tolist(), strict=True):
        past = history.of(number) if number >= 0 else history.changes[:0]
        past = past[: np.searchsorted(past["time"], as_of)]
        state, revision = state_from_history(history.entity, past) if len(past) else (None, None)
        held.append(state)
        revisions.append(revision)
    return pa.array(held, pa.binary()), pa.array(revisions, pa.int64())


def latest_states(log: Log, entity: Entity, *, first_ms: int, columns: Sequence[str], time: str) -> Any:
    """Return the state of every ``entity`` at the end of a log, as an Arrow table: what materializing writes.

    Parameters
    ----------
    log
        Loaded from its beginning: a revision counts every change there ever was.
    first_ms
        Entities without a change since then are left out.
    columns
        Features wanted of ``{entity}_state`` (bytes) and ``{entity}_revision`` (how many changes made it).
    time
        Name of the column for the time of the newest change.
    """
    history = log.history(entity)
    newest = history.changes["time"][history.starts[1:] - 1] if len(history.changes) else np.empty(0, np.int64)
    owned = np.diff(history.starts) > 0
    chosen = np.flatnonzero(owned & (newest >= first_ms)) if len(newest) else np.empty(0, np.int64)
    built = [state_from_history(entity, history.of(key)) for key in chosen.tolist()]
    values = {
        f"{entity}_state": pa.array([state for state, _ in built], pa.binary()),
        f"{entity}_revision": pa.array([revision for _, revision in built], pa.int64()),
    }
    table = {JOIN_KEYS[entity]: log.keys[entity].take(pa.array(chosen))} | {name: values[name] for name in columns}
    return pa.table(table | {time: pa.array(newest[chosen] * 1000).cast(MOMENT)})
