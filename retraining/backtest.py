"""The time machine: the weekly loop over history, week after week, with the labels that had arrived by each.

Every week is decided by :func:`retraining.weekly.run_week`, the function that decides in production; nothing of the
loop is written twice. A row's features see what its payment could see, whatever the week, so they are computed once for
the whole span and sliced. What each week's champion then did is judged by labels one label delay after the week's end,
beside the first champion of all, kept for ever: the difference is what retraining buys.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from fraud.bundle import ModelBundle
from fraud.errors import TollgateError
from fraud.windows import DAY
from retraining.judging import champion_scores
from retraining.label_facts import FindFacts, label_facts
from retraining.limits import LIMITS, GateLimits
from retraining.registry import ModelRegistry
from retraining.verdict import Check
from retraining.weekly import Builder, WeekPlan, run_week
from training.compromised import BLOCKED_DAYS, unblocked
from training.dataset import TrainingSet, labelled_at
from training.errors import InvalidSplit
from training.prequential import WEEK_DAYS
from training.ranking import BoolArray, FloatArray, IntArray, rank
from training.transaction_log import Progress, day_text

Outcome = Literal["promoted", "refused", "failed"]

WEEK: Final = WEEK_DAYS * DAY


@dataclass(frozen=True)
class Realised:
    """What a served model did in a week, by labels that had matured.

    Parameters
    ----------
    rows, frauds
        Of the week.
    pr_auc, recall, value_detected
        Area; shares of the frauds and of their amount that the model's own review threshold alerts. Null without both
        classes.
    false_positives
        Legitimate payments alerted there.
    """

    rows: int
    frauds: int
    pr_auc: float | None
    recall: float | None
    value_detected: float | None
    false_positives: int


@dataclass(frozen=True)
class PlayedWeek:
    """One week of the replay.

    Parameters
    ----------
    as_of
        Day of the iteration.
    outcome, reasons, checks
        What became of the challenger, and why not; a step that failed has a reason and no checks.
    challenger, champion, kept
        Versions: the one fitted, the one serving from then on, the first champion of all; null for none.
    realised, without
        What champion and kept champion did in the seven days that followed; null without a champion, or while the
        week's labels have not matured.
    """

    as_of: str
    outcome: Outcome
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    challenger: str | None
    champion: str | None
    kept: str | None
    realised: Realised | None
    without: Realised | None


@dataclass(frozen=True)
class Lived:
    """The rows of all weeks that can be judged: scores and alerts with retraining and without, equally long columns."""

    retrained: FloatArray
    kept: FloatArray
    retrained_alert: BoolArray
    kept_alert: BoolArray
    is_fraud: BoolArray
    event_time_ms: IntArray
    amount_minor: IntArray


@dataclass(frozen=True)
class Playback:
    """The weeks, oldest first, and their judged rows; null when no week could be judged."""

    weeks: tuple[PlayedWeek, ...]
    lived: Lived | None


@dataclass(frozen=True)
class Span:
    """Which weeks are replayed: ``weeks`` iterations a week apart, the last at ``last_ms`` (a midnight, epoch ms).

    Raises
    ------
    InvalidSplit
        No week.
    """

    weeks: int
    last_ms: int

    def __post_init__(self) -> None:
        """Refuse a replay of nothing."""
        if self.weeks < 1:
            raise InvalidSplit(f"{self.weeks} weeks: at least one is needed")

    def times(self) -> list[int]:
        """Return the time of each iteration, oldest first.

        Examples
        --------
        >>> [time // DAY for time in Span(3, 100 * DAY).times()]
        [86, 93, 100]
        """
        return [self.last_ms - (self.weeks - 1 - week) * WEEK for week in range(self.weeks)]

    def rows(self, plan: WeekPlan) -> tuple[int, int]:
        """Return from when to when transactions are needed, epoch ms: the last week's payments are judged too."""
        return plan.edges(self.times()[0])[0], self.last_ms + WEEK


def history_builder(history: TrainingSet, statements: pa.Table) -> Builder:
    """Return a builder that slices rows computed once and reads the labels that had arrived by each as-of.

    Parameters
    ----------
    history
        Rows of the whole span; their labels are not looked at.
    statements
        Table of ``labels.parquet``.
    """

    def build(start_ms: int, end_ms: int, as_of_ms: int) -> TrainingSet:
        return labelled_at(_sliced(history, history.between(start_ms, end_ms)), statements, as_of_ms)

    return build


def play(  # noqa: PLR0913  # the collaborators of a weekly iteration, and the history it runs over
    history: TrainingSet,
    statements: pa.Table,
    registry: ModelRegistry,
    *,
    plan: WeekPlan,
    span: Span,
    read_plan: Mapping[str, Any],
    root: Path,
    limits: GateLimits = LIMITS,
    truth: pa.Table | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Playback:
    """Replay the weekly loop and return what it did.

    Parameters
    ----------
    history
        Rows of :meth:`Span.rows`, features as of each row.
    statements
        Table of ``labels.parquet``; each week knows those that had arrived.
    registry
        An empty one of the replay's own.
    read_plan, root, limits
        As for :func:`retraining.weekly.run_week`.
    truth
        Table of ``truth.parquet``, for the types of fraud that the gate compares; never for a label.
    progress
        Called with the weeks done and the weeks in all.

    Raises
    ------
    InvalidSplit
        The history does not reach back far enough.
    """
    first, _ = span.rows(plan)
    if not len(history.event_time_ms) or int(history.event_time_ms[0]) >= first + DAY:
        reached = day_text(int(history.event_time_ms[0])) if len(history.event_time_ms) else "nowhere"
        raise InvalidSplit(
            f"{span.weeks} weeks need transactions from {day_text(first)} on, the history begins {reached}: "
            "replay fewer weeks or train on fewer days"
        )
    build, weeks, parts = history_builder(history, statements), list[PlayedWeek](), list[Lived]()
    known_until = _known_until(history, statements)
    kept: ModelBundle | None = None
    for number, as_of_ms in enumerate(span.times()):
        facts = partial(label_facts, statements=statements, plan=plan, truth=truth)
        decided = _decide(build, registry, as_of_ms, plan, read_plan, root, limits, facts)
        champion = registry.champion()
        kept = kept or champion
        matured_ms = as_of_ms + WEEK + plan.label_delay_days * DAY
        if champion is not None and kept is not None and matured_ms <= known_until:
            lived = _live(history, build(as_of_ms, as_of_ms + WEEK, matured_ms), statements, champion, kept)
            parts.append(lived)
            decided = replace(
                decided,
                realised=_realised(lived, lived.retrained, lived.retrained_alert),
                without=_realised(lived, lived.kept, lived.kept_alert),
            )
        weeks.append(replace(decided, kept=None if kept is None else kept.version))
        progress(number + 1, span.weeks)
    return Playback(tuple(weeks), _joined(parts) if parts else None)


def _decide(
    build: Builder,
    registry: ModelRegistry,
    as_of_ms: int,
    plan: WeekPlan,
    read_plan: Mapping[str, Any],
    root: Path,
    limits: GateLimits,
    facts: FindFacts,
) -> PlayedWeek:
    """Run one iteration; a step that fails is a week without a challenger, as it would be in production."""
    day = day_text(as_of_ms)
    try:
        report = run_week(
            build, registry, as_of_ms=as_of_ms, plan=plan, read_plan=read_plan, root=root, limits=limits, facts=facts
        )
    except TollgateError as error:
        why = (f"{error.code}: {error}",)
        return PlayedWeek(day, "failed", why, (), None, registry.champion_version(), None, None, None)
    outcome: Outcome = "promoted" if report.promoted else "refused"
    checks = report.verdict.checks
    return PlayedWeek(
        day, outcome, report.verdict.reasons, checks, report.challenger, report.champion, None, None, None
    )


def _live(
    history: TrainingSet, week: TrainingSet, statements: pa.Table, champion: ModelBundle, kept: ModelBundle
) -> Lived:
    """Return what both did in a week, but for the payments of cards that were known as compromised by then."""
    before = history.between(int(week.event_time_ms[0]) - BLOCKED_DAYS * DAY, int(week.event_time_ms[-1]) + 1)
    free = unblocked(_sliced(history, before), statements)[-len(week.is_fraud) :]
    rows = _picked(week, np.flatnonzero(free))
    everything = slice(0, len(rows.is_fraud))
    ours: FloatArray = champion_scores(champion, rows, everything)
    first: FloatArray = ours if kept.version == champion.version else champion_scores(kept, rows, everything)
    return Lived(
        retrained=ours,
        kept=first,
        retrained_alert=ours >= champion.policy.review_at,
        kept_alert=first >= kept.policy.review_at,
        is_fraud=rows.is_fraud,
        event_time_ms=rows.event_time_ms,
        amount_minor=rows.amount_minor,
    )


def _realised(lived: Lived, scores: FloatArray, alert: BoolArray) -> Realised:
    fraud = lived.is_fraud
    frauds, value = int(fraud.sum()), int(lived.amount_minor[fraud].sum())
    both = 0 < frauds < len(fraud)
    return Realised(
        rows=len(fraud),
        frauds=frauds,
        pr_auc=float(rank(scores, fraud).curve().average_precision()[0]) if both else None,
        recall=float(alert[fraud].mean()) if both else None,
        value_detected=int(lived.amount_minor[fraud & alert].sum()) / value if both and value else None,
        false_positives=int((alert & ~fraud).sum()),
    )


def _known_until(history: TrainingSet, statements: pa.Table) -> int:
    """Return until when the data say what became of a payment: the end of the log, or the last label that arrived."""
    end = (int(history.event_time_ms[-1]) // DAY + 1) * DAY
    arrived = statements["created_timestamp"].cast(pa.int64()).to_numpy() // 1000
    return max(end, int(arrived.max()) + 1) if len(arrived) else end


def _joined(parts: list[Lived]) -> Lived:
    columns: Callable[[str], Any] = lambda name: np.concatenate([getattr(part, name) for part in parts])  # noqa: E731
    return Lived(**{name: columns(name) for name in Lived.__dataclass_fields__})


def _picked(rows: TrainingSet, places: IntArray) -> TrainingSet:
    return replace(_sliced(rows, places), is_fraud=rows.is_fraud[places])


def _sliced(rows: TrainingSet, taken: slice | IntArray) -> TrainingSet:
    return replace(
        rows,
        matrix=rows.matrix[taken],
        transaction_id=rows.transaction_id[taken]
        if isinstance(taken, slice)
        else rows.transaction_id.take(pa.array(taken)),
        card=rows.card[taken],
        event_time_ms=rows.event_time_ms[taken],
        amount_minor=rows.amount_minor[taken],
        weights=None if rows.weights is None else rows.weights[taken],
    )
