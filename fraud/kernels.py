"""How kernels are compiled: by Numba, without the interpreter lock, cached on disk under a digest of all of this room.

Numba renews a cached kernel when the file that defines it changes, and knows nothing of the kernels and constants that
it took in from other files: a longer window in one module would leave another computing the old one. So the cache has
one folder per digest of the room's sources, and a stale kernel cannot be found. ``NUMBA_CACHE_DIR`` says where the
folders go; an image is built with it set and warmed, so that a container compiles nothing.
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


def _cache_folder() -> Path:
    """Return a folder that can be written: the one asked for, beside the sources, or this machine's temporary one."""
    asked = os.environ.get("NUMBA_CACHE_DIR")
    name = f"kernels-{sources_digest(ROOM)}"
    for base in (
        Path(asked) if asked else ROOM / "__pycache__",
        Path(tempfile.gettempdir()) / f"tollgate-{os.getuid()}",
    ):
        folder = base / name
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    return Path(tempfile.mkdtemp(prefix="tollgate-kernels-"))


config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]  # Numba makes its settings at run time


def kernel(function: Function) -> Function:
    """Compile a function of numbers and flat arrays."""
    compiled: Any = njit(cache=True, nogil=True)(function)
    return cast("Function", compiled)
