"""Import of somebody else's data set into the transaction log."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from training.errors import UnknownFormat
from training.handbook import ImportReport, import_handbook
from training.transaction_log import Progress


def _handbook(source: Path, out: Path, label_delay_ms: int, progress: Progress) -> ImportReport:
    return import_handbook(source, out, progress, label_delay_ms=label_delay_ms)


FORMATS: Final[Mapping[str, Callable[[Path, Path, int, Progress], ImportReport]]] = MappingProxyType(
    {
        "handbook": _handbook,
    }
)
"""Formats that can be imported, by name."""


def import_transactions(
    format: str,  # noqa: A002  # the word that the command line uses
    source: Path,
    out: Path,
    *,
    label_delay_ms: int,
    progress: Progress,
) -> ImportReport:
    """Bring a data set into the transaction log's layout and return what was written.

    Parameters
    ----------
    format
        One of :data:`FORMATS`.
    source
        File of the data set.
    out
        Folder to write; must not exist, or be empty.
    label_delay_ms
        How long after its transaction a label arrives, for formats that carry no arrival time.
    progress
        Called with the rows written and the rows in all.

    Raises
    ------
    UnknownFormat
        Nothing here imports ``format``.
    UnreadableSource
        The source is missing, broken or lacks a column.
    UnwritableOutput
        The folder holds something already, or the disk refused.
    """
    importer = FORMATS.get(format)
    if importer is None:
        raise UnknownFormat(f"format {format!r} is unknown; known: {', '.join(sorted(FORMATS))}")
    return importer(source, out, label_delay_ms, progress)
