"""One weekly iteration: training set, fit, evaluation against the champion, gate, promotion or refusal.

A failure in any step leaves the champion as it is. The clock comes in as ``as_of_ms``; a calendar week has one verdict,
so a doubled start, another day of the same week, or late data on the same day find it in the registry and change
nothing.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud.bundle import MANIFEST, open_bundle
from fraud.windows import DAY
from retraining.errors import MissingDays
from retraining.judging import Packed, champion_scores, judge_packed
from retraining.label_facts import FindFacts, LabelFacts
from retraining.limits import GateLimits
from retraining.registry import ModelRegistry
from retraining.verdict import Check, Verdict
from training.challenger import TrainingPlan, fit_challenger
from training.dataset import TrainingSet, build_training_set
from training.selective import weigh
from training.transaction_log import Progress, day_text

Builder = Callable[[int, int, int], TrainingSet]
"""Called with start, end and as-of (epoch ms); returns the training set."""

Inspect = Callable[[TrainingSet], Sequence[Check]]
"""Called with the training set; returns further checks, every one of which must pass."""

WeekPlan = TrainingPlan
"""The spans of an iteration: those of a training."""


@dataclass(frozen=True)
class WeekReport:
    """What an iteration did.

    Parameters
    ----------
    as_of_ms
        Its time.
    champion, challenger
        The version serving afterwards; the one fitted.
    promoted, verdict
        The gate's answer.
    rows, frauds
        Of the whole training set.
    repeated
        Whether this week had its verdict before: it is the earlier one and nothing was changed.
    """

    as_of_ms: int
    champion: str | None
    challenger: str
    promoted: bool
    verdict: Verdict
    rows: int
    frauds: int
    repeated: bool = False


def run_week(  # noqa: PLR0913  # the collaborators of an iteration, each from the entry point
    build: Builder,
    registry: ModelRegistry,
    *,
    as_of_ms: int,
    plan: WeekPlan,
    read_plan: Mapping[str, Any],
    root: Path,
    limits: GateLimits,
    inspect: Inspect = lambda _rows: (),
    facts: FindFacts | None = None,
    again: bool = False,
    progress: Progress | None = None,
) -> WeekReport:
    """Run one iteration and return what it did.

    Parameters
    ----------
    build
        Builds a training set, see :func:`training_set_builder`.
    registry
        Where the champion is and the challenger goes; locked from the first step to the last.
    as_of_ms
        The iteration's time; labels that arrived later are not known.
    read_plan
        How the scorer reads the online store, packed into the bundle.
    root
        Of the source tree, for the code digest.
    limits
        Of the gate.
    inspect
        Checks of the training set that come on top of the gate's own, such as a leak audit.
    facts
        What the labels say beside which rows are fraud; without it blocked cards stay, types are not compared.
    again
        Judge although this calendar week has its verdict.
    progress
        Called with the trees done and the most there can be.

    Raises
    ------
    RegistryBusy
        Another iteration or rollback is at work there.
    TollgateError
        Any step's reason; the champion is untouched.
    """
    with registry.locked():
        earlier = None if again else judged_in_week(registry, as_of_ms)
        if earlier is not None:
            return earlier
        start, _, test_from, end = plan.edges(as_of_ms)
        rows = build(start, end, as_of_ms)
        require_every_day(rows, end)
        fitted = fit_challenger(rows, plan, as_of_ms=as_of_ms, read_plan=read_plan, root=root, progress=progress)
        return decide_week(
            registry,
            fitted.files,
            rows,
            as_of_ms=as_of_ms,
            plan=plan,
            limits=limits,
            scores=fitted.model.scores(rows.matrix[rows.between(test_from, end)]),
            inspect=inspect,
            facts=None if facts is None else facts(rows),
            again=True,
        )


def decide_week(  # noqa: PLR0913  # the challenger, the rows, and what is known of both
    registry: ModelRegistry,
    files: Mapping[str, bytes],
    rows: TrainingSet,
    *,
    as_of_ms: int,
    plan: WeekPlan,
    limits: GateLimits,
    scores: npt.NDArray[np.float64] | None = None,
    inspect: Inspect = lambda _rows: (),
    facts: LabelFacts | None = None,
    again: bool = False,
) -> WeekReport:
    """Judge a packed challenger and write the verdict into the registry; call it under the registry's lock.

    Parameters
    ----------
    files
        Of the challenger's bundle.
    scores
        The challenger's of the held-out days; without them the scorer's own runtime gives them.
    inspect
        As for :func:`run_week`; not asked again about a week that has its verdict.
    facts, again
        As for :func:`run_week`; ``facts`` are those of ``rows``.
    """
    from retraining.report_page import candidate_report

    earlier = None if again else judged_in_week(registry, as_of_ms)
    if earlier is not None:
        return earlier
    version = hashlib.sha256(files[MANIFEST]).hexdigest()[:16]
    _, _, test_from, end = plan.edges(as_of_ms)
    days = rows.between(test_from, end)
    if scores is None:
        scores = champion_scores(open_bundle(files), rows, days)
    judged, verdict = judge_packed(registry, Packed(files, scores), rows, days, facts, limits, plan)
    inspected = inspect(rows)
    verdict = Verdict((*verdict.checks, *inspected), rows=len(rows.is_fraud), frauds=int(rows.is_fraud.sum()))
    told = candidate_report(
        version, verdict, judged, plan, files, as_of_ms=as_of_ms, champion=registry.champion_version()
    )
    registry.keep_report(version, told.files())
    verdict = replace(verdict, report_sha256=told.sha256)
    if verdict.passed:
        registry.promote(version, verdict, as_of_ms=as_of_ms)
    else:
        registry.refuse(version, verdict, as_of_ms=as_of_ms)
    return _report(registry, as_of_ms, version, verdict)


def require_every_day(rows: TrainingSet, end_ms: int) -> None:
    """Refuse a training set with a hole: from its first payment's day to ``end_ms`` every day must have payments.

    Raises
    ------
    MissingDays
        A day has none: a partition was lost, or has not arrived.
    """
    found = np.unique(rows.event_time_ms // DAY)
    wanted = np.arange(found[0] if len(found) else end_ms // DAY - 1, end_ms // DAY)
    lost = np.setdiff1d(wanted, found)
    if len(lost):
        raise MissingDays(
            f"{len(lost)} of {len(wanted)} days have no transaction, the first {day_text(int(lost[0]) * DAY)}: "
            "bring them back, or choose --as-of and --train-days around them"
        )


def training_set_builder(feature_store: Any, lake: Path, progress: Progress) -> Builder:
    """Return a builder of training sets from a lake through Feast."""

    def build(start_ms: int, end_ms: int, as_of_ms: int) -> TrainingSet:
        return build_training_set(
            feature_store, lake, start_ms=start_ms, end_ms=end_ms, as_of_ms=as_of_ms, progress=progress
        )

    return build


def weighed_builder(build: Builder, decisions: pa.Table) -> Builder:
    """Return a builder whose rows weigh one over the probability with which they were let through.

    Parameters
    ----------
    decisions
        Table of :func:`training.selective.read_decisions`.
    """

    def weighed(start_ms: int, end_ms: int, as_of_ms: int) -> TrainingSet:
        return weigh(build(start_ms, end_ms, as_of_ms), decisions)

    return weighed


def judged_in_week(registry: ModelRegistry, as_of_ms: int) -> WeekReport | None:
    """Return what the newest iteration of the same calendar week did (ISO 8601, UTC); null when there was none.

    Examples
    --------
    Sunday is the last day of a week.

    >>> iso_week(4 * DAY - DAY), iso_week(4 * DAY)
    ((1970, 1), (1970, 2))
    """
    for event in reversed(registry.history()):
        then = event.get("as_of_ms")
        if then is not None and "checks" in event and iso_week(then) == iso_week(as_of_ms):
            report = _report(registry, then, event["version"], Verdict.of(event))
            return replace(report, repeated=True)
    return None


def iso_week(time_ms: int) -> tuple[int, int]:
    """Return year and number of a time's calendar week."""
    found = datetime.fromtimestamp(time_ms / 1000, UTC).isocalendar()
    return found.year, found.week


def _report(registry: ModelRegistry, as_of_ms: int, version: str, verdict: Verdict) -> WeekReport:
    return WeekReport(
        as_of_ms=as_of_ms,
        champion=registry.champion_version(),
        challenger=version,
        promoted=verdict.passed,
        verdict=verdict,
        rows=verdict.rows,
        frauds=verdict.frauds,
    )


def week_figures(report: WeekReport) -> dict[str, Any]:
    """Return a report as plain data."""
    return asdict(report) | {"reasons": list(report.verdict.reasons)}
