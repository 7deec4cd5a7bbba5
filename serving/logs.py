"""Structured logs: one JSON object a line on stderr, past-tense events, fixed fields, nothing personal.

No identifier of a transaction, card, merchant or device is ever a field here; the decision log is where those live.
"""

import logging
import sys
import time
import traceback
from typing import Any, Final

import msgspec

NAME: Final = "tollgate.serving"
_OURS: Final = frozenset({"fraud", "serving", "stores"})

_encoder = msgspec.json.Encoder(enc_hook=str)


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON; a record of a library becomes the event ``library_spoke``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = getattr(record, "fields", None) or {}
        ours = record.name == NAME
        line = {
            "time_ms": int(record.created * 1000),
            "level": record.levelname.lower(),
            "event": record.getMessage() if ours else "library_spoke",
            **fields,
        }
        if not ours:
            line |= {"library": record.name, "said": record.getMessage()}
        return _encoder.encode(line).decode()


def start_logging() -> None:
    """Send every log of the process to stderr as JSON lines."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [stream]
    root.setLevel(logging.WARNING)
    logging.getLogger(NAME).setLevel(logging.INFO)


def note(event: str, **fields: Any) -> None:
    """Log that ``event`` happened."""
    logging.getLogger(NAME).info(event, extra={"fields": fields})


def warn(event: str, **fields: Any) -> None:
    """Log that ``event`` happened and somebody should look at it."""
    logging.getLogger(NAME).warning(event, extra={"fields": fields})


def place_of(error: BaseException) -> str:
    """Return where in our own code an error was raised, or passed last: file and line, never a value.

    Examples
    --------
    >>> from fraud.policy import Policy
    >>> try:
    ...     Policy("p", review_at=2.0, decline_at=1.0)
    ... except Exception as error:
    ...     place_of(error).partition(":")[0]
    'fraud/policy.py'
    """
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] in _OURS:
            place = f"{name.replace('.', '/')}.py:{line}"
    return place


class Seldom:
    """Lets an event through at most once in ``pause_s`` seconds, so that an outage does not flood the log."""

    def __init__(self, pause_s: float = 10.0) -> None:
        self._pause_s = pause_s
        self._last: dict[str, float] = {}

    def warn(self, event: str, **fields: Any) -> None:
        """Log the event unless it was logged a moment ago."""
        now = time.monotonic()
        if now - self._last.get(event, -self._pause_s) >= self._pause_s:
            self._last[event] = now
            warn(event, **fields)
