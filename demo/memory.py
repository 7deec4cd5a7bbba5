"""How much memory the demo takes: this process and everything it has started, together."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

EVERY_S: Final = 0.5


class MemoryWatch:
    """Looks at all processes of the demo twice a second from entering the block until it is left.

    ``peak_mb`` is the largest sum, over the processes alive at one moment, of the most that each had held until then
    (the kernel's own high-water marks, so nothing between two looks is missed). It is never below what they held
    together, and above it where their peaks did not coincide or where they share pages.
    """

    def __init__(self) -> None:
        self.peak_mb = 0
        self.by_process: Mapping[str, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self.look()
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Look a last time and end."""
        self._ended.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Take one look."""
        held = {f"{name(pid)} ({pid})": high_water_kb(pid) for pid in family(os.getpid())}
        total = round(sum(held.values()) / 1024)
        if total > self.peak_mb:
            self.peak_mb = total
            self.by_process = {process: round(kilobytes / 1024) for process, kilobytes in held.items() if kilobytes}

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.look()


def family(root: int) -> list[int]:
    """Return a process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent = _parent(entry)
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def high_water_kb(pid: int) -> int:
    """Return the most that a process has held in memory so far, kB; 0 for one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def name(pid: int) -> str:
    """Return what a person calls a process: the module it runs, or its program."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "ended"
    return words[words.index("-m") + 1] if "-m" in words[:-1] else Path(words[0]).name


def _parent(entry: Path) -> int:
    try:
        # the name in brackets may hold anything, a bracket and blanks too
        return int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0
