"""The shadow: a challenger that scores live traffic from the vectors read for the champion, and decides nothing.

A decision is handed over after it was made; a thread of its own scores it again, counts it and writes both scores
down. The queue is bounded and what it does not take is lost, counted and never waited for, so the shadow can cost an
answer nothing but processor time. It comes and goes with the bundle in its directory, and runs as long as that stays.
"""

from pathlib import Path
from typing import Final

import msgspec

from fraud.policy import Outcome
from serving.decisions import Made
from serving.line_file import LineFile
from serving.logs import Seldom
from serving.metrics import Metrics
from serving.model import Model
from serving.queued import QueuedWork
from serving.reload import Reloader
from stores.bundle_files import read_manifest

SCHEMA: Final = 1
FOLDER: Final = "shadow"
"""In the decision log's directory."""

QUEUE_LENGTH: Final = 5000
BATCH: Final = 64
PAUSE_S: Final = 0.05
MOST_BYTES: Final = 1 << 30
"""Of lines kept on disk; the oldest files go first."""


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
    key
        Key that a bundle must be signed with, as the champion's; null takes any that verifies.
    """

    def __init__(self, directory: Path, *, log: Path | None, metrics: Metrics, key: bytes | None = None) -> None:
        self.model: Model | None = None
        self._directory = directory
        self._metrics = metrics
        self._reloader = Reloader(directory, serving="", take=self._take, metrics=metrics, key=key, role="shadow")
        self._seldom = Seldom()
        self._encoder = msgspec.json.Encoder()
        self._file: LineFile | None = None
        if log is not None:
            self._file = LineFile(log / FOLDER, "shadow", most_bytes=MOST_BYTES, lost=self._lost)
        self._queued = QueuedWork[Made](
            "shadow",
            self._score,
            lost=self._lost,
            length=QUEUE_LENGTH,
            batch=BATCH,
            pause_s=PAUSE_S,
            before=self._look_away,
        )
        self.flush = self._queued.flush
        """Score what is queued; a disk that refuses costs these lines."""

    def start(self) -> None:
        """Start scoring and looking for bundles.

        Raises
        ------
        OSError
            The decision log's directory cannot be written.
        """
        if self._file is not None:
            self._file.start()
        self._reloader.start()
        self._queued.start()

    def offer(self, made: Made) -> None:
        """Take a decision that was just made, or count it lost when the queue is full; never waits."""
        if self.model is not None:
            self._queued.append(made)

    def close(self) -> None:
        """Score what is left and stop."""
        self._reloader.close()
        self._queued.close()
        if self._file is not None:
            self._file.close()

    def _take(self, model: Model) -> None:
        self.model = model

    def _look_away(self) -> None:
        """End the shadow when its bundle is gone."""
        if self.model is not None and read_manifest(self._directory) is None:
            self.model = None
            self._reloader.forget()

    def _score(self, batch: list[Made]) -> None:
        model = self.model
        if model is None:
            return
        lines = [self._decide(made, model) for made in batch]
        if self._file is None:
            return
        try:
            self._file.write(b"".join(self._encoder.encode(line) + b"\n" for line in lines))
        except OSError as error:
            self._lost(len(lines))
            self._seldom.warn("shadow_lost", count=len(lines), reason=error.strerror or type(error).__name__)

    def _lost(self, count: int) -> None:
        self._metrics.shadow_lost.add(count=count)

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
