"""Logged decisions as rows to judge a policy by: one per transaction, the first that was made on it.

They are read as the scorer logs them, JSON lines, or as the delivery stream's Parquet, in any folders below one. A
transaction that was asked about again has several decisions, and a batch that was delivered twice holds one several
times; only the first was acted on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from training.errors import UnreadableSource

_LINES: Final = "*.jsonl"
_SHADOW: Final = "shadow"
_COLUMNS: Final = ("decided_at_ms", "outcome", "propensity", "policy_version", "transaction")


class _Paid(msgspec.Struct):
    transaction_id: str
    event_time_ms: int


class _Made(msgspec.Struct):
    decided_at_ms: int
    outcome: str
    policy_version: str
    transaction: _Paid
    propensity: float | None = 1.0


_lines: Final = msgspec.json.Decoder(_Made)


@dataclass(frozen=True)
class DecisionRows:
    """Decisions, each column of shape ``(n,)``.

    Parameters
    ----------
    transaction_id, event_time_ms
        Of the transaction decided on.
    outcome, propensity, policy_version
        As logged.
    repeated
        Decisions left out because an earlier one was made on the same transaction.
    """

    transaction_id: npt.NDArray[np.str_]
    event_time_ms: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.str_]
    propensity: npt.NDArray[np.float64]
    policy_version: npt.NDArray[np.str_]
    repeated: int


def read_decision_rows(place: Path) -> DecisionRows:
    """Return the first decision on each transaction, in the order of their times.

    Parameters
    ----------
    place
        A file of JSON lines or Parquet, or a folder with some in it or below; a shadow's own log is passed over.

    Raises
    ------
    UnreadableSource
        There is none, or a line or file holds no decisions.
    """
    first: dict[str, _Made] = {}
    count = 0
    for path in _files(place):
        for made in _read(path):
            count += 1
            known = first.get(made.transaction.transaction_id)
            if known is None or made.decided_at_ms < known.decided_at_ms:
                first[made.transaction.transaction_id] = made
    rows = sorted(first.values(), key=lambda made: (made.decided_at_ms, made.transaction.transaction_id))
    return DecisionRows(
        np.array([made.transaction.transaction_id for made in rows], np.str_),
        np.array([made.transaction.event_time_ms for made in rows], np.int64),
        np.array([made.outcome for made in rows], np.str_),
        np.array([1.0 if made.propensity is None else made.propensity for made in rows], np.float64),
        np.array([made.policy_version for made in rows], np.str_),
        count - len(rows),
    )


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = [path for pattern in (_LINES, "*.parquet") for path in place.rglob(pattern) if path.parent.name != _SHADOW]
    if not found:
        raise UnreadableSource(f"{place} holds no decisions: neither {_LINES} nor Parquet files")
    return sorted(found)


def _read(path: Path) -> Iterator[_Made]:
    if path.suffix != ".jsonl":
        try:
            for batch in pq.ParquetFile(path).iter_batches(columns=list(_COLUMNS)):
                yield from (msgspec.convert(row, _Made) for row in batch.to_pylist())
        except (pa.ArrowException, msgspec.ValidationError) as error:
            raise UnreadableSource(f"{path} holds no decisions: {error}") from None
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield _lines.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise UnreadableSource(f"{path} line {number} is no decision: {error}") from None
