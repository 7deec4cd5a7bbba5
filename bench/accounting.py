"""What the kernel says a process has used: processor time, and time in which it could run and was not let.

Linux counts both for every thread in nanoseconds (``/proc/PID/task/TID/schedstat``), so that the work of one request
can be read off, inside the process that did it and without touching its code.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Used:
    """Seconds: of the first thread, of the other threads, and of waiting for a processor by any of them."""

    first: float
    others: float
    waited: float

    def __sub__(self, before: "Used") -> "Used":
        """Return what was used since ``before``."""
        return Used(self.first - before.first, self.others - before.others, self.waited - before.waited)

    @property
    def all(self) -> float:
        """Processor time of every thread."""
        return self.first + self.others


def used(pid: int) -> Used:
    """Return what a process has used so far."""
    first = others = waited = 0.0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            ran, kept_waiting, _ = path.read_text(encoding="ascii").split()
        except OSError:  # the thread has ended
            continue
        waited += int(kept_waiting) / 1e9
        if path.parent.name == str(pid):
            first += int(ran) / 1e9
        else:
            others += int(ran) / 1e9
    return Used(first, others, waited)
