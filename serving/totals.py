"""The metrics of all workers as one text: whoever of them is asked answers for all.

Each worker leaves its own text in memory that all share, once a second, and adds to it what the workers before it in
its place had counted: a counter does not fall when a worker is replaced. Counters and histograms are summed; of a gauge
the highest value of any worker is shown, so a breaker that is open anywhere is seen.
"""

import fcntl
import os
import struct
from collections.abc import Callable, Iterable
from typing import Final

PUBLISH_S: Final = 1.0
_LENGTH: Final = struct.Struct("<Q")


class Totals:
    """Shared by the parent and its workers; made before the first of them.

    Parameters
    ----------
    places
        How many workers there are at a time.
    """

    def __init__(self, places: int) -> None:
        self._files = [os.memfd_create(f"tollgate-metrics-{place}") for place in range(places)]

    def of_worker(self, place: int, render: Callable[[], bytes]) -> "WorkerTotals":
        """Return what a worker that begins in ``place`` shows; ``render`` gives its own metrics."""
        return WorkerTotals(self._files, place, render)


class WorkerTotals:
    """One worker's view of the totals."""

    def __init__(self, files: list[int], place: int, render: Callable[[], bytes]) -> None:
        self._files = files
        self._place = place
        self._render = render
        self._before = without_gauges(_read(files[place]))

    def publish(self) -> None:
        """Leave this worker's metrics where the others find them."""
        _write(self._files[self._place], self._own())

    def render(self) -> bytes:
        """Return the metrics of all workers: this one's as they are now, the others' as of a second ago at most."""
        others = [_read(file) for place, file in enumerate(self._files) if place != self._place]
        return merge([self._own(), *others])

    def _own(self) -> bytes:
        return merge([self._render(), self._before])


def merge(texts: Iterable[bytes]) -> bytes:
    r"""Return one text in Prometheus' format out of several.

    Examples
    --------
    >>> one = b"# HELP a A.\n# TYPE a counter\na{b=\"1\"} 2\n# HELP g G.\n# TYPE g gauge\ng 1\n"
    >>> two = b"# HELP a A.\n# TYPE a counter\na{b=\"1\"} 3\na{b=\"2\"} 1\n# HELP g G.\n# TYPE g gauge\ng 0\n"
    >>> [line for line in merge([one, two]).decode().splitlines() if not line.startswith("#")]
    ['a{b="1"} 5', 'a{b="2"} 1', 'g 1']
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, dict[str, float]] = {}
    name, gauge = "", False
    for text in texts:
        for line in text.decode().splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                heads.setdefault(name, [line])
                samples.setdefault(name, {})
            elif line.startswith("# TYPE "):
                gauge = line.endswith(" gauge")
                if len(heads[name]) == 1:
                    heads[name].append(line)
            else:
                key, _, value = line.rpartition(" ")
                known = samples[name].get(key, 0.0)
                samples[name][key] = max(known, float(value)) if gauge else known + float(value)
    lines = [line for name, head in heads.items() for line in (*head, *_lines(samples[name]))]
    return "\n".join(lines).encode() + b"\n" if lines else b""


def without_gauges(text: bytes) -> bytes:
    """Return what of a text outlives the worker that wrote it."""
    kept: list[str] = []
    held, gauge = "", False
    for line in text.decode().splitlines():
        if line.startswith("# HELP "):
            held = line
        elif line.startswith("# TYPE "):
            gauge = line.endswith(" gauge")
            kept += [] if gauge else [held, line]
        elif not gauge:
            kept.append(line)
    return "\n".join(kept).encode() + b"\n" if kept else b""


def _lines(samples: dict[str, float]) -> list[str]:
    return [f"{key} {value:.15g}" for key, value in samples.items()]


def _write(file: int, text: bytes) -> None:
    fcntl.lockf(file, fcntl.LOCK_EX)
    try:
        os.pwrite(file, _LENGTH.pack(len(text)) + text, 0)
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN)


def _read(file: int) -> bytes:
    fcntl.lockf(file, fcntl.LOCK_SH)
    try:
        head = os.pread(file, _LENGTH.size, 0)
        return os.pread(file, _LENGTH.unpack(head)[0], _LENGTH.size) if head else b""
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN)
