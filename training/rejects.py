"""Rows that an import refused: each with its place and its reason, and never with a card number."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud.transaction import looks_like_card_number, masked

SCHEMA: Final = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("column", pa.string(), nullable=False),
        pa.field("field", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("value", pa.string()),
    ]
)
"""Of ``rejected.parquet``: row 1 is the first after the header; ``column`` is the source's, ``field`` the log's."""

FILE_NAME: Final = "rejected.parquet"
_EXCERPT: Final = 60
_HIDDEN: Final = frozenset({"card_id", "line"})
"""Fields whose values are described and never shown."""

_SEPARATED: Final = re.compile(r"\d(?:[ ._/,:-]?\d){11,18}")
"""Digits with single signs between them: what a card number may look like in a column that was mapped by mistake."""


@dataclass(frozen=True)
class Refusal:
    """Why a row was refused.

    Parameters
    ----------
    row
        Its number in the file.
    column, field
        The source's column or columns, and the field of the log they were to become.
    reason
        One of few, so that it can be counted.
    value
        What stood there; null for nothing.
    """

    row: int
    column: str
    field: str
    reason: str
    value: str | None


@dataclass(frozen=True, order=True)
class RejectCount:
    """How many rows one column was refused for one reason, with an example's value and place."""

    rows: int
    column: str
    reason: str
    example: str
    at: str


class RejectWriter:
    """Writes refusals as they come and counts them.

    Parameters
    ----------
    folder
        Gets ``rejected.parquet``, empty when nothing was refused.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = pq.ParquetWriter(folder / FILE_NAME, SCHEMA, compression="zstd")
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], tuple[str, str]] = {}

    def add(self, file: str, refusals: Sequence[Refusal]) -> None:
        """Write down some refused rows of a file, in the order of their rows."""
        if not refusals:
            return
        ordered = sorted(refusals, key=lambda refusal: refusal.row)
        shown = [excerpt(refusal.field, refusal.value) for refusal in ordered]
        columns: dict[str, Any] = {name: [getattr(one, name) for one in ordered] for name in SCHEMA.names[1:-1]}
        table = pa.table({"file": [file] * len(ordered)} | columns | {"value": shown}, schema=SCHEMA)
        self._writer.write_table(table)
        for refusal, value in zip(ordered, shown, strict=True):
            kind = refusal.column, refusal.reason
            self._counts[kind] += 1
            self._examples.setdefault(kind, (value or "", f"{Path(file).name}:{refusal.row}"))

    @property
    def total(self) -> int:
        """Rows refused so far."""
        return self._counts.total()

    def counts(self) -> tuple[RejectCount, ...]:
        """Return how often each reason was met, the commonest first."""
        return tuple(
            RejectCount(rows, *kind, *self._examples[kind])
            for kind, rows in sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        )

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def excerpt(field: str, value: str | None) -> str | None:
    """Return what may be shown of a value: of a card only how long it is, of others no card number within.

    Examples
    --------
    >>> excerpt("card_id", "4111111111111111"), excerpt("merchant_id", "m 4111111111111111"), excerpt("amount", None)
    ('16 characters', 'm ********', None)
    """
    if value is None:
        return None
    if field in _HIDDEN:
        return f"{len(value)} characters"
    return _SEPARATED.sub(_hidden, masked(value))[:_EXCERPT]


def _hidden(run: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", run[0])
    return "********" if looks_like_card_number(digits) else run[0]


def shown(column: Any) -> list[str | None]:
    """Return some values as texts."""
    if pa.types.is_temporal(column.type):
        return [None if value is None else str(value) for value in column.to_pylist()]
    texts: list[str | None] = pc.cast(column, pa.string()).to_pylist()
    return texts
