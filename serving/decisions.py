"""The decision log: every decision with the exact vector it was made from, so that it can be made again years later.

Decisions are put in a bounded queue and written by a thread as JSON lines, every 100 ms, into files that are closed
after 64 MB or an hour, handed to a delivery stream, or both. Nothing here makes an answer wait: what the queue or the
disk does not take is lost, counted and said. A file is locked as long as it is written, and when the disk's share is
used up the oldest file goes.
"""

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final

import msgspec

from fraud.features import FEATURE_NAMES
from fraud.policy import Decision, Outcome, Override, Reason
from fraud.tiers import FULL, Tier
from fraud.transaction import Transaction
from fraud.velocity import FloatArray
from serving.delivery import Delivery
from serving.logs import Seldom
from serving.metrics import Metrics
from serving.online import Online

SCHEMA: Final = 1
QUEUE_LENGTH: Final = 20_000
"""Decisions waiting at most, some 40 MB: two seconds at full load while a disk hangs."""

PAUSE_S: Final = 0.1
FILE_BYTES: Final = 64 << 20
FILE_AGE_S: Final = 3600.0
SUFFIX: Final = ".jsonl"
FEATURES_DIGEST: Final = hashlib.sha256("\n".join(FEATURE_NAMES).encode()).hexdigest()[:16]


class Made(msgspec.Struct, frozen=True):
    """A decision on its way to the log."""

    transaction: Transaction
    vector: FloatArray
    online: Online
    decision: Decision
    decided_at_ms: int
    latency_s: float


class LoggedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log.

    Parameters
    ----------
    vector
        Feature vector in the order of ``features``, float64 little endian; base64 in JSON. NaN is null.
    features
        Digest of the ordered feature names, so that a vector is never read with other names.
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
        self._directory = directory
        self._delivery = delivery
        self._most_bytes = most_bytes
        self._metrics = metrics
        self._queue: deque[Made] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._seldom = Seldom()
        self._file = -1
        self._size = 0
        self._opened_at = 0.0
        self._files = 0
        self.overflowed = 0

    def start(self) -> None:
        """Start writing.

        Raises
        ------
        OSError
            The directory cannot be made or written: said at start rather than on the first decision.
        """
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._open(self._directory)
        if self._delivery is not None:
            self._delivery.start()
        self._thread.start()

    def append(self, made: Made) -> None:
        """Take a decision, or count it lost when the queue is full."""
        if len(self._queue) >= QUEUE_LENGTH:
            self.overflowed += 1
            return
        self._queue.append(made)

    def close(self) -> None:
        """Write what is left and stop."""
        self._stop.set()
        self._thread.join()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._delivery is not None:
            self._delivery.close()

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S):
            self._flush_safely()
        self._flush_safely()

    def _flush_safely(self) -> None:
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001  # the outermost loop of this thread: it must not end
            self._seldom.warn("decision_log_failed", error=type(error).__name__)

    def flush(self) -> None:
        """Write what is queued; a disk that refuses costs these decisions and nothing else."""
        if self.overflowed:
            lost, self.overflowed = self.overflowed, 0
            self._lost(lost, "queue is full")
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(256, len(self._queue)))]
            lines = [self._line(made) for made in batch]
            if self._delivery is not None:
                self._delivery.offer(lines)
            if self._directory is None:
                continue
            try:
                self._write(b"".join(lines), self._directory)
                self._metrics.decisions_logged.add(count=len(batch))
            except OSError as error:
                self._lost(len(batch), error.strerror or type(error).__name__)

    def _line(self, made: Made) -> bytes:
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
            features=FEATURES_DIGEST,
            vector=made.vector.astype("<f8", copy=False).tobytes(),
            tier=decision.tier,
            segment=decision.segment,
            scored_outcome=decision.scored_outcome,
            override=decision.override,
            propensity=decision.propensity,
        )
        return _encoder.encode(logged) + b"\n"

    def _write(self, lines: bytes, directory: Path) -> None:
        too_old = time.monotonic() - self._opened_at > FILE_AGE_S
        if self._file < 0 or self._size + len(lines) > FILE_BYTES or too_old:
            self._open(directory)
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)  # no torn line stays behind
            raise
        self._size += len(lines)

    def _open(self, directory: Path) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._files += 1
        path = directory / f"decisions-{stamp}-{os.getpid()}-{self._files:04d}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # says that it is being written
        self._size = os.fstat(self._file).st_size
        self._opened_at = time.monotonic()
        self._make_room(directory)

    def _make_room(self, directory: Path) -> None:
        """Delete the oldest files until the rest, and a file to come, fit into the disk's share."""
        files = _sized(directory)
        size = sum(held for _, held in files) + FILE_BYTES
        for path, held in files[:-1]:
            if size <= self._most_bytes:
                return
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    lines = sum(1 for _ in file)
                    path.unlink()
            except OSError:
                continue  # another process writes it, or has deleted it
            size -= held
            self._lost(lines, "the disk's share is used up")

    def _lost(self, count: int, reason: str) -> None:
        self._metrics.decisions_lost.add(count=count)
        self._seldom.warn("decisions_lost", count=count, reason=reason)


def _sized(directory: Path) -> list[tuple[Path, int]]:
    """Return the log's files, oldest first, with their sizes, without those that another process deletes meanwhile."""
    found = []
    for path in sorted(directory.glob(f"decisions-*{SUFFIX}")):
        with contextlib.suppress(FileNotFoundError):
            found.append((path, path.stat().st_size))
    return found
