"""Ctrl-C and SIGTERM, never lost: before anything is started they end the process, later they are remembered.

Python raises KeyboardInterrupt wherever the program stands, and what is raised in a callback of the interpreter (a weak
reference that dies, a lock of the import machinery, a finaliser) is printed and dropped. So while modules are imported
the handler ends the process itself, and from then on the wish is kept and asked for again at every step.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

INTERRUPTED: Final = 130
_asked: list[int] = []
_holding: list[None] = []


def leave_at_once() -> None:
    """Let both signals end the process: nothing has been started yet, and nothing heavy may be imported before."""
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)


def stop_in_order() -> None:
    """Let both signals raise KeyboardInterrupt, so that what has been started is stopped again."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)


def stop_if_asked() -> None:
    """Raise the interrupt again that was asked for and lost.

    Raises
    ------
    KeyboardInterrupt
        One of the two signals has come since ``stop_in_order``.
    """
    if _asked:
        raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold both signals back, so that what is started here is known to whoever stops it; then ask again.

    The one who asks is the caller, by :func:`stop_if_asked`, where it can stop what it has started.
    """
    _holding.append(None)
    try:
        yield
    finally:
        _holding.pop()


def end_interrupted() -> NoReturn:
    """Say so and end with code 130.

    The interpreter's own way out would kill the process by the signal instead, where the interrupt had passed through
    code made from a string, as that of every dataclass is.
    """
    sys.stdout.flush()
    sys.stderr.write("demo: stopped; everything it had started was stopped again\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)


def _leave(_signal: int, _frame: object) -> None:
    end_interrupted()


def _interrupt(number: int, _frame: object) -> None:
    _asked.append(number)
    if not _holding:
        raise KeyboardInterrupt
