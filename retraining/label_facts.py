"""What the labels say of a training set beside which rows are fraud: blocked cards, types of fraud, maturity."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from retraining.limits import GateLimits
from retraining.verdict import Check, not_asked
from training.challenger import TrainingPlan
from training.compromised import unblocked
from training.dataset import TrainingSet
from training.errors import UnreadableSource
from training.labels import read_labels, read_truth
from training.maturity import estimate_maturity, fraud_delays
from training.ranking import BoolArray

TYPE: Final = "fraud_type"
"""A column that ``labels.parquet`` may have; where a data set knows its truth, the truth has it."""


@dataclass(frozen=True)
class LabelFacts:
    """Equally long columns, and one share.

    Parameters
    ----------
    unblocked
        Rows whose card was not known as compromised when they happened.
    fraud_type
        Text, empty where nobody knows; null where labels carry no type.
    arrived
        Share of the eventual labels that arrive within the label delay; null where too few tell.
    """

    unblocked: BoolArray
    fraud_type: npt.NDArray[np.object_] | None = None
    arrived: float | None = None


FindFacts = Callable[[TrainingSet], LabelFacts]
"""Called with a training set."""


def lake_facts(lake: Path, plan: TrainingPlan) -> FindFacts:
    """Return how the facts of a lake's training sets are found."""

    def find(rows: TrainingSet) -> LabelFacts:
        return label_facts(rows, read_labels(lake), plan, truth=read_truth(lake))

    return find


def label_facts(
    rows: TrainingSet, statements: pa.Table, plan: TrainingPlan, *, truth: pa.Table | None = None
) -> LabelFacts:
    """Return the facts of a training set as they were known at its time.

    Parameters
    ----------
    statements
        Table of ``labels.parquet``; later arrivals are not looked at.
    truth
        Table of ``truth.parquet``, for the types where the labels have none.
    """
    arrival_us = statements["created_timestamp"].cast(pa.int64())
    known = statements.filter(pc.less_equal(arrival_us, rows.as_of_ms * 1000))
    return LabelFacts(unblocked(rows, known), _types(rows, known, truth), _arrived(rows, known, plan.label_delay_days))


def labels_mature(facts: LabelFacts, plan: TrainingPlan, limits: GateLimits) -> Check:
    """Return the check that the label delay waits long enough."""
    name, days = "labels_mature", plan.label_delay_days
    if facts.arrived is None:
        return not_asked(name, f"{days} days, or too few labels to estimate how fast they arrive")
    return Check(
        name,
        facts.arrived >= limits.arrived,
        f"{facts.arrived:.0%} of the labels that arrive do so within the {days} days that the plan waits, "
        f"{limits.arrived:.0%} needed",
    )


def _types(rows: TrainingSet, known: pa.Table, truth: pa.Table | None) -> npt.NDArray[np.object_] | None:
    said = known if TYPE in known.column_names else truth
    if said is None or TYPE not in said.column_names:
        return None
    typed = said.filter(pc.is_valid(said[TYPE]))
    place = pc.index_in(rows.transaction_id, typed["transaction_id"].combine_chunks())
    names: list[Any] = pc.fill_null(typed[TYPE].cast(pa.string()).take(place), "").to_pylist()
    return np.asarray(names, object)


def _arrived(rows: TrainingSet, known: pa.Table, days: int) -> float | None:
    time_ms, delay_ms = fraud_delays(known, rows.transaction_id, rows.event_time_ms, as_of_ms=rows.as_of_ms)
    try:
        # A label that takes the very delay is there for every held-out row: those are older.
        curve = estimate_maturity(time_ms, np.maximum(delay_ms - 1, 0), as_of_ms=rows.as_of_ms, resamples=2)
    except UnreadableSource:
        return None
    return curve.share_at(float(days)) if days else None


def facts_columns(facts: LabelFacts) -> dict[str, Any]:
    """Return the columns that travel to another step; :func:`facts_from` reads them."""
    kinds = {} if facts.fraud_type is None else {TYPE: pa.array(facts.fraud_type.tolist(), pa.string())}
    return {"unblocked": facts.unblocked, **kinds}


def facts_from(table: pa.Table, arrived: float | None) -> LabelFacts:
    """Return the facts that :func:`facts_columns` wrote."""
    kinds = np.asarray(table[TYPE].to_pylist(), object) if TYPE in table.column_names else None
    return LabelFacts(table["unblocked"].to_numpy(), kinds, arrived)
