"""The parity certificate: everything that was served, compared with the log, in parts that fit into memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from fraud.features import FEATURE_NAMES
from fraud.hashing import U64Array
from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from monitoring.decision_log import Logged, read_decisions
from monitoring.errors import NothingToCompare, UnreadableAppliedLog
from monitoring.offline import questions_of
from monitoring.parity import Made, Parity, Served, compare, made_by, visible_values
from stores.columns import hash_strings
from stores.files import Location
from stores.log import load_log
from training.dataset import read_log
from training.offline_vectors import Evaluate, history_vectors

IntArray = npt.NDArray[np.int64]
Advance = Callable[[int, int], None]

PART: Final = 100_000
"""Rows compared at a time."""

_END_OF_TIME: Final = 2**42

_APPLIED: Final = (
    "entity", "key", "revision_after", "kind", "transaction_id", "event_time_ms", "arrival_ms", "visible_ms",
)  # fmt: skip


@dataclass(frozen=True)
class Losses:
    """What the stream's log says against what was put on the stream: nothing may be missing or there twice."""

    lost: int
    doubled: int


def read_applied(folder: Path) -> pa.Table:
    """Return the stream's log of applied changes.

    Raises
    ------
    UnreadableAppliedLog
        There is none in the folder, or it misses a column.
    """
    place = folder / "changes" if (folder / "changes").is_dir() else folder
    try:
        table = ds.dataset(place, format="parquet").to_table()
    except (OSError, pa.ArrowException) as error:
        raise UnreadableAppliedLog(f"{place} holds no log of applied changes: {error}") from None
    missing = [name for name in _APPLIED if name not in table.column_names]
    if missing:
        raise UnreadableAppliedLog(f"{place} has no column {', '.join(missing)}; is it the stream's 'changes' folder?")
    return table.select(list(_APPLIED))


def certify(
    lake: Path,
    rows: pa.Table,
    served: Served,
    applied: pa.Table,
    *,
    streamed: U64Array | None,
    evaluate: Evaluate = history_vectors,
    advance: Advance = lambda _done, _all: None,
) -> Parity:
    """Return the certificate of what was served.

    Parameters
    ----------
    lake
        The whole log: what was materialised and what was streamed.
    rows
        The served transactions as the log has them, row by row those of ``served``; best in order of time.
    applied
        From :func:`read_applied`.
    streamed
        Hashes of the transactions that came by the stream; null when everything did.
    evaluate
        The offline path.

    Raises
    ------
    NothingToCompare
        There are no rows.
    """
    if not rows.num_rows:
        raise NothingToCompare("nothing was served, so nothing can be certified")
    made = made_by(applied)
    parts = []
    for start in range(0, rows.num_rows, PART):
        part = slice(start, start + PART)
        held = Served(served.vectors[part], {entity: column[part] for entity, column in served.revisions.items()})
        parts.append(_certify_part(lake, rows.slice(start, PART), held, made, streamed, evaluate))
        advance(min(start + PART, rows.num_rows), rows.num_rows)
    return merged(parts)


def _certify_part(
    lake: Path,
    rows: pa.Table,
    served: Served,
    made: Mapping[Entity, Made],
    streamed: U64Array | None,
    evaluate: Evaluate,
) -> Parity:
    time_ms = rows["event_timestamp"].cast(pa.int64()).to_numpy() // 1000
    log = load_log(Location(str(lake)), first_ms=int(time_ms.min()), last_ms=int(time_ms.max()))
    visible, current = visible_values(log, questions_of(log, rows), served.revisions, made, streamed)
    return compare(served, evaluate(lake, rows), visible, rows["amount_minor"].to_numpy(), current)


def merged(parts: Sequence[Parity]) -> Parity:
    """Return the certificate of several parts together."""
    by_feature: dict[str, int] = {}
    worst: dict[str, float | None] = {}
    for part in parts:
        for name, count in part.by_feature.items():
            by_feature[name] = by_feature.get(name, 0) + count
            gaps = [gap for gap in (worst.get(name), part.worst.get(name)) if gap is not None]
            worst[name] = max(gaps, default=None)
    return Parity(
        compared=sum(part.compared for part in parts),
        mismatched=sum(part.mismatched for part in parts),
        by_feature=by_feature,
        behind=sum(part.behind for part in parts),
        worst=worst,
        current=sum(part.current for part in parts),
        unlogged=sum(part.unlogged for part in parts),
        degraded=sum(part.degraded for part in parts),
    )


def losses(applied: pa.Table, *, expected: int) -> Losses:
    """Return how many changes are missing from the stream's log, and how many are there more than once.

    Parameters
    ----------
    expected
        Different records that were put on the stream.
    """
    identity = [name for name in _APPLIED[:6] if name != "revision_after"]
    distinct = applied.group_by(identity).aggregate([]).num_rows
    return Losses(lost=expected - distinct, doubled=applied.num_rows - distinct)


def certify_deployment(lake: Path, decisions: Path, applied: Path, *, streamed_since_ms: int | None = None) -> Parity:
    """Return the certificate of a running deployment, from its decision log, its stream's log and its lake.

    Parameters
    ----------
    lake
        The transaction log, the streamed transactions in it, and the profiles.
    decisions, applied
        Folders of the decision log and of the stream's log.
    streamed_since_ms
        Transactions from this event time on came by the stream, whether or not it has applied them yet; null when the
        stream has applied all that it was given and that the lake holds.

    Raises
    ------
    NothingToCompare
        There is no decision whose transaction the log holds.
    """
    changes = read_applied(applied)
    ids = None
    if streamed_since_ms is not None:
        newer = read_log(lake, streamed_since_ms, _END_OF_TIME)["transaction_id"].to_pylist()
        ids = [*newer, *changes["transaction_id"].to_pylist()]
    return certify_decisions(lake, list(read_decisions(decisions)), changes, streamed_ids=ids)


def certify_decisions(
    lake: Path,
    logged: Sequence[Logged],
    applied: pa.Table,
    *,
    streamed_ids: Sequence[str] | None = None,
    evaluate: Evaluate = history_vectors,
) -> Parity:
    """Return the certificate of some decisions; see :func:`certify_deployment`.

    Parameters
    ----------
    streamed_ids
        The transactions that came by the stream; null takes those in its log.
    """
    if not logged:
        raise NothingToCompare("the decision log is empty")
    whole = [entry for entry in logged if not entry.missing]
    if not whole:
        raise NothingToCompare(f"all {len(logged)} decisions were made while the online store could not be read")
    ordered = sorted(whole, key=lambda entry: (entry.event_time_ms, entry.transaction_id))
    log = read_log(lake, ordered[0].event_time_ms, ordered[-1].event_time_ms + 1)
    names = pa.array([entry.transaction_id for entry in ordered])
    place = pc.index_in(names, log["transaction_id"].combine_chunks())
    held = [entry for entry, known in zip(ordered, place.is_valid().to_pylist(), strict=True) if known]
    if not held:
        raise NothingToCompare(f"none of the {len(ordered)} decided transactions is in the log at {lake}")
    revisions = {entity: np.array([entry.revisions[entity] for entry in held], np.int64) for entity in ENTITIES}
    served = Served(np.array([entry.vector for entry in held]), revisions)
    came = pc.unique(applied["transaction_id"]) if streamed_ids is None else pa.array(streamed_ids, pa.string())
    streamed = hash_strings(came)
    found = certify(lake, log.take(place.drop_null()), served, applied, streamed=streamed, evaluate=evaluate)
    unlogged, degraded = len(ordered) - len(held), len(logged) - len(whole)
    return replace(found, unlogged=unlogged, degraded=degraded, never_applied=_never_applied(log, applied, came))


def _never_applied(log: pa.Table, applied: pa.Table, streamed: pa.Array) -> int:
    """Return how many changes of streamed transactions are missing from the stream's log."""
    count = 0
    paid = applied.filter(pc.equal(applied["kind"], "transaction"))
    for entity in ENTITIES:
        made = paid.filter(pc.equal(paid["entity"], entity))["transaction_id"].combine_chunks()
        wanted = log.filter(pc.is_valid(log[JOIN_KEYS[entity]]))["transaction_id"].combine_chunks()
        missing = pc.and_(pc.is_in(wanted, streamed), pc.invert(pc.is_in(wanted, made)))
        count += int(pc.sum(missing).as_py() or 0)
    return count


def as_data(parity: Parity) -> dict[str, Any]:
    """Return the certificate as plain data: the table of mismatches has every feature that has any."""
    table = {
        name: {"count": count, "share": count / parity.compared, "worst": parity.worst.get(name)}
        for name, count in parity.by_feature.items()
    }
    return {
        "compared": parity.compared,
        "features": len(FEATURE_NAMES),
        "mismatched": parity.mismatched,
        "current": parity.current,
        "behind": parity.behind,
        "unlogged": parity.unlogged,
        "degraded": parity.degraded,
        "never_applied": parity.never_applied,
        "mismatches": table,
    }
