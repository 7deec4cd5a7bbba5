"""The dearer checks of a week's training set, in one function that the loop calls: leak audit, parity, seeds."""

from collections.abc import Sequence
from pathlib import Path

from fraud.windows import DAY
from retraining.evidence import leaks_checked, parity_checked
from retraining.gate import Check
from retraining.seeds import seeds_agree
from retraining.weekly import Inspect, WeekPlan
from training.dataset import TrainingSet
from training.dataset_files import prove_rows
from training.dataset_request import DatasetRequest
from training.transaction_log import Progress


def inspector(
    lake: Path,
    plan: WeekPlan,
    *,
    as_of_ms: int,
    parity: Path | None = None,
    audit: bool = True,
    seeds: int = 2,
    progress: Progress = lambda _done, _all: None,
) -> Inspect:
    """Return the checks as :func:`retraining.weekly.run_week` calls them.

    Parameters
    ----------
    lake
        The data that the training set was made from.
    parity
        A certificate of ``python -m monitoring parity --json``; once it is named it has to be there and clean.
    audit
        Whether the leak prover runs over rows of the training set.
    seeds
        Other seeds that have to agree with the plan's; 0 does not ask.
    progress
        Of the audit.
    """

    def inspect(rows: TrainingSet) -> Sequence[Check]:
        checks: list[Check] = []
        if audit:
            start, _, _, end = plan.edges(as_of_ms)
            request = DatasetRequest(start, end, label_delay_ms=plan.label_delay_days * DAY, as_of_ms=as_of_ms)
            checks.append(leaks_checked(prove_rows(rows, lake, request, seed=plan.seed, progress=progress).as_data()))
        if parity is not None:
            checks.append(parity_checked(parity))
        if seeds:
            checks.append(seeds_agree(rows, plan, as_of_ms=as_of_ms, others=seeds))
        return checks

    return inspect
