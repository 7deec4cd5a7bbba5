"""The decision log: every decision with the exact vector it was made from, so that it can be made again years later.

A decision becomes a JSON line at once, in some microseconds: done by the gross in a thread that shares the interpreter
it would hold up whoever is asked about meanwhile. The lines are put in a bounded queue, and a thread writes them every
10 ms into files that are closed after 64 MB or an hour, hands them to a delivery stream, or both. No answer waits for a
disk or a network, and none fails: what cannot be written is lost, counted and said. A file is locked as long as it is
written, and when the disk's share is used up the oldest file goes.
"""

from pathlib import Path
from typing import Final

import msgspec

from fraud.policy import Decision, Outcome, Override, Reason
from fraud.tiers import FULL, Tier
from fraud.transaction import Transaction
from fraud.vector_names import OWN, VectorLayout
from fraud.velocity import FloatArray
from serving.delivery import Delivery
from serving.line_file import LineFile
from serving.logs import Seldom, place_of
from serving.metrics import Metrics
from serving.online import Online
from serving.queued import QueuedWork

SCHEMA: Final = 1
QUEUE_LENGTH: Final = 20_000
"""Decisions waiting at most, some 40 MB: two seconds at full load while a disk hangs."""

PAUSE_S: Final = 0.01
BATCH: Final = 256


class Made(msgspec.Struct, frozen=True):
    """A decision on its way to the log, and the layout in which its bundle wants the vector logged."""

    transaction: Transaction
    vector: FloatArray
    online: Online
    decision: Decision
    decided_at_ms: int
    latency_s: float
    layout: VectorLayout = OWN


class LoggedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log.

    Parameters
    ----------
    vector
        Feature vector in the order of ``features``, float64 little endian; base64 in JSON. NaN is null.
    features
        Digest of the ordered feature names, those of the bundle's contract, so that a vector is never read with other
        names and the bundle is all it takes to read it.
    revisions, times_ms
        What was read: changes behind each entity's state, event time of each view.
    tier, segment
        Whose model scored it, whose thresholds it was held to.
    scored_outcome
        What the policy alone said; null in a log of before there were overrides, where it is ``outcome``.
    override
        What changed it; empty for nothing.
    propensity
        Probability with which this transaction was to get this outcome.
    """

    schema: int = SCHEMA
    decision_id: str
    decided_at_ms: int
    latency_ms: float
    outcome: Outcome
    score: float
    reasons: tuple[Reason, ...]
    model_version: str
    policy_version: str
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    revisions: dict[str, int]
    times_ms: dict[str, int | None]
    transaction: Transaction
    features: str
    vector: bytes
    tier: Tier = FULL
    segment: str = ""
    scored_outcome: Outcome | None = None
    override: Override = ""
    propensity: float = 1.0


_encoder = msgspec.json.Encoder()


class DecisionLog:
    """Writes decisions; :meth:`append` never waits.

    Parameters
    ----------
    directory
        Where the files go; null for none.
    delivery
        Takes every line too; null for none.
    most_bytes
        Kept on disk; the oldest files that nobody writes go first.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        metrics: Metrics,
        delivery: Delivery | None = None,
        most_bytes: int = 10 << 30,
    ) -> None:
        self._delivery = delivery
        self._metrics = metrics
        self._seldom = Seldom()
        self._file: LineFile | None = None
        if directory is not None:
            self._file = LineFile(directory, "decisions", most_bytes=most_bytes, lost=self._deleted)
        self._queued = QueuedWork[bytes](
            "decision_log", self._write, lost=self._overflowed, length=QUEUE_LENGTH, batch=BATCH, pause_s=PAUSE_S
        )
        self.flush = self._queued.flush
        """Write what is queued; a disk that refuses costs these decisions and nothing else."""

    def start(self) -> None:
        """Start writing.

        Raises
        ------
        OSError
            The directory cannot be made or written: said at start rather than on the first decision.
        """
        if self._file is not None:
            self._file.start()
        if self._delivery is not None:
            self._delivery.start()
        self._queued.start()

    def append(self, made: Made) -> None:
        """Take a decision, or count it lost when the queue is full."""
        try:
            line = _line(made)
        except Exception as error:  # noqa: BLE001  # whatever it is, the answer must not fail for it
            self._lost(1, f"{type(error).__name__} at {place_of(error)}")
        else:
            self._queued.append(line)

    def close(self) -> None:
        """Write what is left and stop."""
        self._queued.close()
        if self._file is not None:
            self._file.close()
        if self._delivery is not None:
            self._delivery.close()

    def _write(self, lines: list[bytes]) -> None:
        if self._delivery is not None:
            self._delivery.offer(lines)
        if self._file is None:
            return
        try:
            self._file.write(b"".join(lines))
        except OSError as error:
            self._lost(len(lines), error.strerror or type(error).__name__)
        else:
            self._metrics.decisions_logged.add(count=len(lines))

    def _overflowed(self, count: int) -> None:
        self._lost(count, "queue is full")

    def _deleted(self, count: int) -> None:
        self._lost(count, "the disk's share is used up")

    def _lost(self, count: int, reason: str) -> None:
        self._metrics.decisions_lost.add(count=count)
        self._seldom.warn("decisions_lost", count=count, reason=reason)


def _line(made: Made) -> bytes:
    decision, online = made.decision, made.online
    logged = LoggedDecision(
        decision_id=decision.decision_id,
        decided_at_ms=made.decided_at_ms,
        latency_ms=round(made.latency_s * 1000.0, 3),
        outcome=decision.outcome,
        score=decision.score,
        reasons=decision.reasons,
        model_version=decision.model_version,
        policy_version=decision.policy_version,
        missing=decision.missing,
        stale=decision.stale,
        revisions=online.revisions(),
        times_ms=online.times_ms(),
        transaction=made.transaction,
        features=made.layout.digest,
        vector=made.layout.arrange(made.vector).astype("<f8", copy=False).tobytes(),
        tier=decision.tier,
        segment=decision.segment,
        scored_outcome=decision.scored_outcome,
        override=decision.override,
        propensity=decision.propensity,
    )
    return _encoder.encode(logged) + b"\n"
