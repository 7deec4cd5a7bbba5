"""Reading the decision log: JSON lines, one decision each, as the scorer writes them.

The log is the contract between the scorer and everybody who judges it later; only the fields that are needed here are
read, and a line that cannot be read is reported with its file and number.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fraud.features import FEATURE_NAMES
from fraud.windows import ENTITIES, Entity
from monitoring.errors import UnreadableDecisionLog

UNSEEN = -1


@dataclass(frozen=True)
class Logged:
    """One decision as the log holds it.

    Parameters
    ----------
    decision_id, transaction_id, event_time_ms
        Which decision, about what, as of when.
    outcome, score
        What was answered.
    vector
        The exact inputs, shape ``(len(FEATURE_NAMES),)``, NaN for null.
    revisions
        Of each entity's state that was read; -1 where there was none.
    missing
        Views that could not be read.
    """

    decision_id: str
    transaction_id: str
    event_time_ms: int
    outcome: str
    score: float
    vector: npt.NDArray[np.float64]
    revisions: dict[Entity, int]
    missing: tuple[str, ...]


class _Line(msgspec.Struct):
    decision_id: str
    outcome: str
    score: float
    vector: bytes
    revisions: dict[str, int | None]
    missing: tuple[str, ...]
    transaction: dict[str, Any]


_decoder = msgspec.json.Decoder(_Line)


def read_decisions(folder: Path) -> Iterator[Logged]:
    """Yield every decision in a folder of logs, file by file in the order of their names.

    Raises
    ------
    UnreadableDecisionLog
        A line is no decision of this feature contract.
    """
    for path in sorted(folder.rglob("*.jsonl")):
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                held = _decoder.decode(line)
                vector = np.frombuffer(held.vector, "<f8").copy()
                moment = int(held.transaction["event_time_ms"])
                name = str(held.transaction["transaction_id"])
            except (msgspec.DecodeError, KeyError, ValueError) as error:
                raise UnreadableDecisionLog(f"{path} line {number} is no decision: {error}") from None
            if len(vector) != len(FEATURE_NAMES):
                raise UnreadableDecisionLog(
                    f"{path} line {number} has {len(vector)} features, this version has {len(FEATURE_NAMES)}"
                )
            revisions: dict[Entity, int] = {
                entity: UNSEEN if (read := held.revisions.get(entity)) is None else read for entity in ENTITIES
            }
            yield Logged(held.decision_id, name, moment, held.outcome, held.score, vector, revisions, held.missing)
