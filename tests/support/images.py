"""Running a part of an image as a container runs it: the cache of kernels read-only, another user, nothing compiled."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOBODY = 65_534
COUNT = """
import gc, json, os, runpy, sys
from numba.core.dispatcher import Dispatcher
for script in sys.argv[1:]:
    runpy.run_path(script, run_name="__main__")
gc.unfreeze()  # what a script has frozen is not among the objects
kernels = [found for found in gc.get_objects() if isinstance(found, Dispatcher)]
misses = {kernel.__name__: sum(kernel.stats.cache_misses.values()) for kernel in kernels}
print(json.dumps({
    "user": os.getuid(),
    "cached": sum(sum(kernel.stats.cache_hits.values()) for kernel in kernels),
    "compiled": sorted(name for name, count in misses.items() if count),
    "folder": __import__("numba").config.CACHE_DIR,
}))
"""
"""Runs scripts and says which kernels were compiled and how many were found in the cache, by Numba's own count."""


def other_user() -> Sequence[str]:
    """Return what runs a command as a user who may read everything and write nothing of ours; empty when we may not.

    That user keeps the right to read, since the interpreter of a test may lie in a home folder.
    """
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        return ()
    rights = [
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
    ]
    return ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *rights)


@contextmanager
def two_folders() -> Iterator[tuple[Path, Path]]:
    """Yield a folder for the image's cache and a temporary one of the other user's, both where everybody may go."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        theirs = Path(name) / "tmp"
        theirs.mkdir()
        os.chown(theirs, NOBODY, NOBODY)
        yield Path(name) / "numba", theirs


def close_to_writing(folder: Path) -> None:
    """Do what the Dockerfile does with the cache, and then let nobody write there."""
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)


def count_kernels(
    python: Path, environment: Mapping[str, str], scripts: Sequence[Path], *, prefix: Sequence[str] = ()
) -> dict[str, Any]:
    """Run scripts in a fresh interpreter and return :data:`COUNT`'s account."""
    command = [*prefix, str(python), "-c", COUNT, *map(str, scripts)]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by their paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
