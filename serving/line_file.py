"""Lines of JSON in files that are closed when they are large or old: how the decision log and the shadow keep theirs.

A file is locked as long as it is written. A disk that refuses leaves no torn line behind, and when the disk's share is
used up the oldest file that nobody writes goes.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

FILE_BYTES: Final = 64 << 20
FILE_AGE_S: Final = 3600.0
SUFFIX: Final = ".jsonl"


class LineFile:
    """Writes whole lines into files of one directory; used by one thread.

    Parameters
    ----------
    directory
        Where the files go; made by :meth:`start`.
    name
        What the files' names begin with.
    most_bytes
        Kept on disk.
    lost
        Told how many lines were deleted to make room.
    """

    def __init__(self, directory: Path, name: str, *, most_bytes: int, lost: Callable[[int], None]) -> None:
        self._directory = directory
        self._name = name
        self._most_bytes = most_bytes
        self._lost = lost
        self._file = -1
        self._size = 0
        self._opened_at = 0.0
        self._files = 0

    def start(self) -> None:
        """Make the directory and open the first file.

        Raises
        ------
        OSError
            The directory cannot be made or written.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self._open()

    def close(self) -> None:
        """Close the file that is written."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def write(self, lines: bytes) -> None:
        """Write whole lines, all or none.

        Raises
        ------
        OSError
            The disk refused them.
        """
        too_old = time.monotonic() - self._opened_at > FILE_AGE_S
        if self._file < 0 or self._size + len(lines) > FILE_BYTES or too_old:
            self._open()
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)  # no torn line stays behind
            raise
        self._size += len(lines)

    def _open(self) -> None:
        self.close()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._files += 1
        path = self._directory / f"{self._name}-{stamp}-{os.getpid()}-{self._files:04d}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # says that it is being written
        self._size = os.fstat(self._file).st_size
        self._opened_at = time.monotonic()
        self._make_room()

    def _make_room(self) -> None:
        """Delete the oldest files until the rest, and a file to come, fit into the disk's share."""
        files = self._sized()
        size = sum(held for _, held in files) + FILE_BYTES
        for path, held in files[:-1]:
            if size <= self._most_bytes:
                return
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    lines = sum(1 for _ in file)
                    path.unlink()
            except OSError:
                continue  # another process writes it, or has deleted it
            size -= held
            self._lost(lines)

    def _sized(self) -> list[tuple[Path, int]]:
        """Return the files, oldest first, with their sizes, without those that another process deletes meanwhile."""
        found = []
        for path in sorted(self._directory.glob(f"{self._name}-*{SUFFIX}")):
            with contextlib.suppress(FileNotFoundError):
                found.append((path, path.stat().st_size))
        return found
