"""The dearer checks of a week's training set, in one function that the loop calls: leak audit, parity, seeds.

What was not asked stands in the verdict as not asked, wherever the loop runs.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fraud.windows import DAY
from retraining.evidence import leaks_checked, parity_checked
from retraining.seeds import seeds_agree
from retraining.verdict import Check, not_asked
from retraining.weekly import Inspect, WeekPlan
from training.dataset import TrainingSet
from training.dataset_files import prove_rows
from training.dataset_request import DatasetRequest
from training.transaction_log import Progress

Prove = Callable[[TrainingSet], Mapping[str, Any]]
"""Called with a training set; returns the leak prover's proof as plain data."""


def inspector(
    plan: WeekPlan,
    *,
    as_of_ms: int,
    prove: Prove | None = None,
    parity: Path | None = None,
    require_parity: bool = False,
    seeds: int = 2,
) -> Inspect:
    """Return the checks as :func:`retraining.weekly.run_week` calls them.

    Parameters
    ----------
    prove
        Proves that no feature saw the future, see :func:`lake_prover`; null does not ask.
    parity
        A certificate of ``python -m monitoring parity --json``; once it is named it has to be there and clean.
    require_parity
        Without a certificate the check fails.
    seeds
        Other seeds that have to agree with the plan's; 0 does not ask.
    """

    def inspect(rows: TrainingSet) -> Sequence[Check]:
        return (
            not_asked("no_feature_sees_the_future", "the leak audit was left out")
            if prove is None
            else leaks_checked(prove(rows)),
            _served_as_trained(parity, required=require_parity),
            seeds_agree(rows, plan, as_of_ms=as_of_ms, others=seeds)
            if seeds
            else not_asked("seeds_agree", "no other seed was wanted"),
        )

    return inspect


def lake_prover(lake: Path, plan: WeekPlan, *, as_of_ms: int, progress: Progress = lambda _done, _all: None) -> Prove:
    """Return what proves a training set of a lake, by the data that it was made from."""
    start, _, _, end = plan.edges(as_of_ms)
    request = DatasetRequest(start, end, label_delay_ms=plan.label_delay_days * DAY, as_of_ms=as_of_ms)

    def prove(rows: TrainingSet) -> Mapping[str, Any]:
        return prove_rows(rows, lake, request, seed=plan.seed, progress=progress).as_data()

    return prove


def _served_as_trained(parity: Path | None, *, required: bool) -> Check:
    if parity is not None:
        return parity_checked(parity)
    if required:
        return Check("served_as_trained", passed=False, evidence="a parity certificate is required and none was given")
    return not_asked("served_as_trained", "no parity certificate was given")
