"""The leak prover: no feature of a row may change when only what the row could not know changes.

For each kind of change (:mod:`training.perturbations`) the lake is written anew, the offline path asked again about
the very same rows, and every value must come back with the same bits. A *control* makes such changes to the past, where
they must show: what it leaves alone was not put to the test, and is named.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.features import FEATURE_NAMES
from stores.columns import same_bits
from stores.files import Span
from training.errors import NothingToAudit
from training.offline_vectors import Evaluate
from training.perturbations import CONTROL, KINDS, UNKNOWN, Kind, perturb
from training.probes import choose_probes, neighbourhood, read_tables, write_tables

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MOST_PROBES: Final = 300


@dataclass(frozen=True)
class Leak:
    """A feature that saw what it must not.

    Parameters
    ----------
    feature, kind
        Which one, and what it saw.
    rows
        Audited rows that changed.
    worst
        Largest absolute difference; null where one side was null every time.
    transaction_id
        One of the rows.
    """

    feature: str
    kind: Kind
    rows: int
    worst: float | None
    transaction_id: str


@dataclass(frozen=True)
class Scope:
    """What is audited.

    Parameters
    ----------
    features
        Names of the columns that the path returns.
    lag_ms
        Of a path that answers as known; null where it answers by event time.
    span
        Of the log that is read; it must reach back from the audited rows as far as the longest window does.
    """

    features: tuple[str, ...] = FEATURE_NAMES
    lag_ms: int | None = None
    span: Span = field(default_factory=Span)


EVERYTHING: Final = Scope()


@dataclass(frozen=True)
class LeakAudit:
    """What the prover found.

    Parameters
    ----------
    probes
        Rows audited, each under every kind of change.
    changes
        Rows of the lake altered, removed or added, per kind.
    leaks
        By feature and kind; none is the proof.
    untested
        Features that no change of the past moved in any audited row: nothing was proven of them.
    """

    probes: int
    changes: dict[str, int]
    leaks: tuple[Leak, ...]
    untested: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing leaked."""
        return not self.leaks


def audit(
    evaluate: Evaluate,
    lake: Path,
    rows: pa.Table | None = None,
    *,
    seed: int = 0,
    rounds: int = 1,
    probes: int = MOST_PROBES,
    scope: Scope = EVERYTHING,
    advance: Callable[[int, int], None] = lambda _done, _all: None,
) -> LeakAudit:
    """Audit an offline path. One round of few probes is cheap enough for every training set.

    Parameters
    ----------
    evaluate
        From a lake and rows of its log to their features, as :func:`training.offline_vectors.history_vectors`.
    lake
        The data; it is copied for the changes, never written.
    rows
        Transactions among which the audited rows are drawn, by their ids; null for all.
    rounds
        Every round draws other rows.
    probes
        Most rows of a round; they share no entity, so a lake of few merchants gives fewer.
    scope
        What the path answers, and of which part of the log.
    advance
        Called with the evaluations done and all.

    Raises
    ------
    NothingToAudit
        There is no row to audit.

    Examples
    --------
    >>> from training.offline_vectors import history_vectors
    >>> audit(history_vectors, Path("build/demo/lake"), rounds=1).passed  # doctest: +SKIP
    True
    """
    tables = read_tables(lake, scope.span)
    kinds = KINDS if scope.lag_ms is None else (*KINDS, UNKNOWN)
    log = tables.transactions
    candidates = np.arange(log.num_rows)
    if rows is not None:
        chosen = pc.is_in(log["transaction_id"], rows["transaction_id"].combine_chunks())
        candidates = np.flatnonzero(chosen.to_numpy(zero_copy_only=False))
    if not len(candidates):
        raise NothingToAudit(f"{lake} holds none of the rows to audit")
    found = _Findings(scope.features)
    steps = 2 + len(kinds)
    for turn in range(rounds):
        near, drawn = neighbourhood(tables, choose_probes(log, candidates, most=probes, seed=seed + turn))
        asked = near.transactions.take(pa.array(drawn.place))
        with tempfile.TemporaryDirectory() as folder:
            before = evaluate(write_tables(near, Path(folder) / "clean"), asked)
            advance(turn * steps + 1, rounds * steps)
            for number, kind in enumerate((*kinds, CONTROL), start=2):
                changed, count = perturb(near, drawn, kind, lag_ms=scope.lag_ms or 0)
                after = evaluate(write_tables(changed, Path(folder) / kind.replace(" ", "-")), asked)
                found.add(kind, asked, before, after, count)
                advance(turn * steps + number, rounds * steps)
    return found.summary()


class _Findings:
    """Gathers what changed, round by round."""

    def __init__(self, features: tuple[str, ...]) -> None:
        self._features = features
        self._probes = 0
        self._changes: dict[str, int] = {}
        self._rows: dict[tuple[Kind, int], int] = {}
        self._worst: dict[tuple[Kind, int], float | None] = {}
        self._example: dict[tuple[Kind, int], str] = {}
        self._moved = np.zeros(len(features), np.bool_)

    def add(self, kind: Kind, asked: pa.Table, before: FloatArray, after: FloatArray, changes: int) -> None:
        """Compare the answers about some rows before and after the changes of a kind."""
        differs = ~same_bits(before, after)
        if kind == CONTROL:
            self._probes += len(before)
            self._moved |= differs.any(axis=0)
            return
        self._changes[kind] = self._changes.get(kind, 0) + changes
        for column in np.flatnonzero(differs.any(axis=0)).tolist():
            place = (kind, column)
            hit = differs[:, column]
            gaps = np.abs(before[hit, column] - after[hit, column])
            known = [*gaps[~np.isnan(gaps)].tolist(), *(gap for gap in [self._worst.get(place)] if gap is not None)]
            self._rows[place] = self._rows.get(place, 0) + int(hit.sum())
            self._worst[place] = max(known, default=None)
            self._example.setdefault(place, asked["transaction_id"][int(np.flatnonzero(hit)[0])].as_py())

    def summary(self) -> LeakAudit:
        """Return what was found."""
        leaks = [
            Leak(self._features[column], kind, rows, self._worst[kind, column], self._example[kind, column])
            for (kind, column), rows in self._rows.items()
        ]
        order = {kind: number for number, kind in enumerate((*KINDS, UNKNOWN))}
        leaks.sort(key=lambda leak: (order[leak.kind], -leak.rows, leak.feature))
        untested = [name for name, moved in zip(self._features, self._moved, strict=True) if not moved]
        return LeakAudit(self._probes, self._changes, tuple(leaks), tuple(untested))


def as_data(audited: LeakAudit) -> dict[str, Any]:
    """Return the audit as plain data."""
    return {
        "probes": audited.probes,
        "changes": audited.changes,
        "leaks": [
            {
                "feature": leak.feature,
                "kind": leak.kind,
                "rows": leak.rows,
                "worst": leak.worst,
                "transaction_id": leak.transaction_id,
            }
            for leak in audited.leaks
        ],
        "untested": list(audited.untested),
    }
