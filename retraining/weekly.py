"""One weekly iteration: training set, fit, evaluation against the champion, gate, promotion or refusal.

A failure in any step leaves the champion as it is. The clock comes in as ``as_of_ms``; the same inputs and seed give
the same bundle version, so a doubled start finds its verdict in the registry and changes nothing.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import thread_time_ns
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud.bundle import MANIFEST, ModelBundle, open_bundle
from fraud.errors import CorruptBundle
from fraud.trees import predict_margin
from retraining.errors import IncomparableChampion
from retraining.gate import Check, GateLimits, HeldOut, PackedModel, Verdict, judge
from retraining.parts import parts_of
from retraining.registry import ModelRegistry
from training.challenger import TrainingPlan, fit_challenger
from training.dataset import TrainingSet, build_training_set
from training.transaction_log import Progress

Builder = Callable[[int, int, int], TrainingSet]
"""Called with start, end and as-of (epoch ms); returns the training set."""

Inspect = Callable[[TrainingSet], Sequence[Check]]
"""Called with the training set; returns further checks, every one of which must pass."""

WeekPlan = TrainingPlan
"""The spans of an iteration: those of a training."""

_TIMED_ROWS: Final = 2000


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
        Whether this very iteration had been done before: the verdict is the earlier one and nothing was changed.
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
        start, _, test_from, end = plan.edges(as_of_ms)
        rows = build(start, end, as_of_ms)
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
        )


def decide_week(
    registry: ModelRegistry,
    files: Mapping[str, bytes],
    rows: TrainingSet,
    *,
    as_of_ms: int,
    plan: WeekPlan,
    limits: GateLimits,
    scores: npt.NDArray[np.float64] | None = None,
    inspect: Inspect = lambda _rows: (),
) -> WeekReport:
    """Judge a packed challenger and write the verdict into the registry; call it under the registry's lock.

    Parameters
    ----------
    files
        Of the challenger's bundle.
    scores
        The challenger's of the held-out rows; without them the scorer's own runtime gives them.
    inspect
        As for :func:`run_week`; not asked again about an iteration that was done before.
    """
    _, _, test_from, end = plan.edges(as_of_ms)
    held_out = rows.between(test_from, end)
    version = hashlib.sha256(files[MANIFEST]).hexdigest()[:16]
    earlier = _judged_before(registry, version, as_of_ms)
    if earlier is not None:
        return _report(registry, rows, as_of_ms, version, earlier, repeated=True)
    if scores is None:
        scores = champion_scores(open_bundle(files), rows, held_out)
    verdict = _verdict(registry, _Packed(files, scores), rows, held_out, limits, plan.seed)
    verdict = Verdict((*verdict.checks, *inspect(rows)))
    if verdict.passed:
        registry.promote(version, verdict, as_of_ms=as_of_ms)
    else:
        registry.refuse(version, verdict, as_of_ms=as_of_ms)
    return _report(registry, rows, as_of_ms, version, verdict)


def training_set_builder(feature_store: Any, lake: Path, progress: Progress) -> Builder:
    """Return a builder of training sets from a lake through Feast."""

    def build(start_ms: int, end_ms: int, as_of_ms: int) -> TrainingSet:
        return build_training_set(
            feature_store, lake, start_ms=start_ms, end_ms=end_ms, as_of_ms=as_of_ms, progress=progress
        )

    return build


def champion_scores(champion: ModelBundle, rows: TrainingSet, taken: slice | npt.NDArray[np.int64]) -> Any:
    """Return the champion's scores of some rows, by the scorer's own runtime, shape ``(n,)``.

    Raises
    ------
    IncomparableChampion
        It takes a feature that the rows do not have.
    """
    lost = [name for name in champion.features if name not in rows.features]
    if lost:
        raise IncomparableChampion(
            f"champion {champion.version} takes {lost[0]!r} and {len(lost) - 1} more features that the training set "
            "does not have: promote a challenger by hand with rollback --to"
        )
    matrix = rows.matrix[taken][:, rows.columns(champion.features)].astype(np.float64)
    return np.array([champion.calibration.score(predict_margin(champion.forest, row)) for row in matrix])


@dataclass(frozen=True)
class _Packed:
    """A challenger's bundle, and its scores of the held-out rows."""

    files: Mapping[str, bytes]
    scores: npt.NDArray[np.float64]


def _verdict(
    registry: ModelRegistry, packed: _Packed, rows: TrainingSet, held_out: slice, limits: GateLimits, seed: int
) -> Verdict:
    """Return the gate's verdict, and whether the champion could be asked at all."""
    scores = packed.scores
    # Without a champion the challenger is held against itself: only the absolute checks can refuse it.
    against, answers = scores, Check("champion_answers", passed=True, evidence="there is no champion yet")
    try:
        champion = registry.champion()
        if champion is not None:
            against = champion_scores(champion, rows, held_out)
            answers = Check("champion_answers", passed=True, evidence=f"{champion.version} scored the same rows")
    except (CorruptBundle, IncomparableChampion) as error:
        said = f"{error} ({error.code}); the link stays, go back with: python -m retraining rollback"
        answers = Check("champion_answers", passed=False, evidence=said)
    judged = HeldOut(
        against,
        scores,
        rows.is_fraud[held_out],
        rows.event_time_ms[held_out],
        rows.amount_minor[held_out],
        parts_of(rows, held_out),
    )
    verdict = judge(judged, _measured(registry, packed.files, rows.matrix[held_out]), limits=limits, seed=seed)
    return Verdict((*verdict.checks, answers))


def _measured(registry: ModelRegistry, files: Mapping[str, bytes], matrix: npt.NDArray[np.float32]) -> PackedModel:
    """Keep the challenger's bundle, open it as the scorer does, and measure it."""
    size = sum(len(content) for content in files.values())
    try:
        bundle = registry.add(files)
    except CorruptBundle as error:
        return PackedModel(str(error), size, json.loads(files["provenance.json"])["trees"])
    return PackedModel(None, size, len(bundle.forest.roots), _row_us(bundle, matrix[:_TIMED_ROWS].astype(np.float64)))


def _row_us(bundle: ModelBundle, rows: npt.NDArray[np.float64]) -> float | None:
    """Return the processor time of one row in the scorer's runtime, microseconds, best of three; null without rows."""
    if not len(rows):
        return None
    spent = []
    for _ in range(3):
        started = thread_time_ns()
        for row in rows:
            predict_margin(bundle.forest, row)
        spent.append(thread_time_ns() - started)
    return min(spent) / len(rows) / 1000


def _judged_before(registry: ModelRegistry, version: str, as_of_ms: int) -> Verdict | None:
    """Return the verdict that a version got at the same time; null when it was never judged then."""
    for event in reversed(registry.history()):
        if event["version"] == version and event.get("as_of_ms") == as_of_ms and "checks" in event:
            return Verdict(tuple(Check(**check) for check in event["checks"]))
    return None


def _report(
    registry: ModelRegistry, rows: TrainingSet, as_of_ms: int, version: str, verdict: Verdict, *, repeated: bool = False
) -> WeekReport:
    return WeekReport(
        as_of_ms=as_of_ms,
        champion=registry.champion_version(),
        challenger=version,
        promoted=verdict.passed,
        verdict=verdict,
        rows=len(rows.is_fraud),
        frauds=int(rows.is_fraud.sum()),
        repeated=repeated,
    )


def week_figures(report: WeekReport) -> dict[str, Any]:
    """Return a report as plain data."""
    return asdict(report) | {"reasons": list(report.verdict.reasons)}
