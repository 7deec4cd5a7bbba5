"""A model bundle on disk: written whole or not at all, read as the named bytes that :mod:`fraud.bundle` verifies.

A directory never changes once it has its name. A new model is a new directory, and a symbolic link swapped to it in one
step is how a running scorer is given it.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fraud.bundle import FILES, MANIFEST
from fraud.errors import CorruptBundle
from fraud.fallback import FALLBACK_FILES

MAX_FILE_BYTES: Final = 1 << 30
"""Largest file read: a model of a thousand deep trees is some tens of megabytes."""


def write_bundle(files: Mapping[str, bytes], directory: Path) -> Path:
    """Write ``files`` into the new ``directory`` and return it; writing the same bundle again changes nothing.

    The files are written beside it, flushed to disk and renamed, so that nobody ever sees half a bundle.

    Raises
    ------
    CorruptBundle
        ``directory`` already holds something else.
    """
    if directory.exists():
        if MANIFEST in files and read_manifest(directory) == files[MANIFEST]:
            return directory
        raise CorruptBundle(f"{directory} already holds something else; a bundle is never changed in place")
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        for name, content in files.items():
            with (draft / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        draft.chmod(0o755)
        draft.rename(directory)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return directory


def read_bundle(directory: Path) -> dict[str, bytes]:
    """Return the files of the bundle in ``directory`` (or in what it links to), not yet verified.

    Raises
    ------
    CorruptBundle
        There is no such directory, or a file of it is missing, unreadable or absurdly large.
    """
    place = Path(os.path.realpath(directory))  # once: a link swapped meanwhile must not mix two bundles
    if not place.is_dir():
        raise CorruptBundle(f"model directory {directory} does not exist")
    files = {}
    for name in (MANIFEST, *FILES, *(name for name in FALLBACK_FILES if (place / name).exists())):
        path = place / name
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise CorruptBundle(f"{name} in {directory} is larger than {MAX_FILE_BYTES} bytes")
            files[name] = path.read_bytes()
        except OSError as error:
            raise CorruptBundle(f"{name} in {directory} cannot be read: {error.strerror}") from None
    return files


def read_manifest(directory: Path) -> bytes | None:
    """Return the manifest of the bundle in ``directory``, null when there is none; cheap enough to poll."""
    try:
        return (directory / MANIFEST).read_bytes()
    except OSError:
        return None


def point_to(link: Path, directory: Path) -> None:
    """Make the symbolic link ``link`` point to ``directory``, in one step that no reader can see half of."""
    link.parent.mkdir(parents=True, exist_ok=True)
    draft = link.parent / f".{link.name}-{os.getpid()}"
    draft.unlink(missing_ok=True)
    draft.symlink_to(directory.resolve(), target_is_directory=True)
    draft.replace(link)
