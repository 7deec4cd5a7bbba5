"""The files of a source, dealt out: held to each other by whoever has all of them, read one by one by others.

What :func:`stores.files.read_batches` does in one process, in two: :func:`deal_parts` checks what footers and names
tell of the whole, and every :class:`DealtPart`, which is small and can be pickled, checks its own rows while it reads
them. Types, refusals and their words are those of one machine, because the functions are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pds

from stores.errors import UnreadableSource
from stores.files import Location, Span, open_checked, scan_tables
from stores.parts import require_every_day, require_times


@dataclass(frozen=True)
class DealtPart:
    """One file of a source, to be read anywhere.

    Parameters
    ----------
    fragment
        The file, an Arrow fragment.
    schema
        Arrow schema of the whole source: this file's rows are read in its types.
    columns, time, declared
        As in :func:`stores.files.read_batches`.
    by_day
        Whether the file's folder says the UTC day of its rows.
    wanted
        Arrow filter of the rows, or null.
    """

    fragment: Any
    schema: Any
    columns: tuple[str, ...]
    time: str
    declared: Any
    by_day: bool
    wanted: Any = None

    def tables(self) -> Iterator[Any]:
        """Yield the rows wanted as Arrow tables of ``columns``, the first of them without rows.

        Raises
        ------
        UnreadableSource
            The file is broken, or holds a row without a time, of another day or with a null where none may be.
        """
        path = str(self.fragment.path)
        dataset = pds.FileSystemDataset([self.fragment], self.schema, self.fragment.format, self.fragment.filesystem)
        try:
            require_times(dataset, self.time, by_day=self.by_day)
        except (pa.ArrowException, OSError) as error:
            raise UnreadableSource(f"{path} cannot be read: {error}") from error
        yield from scan_tables(dataset, self.columns, self.wanted, path, declared=self.declared)


def deal_parts(
    location: Location, columns: Sequence[str], time: str, *, declared: Any, by_day: bool = False, wanted: Any = None
) -> list[DealtPart]:
    """Return the files of a source, at least one, in the order in which one machine reads them.

    Raises
    ------
    UnreadableSource
        Nothing there, a file whose footer is broken or that lacks a column or has it in another type, a day written
        otherwise than ``YYYY-MM-DD``, or a whole day that is missing between two busy ones.
    """
    dataset, _, kept_by_day = open_checked(location, (*columns, time), time, Span(by_day=by_day), declared)
    if kept_by_day:
        require_every_day(dataset, location.address)
    return [
        DealtPart(part, dataset.schema, tuple(columns), time, declared, kept_by_day, wanted)
        for part in dataset.get_fragments()
    ]
