"""Changing a file of lists: one writer at a time, and readers see the file before or after, never in between."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from serving.lists import (
    Listed,
    ListEntry,
    ListName,
    check_entry,
    encode_entries,
    list_files,
    read_entries,
    with_entry,
    without_entry,
)

OWN_FILE: Final = "entries.json"
"""The file of a folder that is written; the others are other people's."""


class ListFiles:
    """A file or folder of lists, to be shown and changed.

    Parameters
    ----------
    place
        Entries go to a folder's ``OWN_FILE``.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._own = place / OWN_FILE if place.is_dir() else place

    def entries(self) -> list[ListEntry]:
        """Return the entries of all files; see :func:`serving.lists.read_entries`."""
        return [entry for path in list_files(self._place) for entry in read_entries(path)]

    def add(self, entry: ListEntry) -> bool:
        """See :func:`add_entry`."""
        return add_entry(self._own, entry)

    def remove(self, entity: Listed, key: str, name: ListName) -> bool:
        """See :func:`remove_entry`."""
        return remove_entry(self._own, entity, key, name)


def add_entry(path: Path, entry: ListEntry) -> bool:
    """Add an entry in place of the one for the same key on the same list; return whether there was one.

    Raises
    ------
    InvalidList
        The entry is none, or the file is malformed (it is left as it is).
    """
    check_entry(entry)
    with _locked(path):
        entries = _entries(path)
        changed = with_entry(entries, entry)
        _write(path, changed)
    return len(changed) <= len(entries)


def remove_entry(path: Path, entity: Listed, key: str, name: ListName) -> bool:
    """Remove the entry for a key on a list; return whether there was one.

    Raises
    ------
    InvalidList
        The file is malformed (it is left as it is).
    """
    with _locked(path):
        entries = _entries(path)
        kept = without_entry(entries, entity, key, name)
        if len(kept) < len(entries):
            _write(path, kept)
        return len(kept) < len(entries)


def _entries(path: Path) -> tuple[ListEntry, ...]:
    return read_entries(path) if path.exists() else ()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock beside the file; a second writer waits for its turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(path: Path, entries: tuple[ListEntry, ...]) -> None:
    number, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(encode_entries(entries))
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o640)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
