"""A training set between two steps that share no memory: a folder of one matrix, one table and one description.

What is read is what was written, bit for bit, so that a step that runs in a container of its own gives the bundle that
the loop in one process gives.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retraining.label_facts import LabelFacts, facts_columns, facts_from
from training.dataset import TrainingSet
from training.errors import UnreadableSource

MATRIX: Final = "matrix.npy"
COLUMNS: Final = "columns.parquet"
ABOUT: Final = "about.json"
FACTS: Final = "facts.parquet"


def write_rows(rows: TrainingSet, folder: Path, about: Mapping[str, Any]) -> None:
    """Write a training set and, as plain data, what the next step has to know of it."""
    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for field in fields(rows):
        value = getattr(rows, field.name)
        if isinstance(value, np.ndarray) and value.ndim == 2:
            np.save(folder / MATRIX, value, allow_pickle=False)
        elif isinstance(value, np.ndarray | pa.Array):
            columns[field.name] = value
        else:
            plain[field.name] = value
    pq.write_table(pa.table(columns), folder / COLUMNS)
    (folder / ABOUT).write_text(json.dumps({"rows": plain, "about": dict(about)}), encoding="utf-8")


def read_rows(folder: Path) -> tuple[TrainingSet, dict[str, Any]]:
    """Return a training set and what was written beside it.

    Raises
    ------
    UnreadableSource
        A file is missing or is not what :func:`write_rows` wrote.
    """
    try:
        text = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        table = pq.read_table(folder / COLUMNS)
        matrix = np.load(folder / MATRIX, allow_pickle=False)
        plain = text["rows"]
        columns: dict[str, Any] = {
            name: table[name].combine_chunks() if name == "transaction_id" else table[name].to_numpy()
            for name in table.column_names
        }
        rows = TrainingSet(**columns, matrix=matrix, **(plain | {"features": tuple(plain["features"])}))
        return rows, text["about"]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise UnreadableSource(f"{folder} holds no training set of the step before: {error}") from None


def write_facts(facts: LabelFacts, folder: Path) -> None:
    """Write what the labels say of the rows in the same folder."""
    table = pa.table(facts_columns(facts))
    pq.write_table(table.replace_schema_metadata({"arrived": json.dumps(facts.arrived)}), folder / FACTS)


def read_facts(folder: Path) -> LabelFacts:
    """Return what :func:`write_facts` wrote.

    Raises
    ------
    UnreadableSource
        It is not there, or is something else.
    """
    try:
        table = pq.read_table(folder / FACTS)
        return facts_from(table, json.loads((table.schema.metadata or {})[b"arrived"]))
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise UnreadableSource(f"{folder} holds no facts of the step before: {error}") from None
