"""Changing a file of lists: one writer at a time, and readers see the file before or after, never in between."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from serving.lists import FORMAT, ListDocument, Listed, ListEntry, ListName, check_entry, read_entries


def add_entry(path: Path, entry: ListEntry) -> bool:
    """Add an entry in place of the one for the same key on the same list; return whether there was one.

    Raises
    ------
    InvalidList
        The entry is none, or the file is malformed (it is left as it is).
    """
    check_entry(entry)
    with _locked(path):
        kept = _without(_entries(path), entry.entity, entry.key, entry.list)
        replaced = len(kept) < len(_entries(path))
        _write(path, (*kept, entry))
    return replaced


def remove_entry(path: Path, entity: Listed, key: str, name: ListName) -> bool:
    """Remove the entry for a key on a list; return whether there was one.

    Raises
    ------
    InvalidList
        The file is malformed (it is left as it is).
    """
    with _locked(path):
        entries = _entries(path)
        kept = _without(entries, entity, key, name)
        if len(kept) < len(entries):
            _write(path, kept)
        return len(kept) < len(entries)


def _entries(path: Path) -> tuple[ListEntry, ...]:
    return read_entries(path) if path.exists() else ()


def _without(entries: tuple[ListEntry, ...], entity: Listed, key: str, name: ListName) -> tuple[ListEntry, ...]:
    return tuple(e for e in entries if (e.entity, e.key, e.list) != (entity, key, name))


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
    content = msgspec.json.format(msgspec.json.encode(ListDocument(format=FORMAT, entries=entries)), indent=1)
    number, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o640)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
