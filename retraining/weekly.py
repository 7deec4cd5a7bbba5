"""One weekly iteration: training set, fit, evaluation against the champion, gate, promotion or refusal.

A failure in any step leaves the champion as it is. The clock comes in as ``as_of_ms``; the same inputs and seed give the
same bundle version, so a doubled start finds its version in the registry and changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fraud.bundle import ModelBundle
from fraud.errors import CorruptBundle
from fraud.trees import predict_margin
from fraud.windows import DAY
from retraining.gate import Check, GateLimits, HeldOut, Verdict, judge
from retraining.registry import Registry
from training.bundling import bundle_files, code_digest, data_digest
from training.dataset import TrainingSet, build_training_set
from training.fit import FittedModel, Rows, choose_policy, fit_model
from training.transaction_log import Progress

Builder = Callable[[int, int, int], TrainingSet]
"""Called with start, end and as-of (epoch ms); returns the training set."""


@dataclass(frozen=True)
class WeekPlan:
    """The spans of one iteration, counted back from its time: held-out rows are the newest mature ones.

    Parameters
    ----------
    train_days, validation_days, test_days
        Lengths; validation follows training, the held-out test follows validation.
    label_delay_days
        Age at which a transaction's label counts as mature.
    review_share, insult_share
        Budgets the thresholds keep, see :func:`training.fit.choose_policy`.
    seed
        Of the fit and of the resamples.
    """

    train_days: int = 30
    validation_days: int = 7
    test_days: int = 7
    label_delay_days: int = 21
    review_share: float = 0.01
    insult_share: float = 0.001
    seed: int = 0

    @property
    def days(self) -> int:
        """Days of transactions an iteration reads."""
        return self.train_days + self.validation_days + self.test_days

    def edges(self, as_of_ms: int) -> tuple[int, int, int, int]:
        """Return where training, validation and test start and where the test ends, epoch ms."""
        end = (as_of_ms // DAY - self.label_delay_days) * DAY
        test = end - self.test_days * DAY
        validation = test - self.validation_days * DAY
        return validation - self.train_days * DAY, validation, test, end


@dataclass(frozen=True)
class WeekReport:
    """What an iteration did.

    ``champion`` is the version serving afterwards; ``challenger`` the one fitted.
    """

    as_of_ms: int
    champion: str | None
    challenger: str
    promoted: bool
    verdict: Verdict
    rows: int
    frauds: int


def run_week(
    build: Builder,
    registry: Registry,
    *,
    as_of_ms: int,
    plan: WeekPlan,
    read_plan: Mapping[str, Any],
    root: Path,
    limits: GateLimits,
) -> WeekReport:
    """Run one iteration and return what it did.

    Parameters
    ----------
    build
        Builds a training set, see :func:`training_set_builder`.
    registry
        Where the champion is and the challenger goes.
    as_of_ms
        The iteration's time; labels that arrived later are not known.
    read_plan
        How the scorer reads the online store, packed into the bundle.
    root
        Of the source tree, for the code digest.
    limits
        Of the gate.

    Raises
    ------
    TollgateError
        Any step's reason; the champion is untouched.
    """
    start, validation_from, test_from, end = plan.edges(as_of_ms)
    rows = build(start, end, as_of_ms)
    train, validation = rows.between(start, validation_from), rows.between(validation_from, test_from)
    held_out = rows.between(test_from, end)
    model = fit_model(_rows(rows, train), _rows(rows, validation), rows.features, seed=plan.seed)
    scores = model.scores(rows.matrix[validation])
    policy = choose_policy(
        scores,
        rows.is_fraud[validation],
        version=f"budget-{plan.review_share:g}-{plan.insult_share:g}",
        review_share=plan.review_share,
        insult_share=plan.insult_share,
    )
    provenance = {
        "data_sha256": data_digest(rows, train),
        "code_sha256": code_digest(root),
        "train_from_ms": start,
        "train_to_ms": validation_from,
        "labels_as_of_ms": as_of_ms,
        "seed": plan.seed,
        "trees": model.trees,
    }
    files = bundle_files(model, policy, read_plan, rows.matrix[train], provenance)
    champion = registry.champion()
    try:
        challenger = registry.add(files)
    except CorruptBundle as error:
        verdict = Verdict((Check("bundle_reproduces", passed=False, evidence=str(error)),))
        return WeekReport(as_of_ms, champion and champion.version, "", False, verdict, *_size(rows))
    verdict = _judge(rows, held_out, champion, model, plan, limits)
    if verdict.passed:
        registry.promote(challenger.version, verdict, as_of_ms=as_of_ms)
    else:
        registry.refuse(challenger.version, verdict, as_of_ms=as_of_ms)
    serving = challenger.version if verdict.passed else champion and champion.version
    return WeekReport(as_of_ms, serving, challenger.version, verdict.passed, verdict, *_size(rows))


def training_set_builder(feature_store: Any, lake: Path, progress: Progress) -> Builder:
    """Return a builder of training sets from a lake through Feast."""

    def build(start_ms: int, end_ms: int, as_of_ms: int) -> TrainingSet:
        return build_training_set(
            feature_store, lake, start_ms=start_ms, end_ms=end_ms, as_of_ms=as_of_ms, progress=progress
        )

    return build


def _judge(
    rows: TrainingSet,
    held_out: slice,
    champion: ModelBundle | None,
    model: FittedModel,
    plan: WeekPlan,
    limits: GateLimits,
) -> Verdict:
    matrix = rows.matrix[held_out]
    challenger = model.scores(matrix)
    # Without a champion the challenger is held against itself: only the absolute checks can refuse it.
    against = challenger if champion is None else champion_scores(champion, rows, held_out)
    judged = HeldOut(against, challenger, rows.is_fraud[held_out], rows.event_time_ms[held_out])
    return judge(judged, bundle_reproduces=True, limits=limits, seed=plan.seed)


def champion_scores(champion: ModelBundle, rows: TrainingSet, taken: slice) -> Any:
    """Return the champion's scores of some rows, by the scorer's own runtime, shape ``(n,)``."""
    columns = rows.columns(champion.features)
    matrix = rows.matrix[taken][:, columns].astype(np.float64)
    return np.array([champion.calibration.score(predict_margin(champion.forest, row)) for row in matrix])


def _rows(rows: TrainingSet, taken: slice) -> Rows:
    return Rows(rows.matrix[taken], rows.is_fraud[taken])


def _size(rows: TrainingSet) -> tuple[int, int]:
    return len(rows.is_fraud), int(rows.is_fraud.sum())
