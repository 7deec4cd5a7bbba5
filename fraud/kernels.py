"""How kernels are compiled: by Numba, without the interpreter lock, cached on disk under a digest of all of this room.

Numba renews a cached kernel when the file that defines it changes, and knows nothing of the kernels and constants that
it took in from other files: a longer window in one module would leave another computing the old one. So the cache has
one folder per digest of the room's sources, and a stale kernel cannot be found. ``NUMBA_CACHE_DIR`` says where the
folders go; an image is built with it set and warmed, so that a container compiles nothing, also as another user and
where the image is mounted read-only.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from numba import config, njit

Function = TypeVar("Function", bound=Callable[..., object])

ROOM: Final = Path(__file__).parent
OTHERS_MAY_WRITE: Final = 0o022


def sources_digest(folder: Path) -> str:
    """Return a digest of the Python sources in a folder: their names and contents.

    Examples
    --------
    >>> sources_digest(ROOM) == sources_digest(ROOM)
    True
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder(asked: str | None, temporary: Path) -> Path:
    """Return a folder of our own, which Numba can write to, with the kernels that are there already.

    The one asked for, or beside the sources; where that cannot be written (an image mounted read-only, another user's)
    a copy of it in the temporary folder: Numba ignores a cache that it cannot write to, and would compile anew.

    Parameters
    ----------
    asked
        ``NUMBA_CACHE_DIR``; null for beside the sources.
    temporary
        This machine's temporary folder.
    """
    name = f"kernels-{sources_digest(ROOM)}"
    first = (Path(asked) if asked else ROOM / "__pycache__") / name
    if _make_ours(first):
        return first
    second = temporary / f"tollgate-{os.getuid()}" / name
    if not second.exists() and _trusted(first):
        _copy(first, second)
    if _make_ours(second):
        return second
    return Path(tempfile.mkdtemp(prefix="tollgate-kernels-", dir=temporary))


def _make_ours(folder: Path) -> bool:
    """Make a folder if it is missing; return whether it belongs to us alone and can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
    except OSError:
        return False
    return os.access(folder, os.W_OK) and found.st_uid == os.getuid() and not found.st_mode & OTHERS_MAY_WRITE


def _trusted(folder: Path) -> bool:
    """Return whether nobody but root and us can have put kernels into a folder: they are code."""
    try:
        found = folder.stat()
    except OSError:
        return False
    return found.st_uid in (0, os.getuid()) and not found.st_mode & OTHERS_MAY_WRITE


def _copy(kernels: Path, into: Path) -> None:
    """Copy a folder so that it is there whole or not at all, also when several processes start at once."""
    try:
        into.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = Path(tempfile.mkdtemp(dir=into.parent))
        for path in kernels.rglob("*"):
            place = part / path.relative_to(kernels)
            if path.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(path.read_bytes())
        part.rename(into)
    except OSError:  # another process was faster, or there is no room: then kernels are compiled
        return


config.CACHE_DIR = str(cache_folder(os.environ.get("NUMBA_CACHE_DIR"), Path(tempfile.gettempdir())))  # type: ignore[attr-defined]  # made at run time


def kernel(function: Function) -> Function:
    """Compile a function of numbers and flat arrays."""
    compiled: Any = njit(cache=True, nogil=True)(function)
    return cast("Function", compiled)
