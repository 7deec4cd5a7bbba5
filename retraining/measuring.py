"""What is measured of a packed challenger before it is judged: does it open, how large is it, how fast."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from time import thread_time_ns

import numpy as np
import numpy.typing as npt

from fraud.bundle import ModelBundle
from fraud.errors import CorruptBundle
from fraud.trees import predict_margin
from retraining.held_out import PackedModel
from retraining.registry import ModelRegistry

TIMED_ROWS = 2000


@dataclass(frozen=True)
class Measured:
    """The measurements, and the challenger as the scorer opens it; null when it does not."""

    packed: PackedModel
    bundle: ModelBundle | None


def measure(registry: ModelRegistry, files: Mapping[str, bytes], matrix: npt.NDArray[np.float32]) -> Measured:
    """Keep the challenger's bundle, open it as the scorer does, and measure it on some rows."""
    size = sum(len(content) for content in files.values())
    try:
        bundle = registry.add(files)
    except CorruptBundle as error:
        return Measured(PackedModel(str(error), size, json.loads(files["provenance.json"])["trees"]), None)
    row_us = _row_us(bundle, matrix[:TIMED_ROWS].astype(np.float64))
    return Measured(PackedModel(None, size, len(bundle.forest.roots), row_us), bundle)


def _row_us(bundle: ModelBundle, rows: npt.NDArray[np.float64]) -> float | None:
    """Return the processor time of one row in the scorer's runtime, microseconds, best of three; null without rows."""
    if not len(rows):
        return None
    spent = []
    for _ in range(3):
        started = thread_time_ns()
        for row in rows:
            predict_margin(bundle.forest, row)
        spent.append(thread_time_ns() - started)
    return min(spent) / len(rows) / 1000
