"""Structured logs on stderr: one JSON object a line, a past-tense event name, never a card, amount or key."""

import json
import sys
import time


def log(event: str, **fields: float | str | None) -> None:
    """Write one line: time, event name, fields."""
    line = {"time_ms": time.time_ns() // 1_000_000, "event": event, **fields}
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()
