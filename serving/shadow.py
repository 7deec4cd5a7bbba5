"""The shadow: a challenger that scores live traffic from the vectors read for the champion, and decides nothing.

A decision is handed over after it was made; a thread of its own scores it again, counts it and writes both scores
down. The queue is bounded and what it does not take is lost, counted and never waited for, so the shadow can cost an
answer nothing but processor time. It comes and goes with the bundle in its directory, and runs as long as that stays.
"""

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final

import msgspec

from fraud.policy import Outcome
from serving.decisions import SUFFIX, Made
from serving.logs import Seldom
from serving.metrics import Metrics
from serving.model import Model
from serving.reload import Reloader
from stores.bundle_files import read_manifest

SCHEMA: Final = 1
FOLDER: Final = "shadow"
"""In the decision log's directory."""

QUEUE_LENGTH: Final = 5000
BATCH: Final = 64
PAUSE_S: Final = 0.05
FILE_AGE_S: Final = 3600.0


class ShadowDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One line: what the champion decided, and what the challenger would have; ``decision_id`` leads to the vector."""

    schema: int = SCHEMA
    decision_id: str
    transaction_id: str
    decided_at_ms: int
    amount_minor: int
    champion_version: str
    champion_score: float
    champion_outcome: Outcome
    challenger_version: str
    challenger_score: float
    challenger_outcome: Outcome


class Shadow:
    """Scores what :meth:`offer` is given with the bundle in ``directory``; without one it does nothing.

    Parameters
    ----------
    log
        Directory of the decision log; null writes nothing down and only counts.
    """

    def __init__(self, directory: Path, *, log: Path | None, metrics: Metrics) -> None:
        self.model: Model | None = None
        self._directory = directory
        self._log = log / FOLDER if log is not None else None
        self._metrics = metrics
        self._reloader = Reloader(directory, serving="", take=self._take, metrics=Metrics())
        self._queue: deque[Made] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._seldom = Seldom()
        self._file = -1
        self._opened_at = 0.0
        self._files = 0
        self._encoder = msgspec.json.Encoder()
        self.overflowed = 0

    def start(self) -> None:
        """Start scoring and looking for bundles.

        Raises
        ------
        OSError
            The decision log's directory cannot be written.
        """
        if self._log is not None:
            self._log.mkdir(parents=True, exist_ok=True)
        self._reloader.start()
        self._thread.start()

    def offer(self, made: Made) -> None:
        """Take a decision that was just made, or count it lost when the queue is full; never waits."""
        if self.model is None:
            return
        if len(self._queue) >= QUEUE_LENGTH:
            self.overflowed += 1
            return
        self._queue.append(made)

    def close(self) -> None:
        """Score what is left and stop."""
        self._reloader.close()
        self._stop.set()
        self._thread.join()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self, model: Model) -> None:
        self.model = model

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S):
            self._flush_safely()
        self._flush_safely()

    def _flush_safely(self) -> None:
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001  # the outermost loop of this thread: it must not end
            self._seldom.warn("shadow_failed", error=type(error).__name__)

    def flush(self) -> None:
        """Score what is queued; a bundle that is gone ends the shadow, a disk that refuses costs these lines."""
        if self.model is not None and read_manifest(self._directory) is None:
            self.model = None
            self._reloader.forget()
        if self.overflowed:
            lost, self.overflowed = self.overflowed, 0
            self._metrics.shadow_lost.add(count=lost)
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            model = self.model
            if model is not None:
                self._write([self._decide(made, model) for made in batch])

    def _decide(self, made: Made, model: Model) -> ShadowDecision:
        decision = made.decision
        policy = model.bundle.policy
        scoring = model.scoring(made.online.unread, behind=decision.tier == "no_velocity")
        score = scoring.score(scoring.row(made.vector))
        segment = policy.segment(made.transaction, scoring.tier) if policy.segments else None
        outcome = policy.outcome(score, degraded=bool(decision.missing), tier=scoring.tier, segment=segment)
        version = model.bundle.version
        self._metrics.shadow_scores.add(score, (version,))
        self._metrics.shadow_decisions.add((version, decision.scored_outcome or decision.outcome, outcome))
        return ShadowDecision(
            decision_id=decision.decision_id,
            transaction_id=decision.transaction_id,
            decided_at_ms=made.decided_at_ms,
            amount_minor=made.transaction.amount_minor,
            champion_version=decision.model_version,
            champion_score=decision.score,
            champion_outcome=decision.scored_outcome or decision.outcome,
            challenger_version=version,
            challenger_score=score,
            challenger_outcome=outcome,
        )

    def _write(self, lines: list[ShadowDecision]) -> None:
        if self._log is None:
            return
        try:
            if self._file < 0 or time.monotonic() - self._opened_at > FILE_AGE_S:
                self._open(self._log)
            os.write(self._file, b"".join(self._encoder.encode(line) + b"\n" for line in lines))
        except OSError as error:
            self._metrics.shadow_lost.add(count=len(lines))
            self._seldom.warn("shadow_lost", count=len(lines), reason=error.strerror or type(error).__name__)

    def _open(self, folder: Path) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._files += 1
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = folder / f"shadow-{stamp}-{os.getpid()}-{self._files:04d}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._opened_at = time.monotonic()
