"""A world of card payments, from one seed: transactions, the labels that reach us, and the truth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulation.attacks import fraud_budget, fraud_rows
from simulation.config import WorldConfig
from simulation.labels import draw_labels
from simulation.legitimate import honest_rows
from simulation.randomness import stream
from simulation.rows import concatenate
from simulation.scene import set_scene
from simulation.tables import identify_rows, labels_table, transaction_ids, transactions_table, truth_table

__all__ = ["World", "WorldConfig", "fraud_counts", "generate"]

STAGES = ("cards and merchants", "honest traffic", "fraud", "labels", "tables")


@dataclass(frozen=True)
class World:
    """One generated world.

    Attributes
    ----------
    config
        What it was made from.
    transactions
        The transaction log, sorted by (event_timestamp, transaction_id).
    labels
        Statements about transactions in order of arrival; some arrive after the last day.
    truth
        Whether each transaction is fraud, and of which type, in the order of ``transactions``; never a model input.
    """

    config: WorldConfig
    transactions: pa.Table
    labels: pa.Table
    truth: pa.Table


def generate(config: WorldConfig, *, progress: Callable[[str], None] | None = None) -> World:
    """Generate the world of ``config``.

    Parameters
    ----------
    config
        Size, time and temper.
    progress
        Called with each of ``STAGES`` as it begins.
    """
    begin = progress or _silently
    begin(STAGES[0])
    scene = set_scene(config)
    begin(STAGES[1])
    honest = honest_rows(scene, fraud_rows=fraud_budget(scene))
    honest = honest.take(honest.time < config.end_ms)
    begin(STAGES[2])
    rows = concatenate([honest, fraud_rows(scene, honest)])
    rows = rows.take(np.argsort(rows.time, kind="stable"))
    begin(STAGES[3])
    statements = draw_labels(stream(config.seed, "labels"), rows)
    begin(STAGES[4])
    ids = transaction_ids(identify_rows(scene, rows.time))
    return World(
        config=config,
        transactions=transactions_table(scene, rows, ids),
        labels=labels_table(statements, ids),
        truth=truth_table(rows, ids),
    )


def fraud_counts(truth: pa.Table) -> dict[str, int]:
    """Return the number of transactions of each fraud type in ``truth``, by name of the type."""
    counts = pc.value_counts(truth["fraud_type"].drop_null())
    return dict(sorted((str(entry["values"]), int(entry["counts"])) for entry in counts.to_pylist()))


def _silently(_stage: str) -> None:
    """Report nothing."""
