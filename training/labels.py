"""Labels as they were known at a time: settled by the stated order of sources, column-wise.

The rules are :func:`fraud.label.settle`'s; this is their vectorised form for whole training sets.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud.label import PRECEDENCE
from stores.files import Location, Span, read_files
from training.errors import UnreadableSource
from training.transaction_log import LABELS_SCHEMA, refuse_address

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Settled:
    """What is known of each transaction: equally long columns.

    ``is_fraud`` is false where nobody said otherwise; ``labelled`` says whether anybody spoke.
    """

    is_fraud: BoolArray
    labelled: BoolArray


def read_labels(lake: Path) -> pa.Table:
    """Return the statements in a lake.

    Raises
    ------
    UnreadableSource
        There is no ``labels.parquet`` (:mod:`training.errors`); or it is broken, lacks a column, has one in another
        type or a null where none may be (:mod:`stores.errors`); the message names file and column.
    """
    refuse_address(lake)
    path = lake / "labels.parquet"
    if not path.exists():
        raise UnreadableSource(f"{path} is missing: generate or import a data set first")
    names, moment = LABELS_SCHEMA.names, "created_timestamp"
    statements: pa.Table = read_files(Location(str(path)), names, moment, Span(), declared=LABELS_SCHEMA)
    return statements


def settle_labels(statements: pa.Table, transaction_ids: pa.Array, *, as_of_ms: int) -> Settled:
    """Return what the statements that had arrived by ``as_of_ms`` say of each transaction.

    Parameters
    ----------
    statements
        Table of ``labels.parquet``.
    transaction_ids
        Shape ``(n,)``, text.
    as_of_ms
        Epoch ms; later arrivals are not known.

    Raises
    ------
    UnreadableSource
        A statement's source has no place in the order of sources.
    """
    known = statements.filter(pc.less_equal(statements["created_timestamp"].cast(pa.int64()), as_of_ms * 1000))
    rank = pc.index_in(known["source"], pa.array(PRECEDENCE))
    if rank.null_count:
        unknown = known["source"].filter(pc.is_null(rank))[0].as_py()
        raise UnreadableSource(f"label source {unknown!r} is none of {', '.join(PRECEDENCE)}")
    ordered = known.append_column("rank", rank).sort_by(
        [
            ("transaction_id", "ascending"),
            ("rank", "ascending"),
            ("created_timestamp", "descending"),
            ("event_timestamp", "descending"),
            ("is_fraud", "descending"),
        ]
    )
    ids = ordered["transaction_id"].combine_chunks()
    first = np.ones(len(ids), np.bool_)
    if len(ids) > 1:
        first[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    kept = ordered.filter(pa.array(first))
    place = pc.index_in(transaction_ids, kept["transaction_id"].combine_chunks())
    labelled = place.is_valid().to_numpy(zero_copy_only=False)
    said = kept["is_fraud"].to_numpy(zero_copy_only=False) if len(kept) else np.zeros(0, np.bool_)
    is_fraud = np.zeros(len(labelled), np.bool_)
    is_fraud[labelled] = said[place.drop_null().to_numpy(zero_copy_only=False)]
    return Settled(is_fraud, labelled)


def read_truth(lake: Path) -> pa.Table | None:
    """Return the truth of a simulated or benchmark data set; null where nobody knows it. Never a model input."""
    path = lake / "truth.parquet"
    return pq.read_table(path) if path.exists() else None
