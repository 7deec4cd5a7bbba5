"""What a shadow's lines say: the challenger beside the champion on the same live decisions.

SageMaker's own shadow tests end after thirty days, before labels are mature; these lines stay with the decision log for
as long as it is kept, and can be read again when the labels have come.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np

from retraining.breaker import LIMITS, BreakerLimits, Counts, judge_canary
from retraining.errors import NoShadow
from retraining.verdict import Verdict

FOLDER: Final = "shadow"
BOUNDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper bounds of the score bands: those of the scorer's metrics."""

Outcome = Literal["approve", "review", "decline"]
Side = Literal["champion", "challenger"]
SIDES: Final[tuple[Side, Side]] = ("champion", "challenger")


class ShadowLine(msgspec.Struct, frozen=True):
    """One line, as the scorer writes it."""

    schema: int
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


@dataclass(frozen=True)
class Known:
    """What is known of the frauds among the decisions: how many, how many a side stopped, and good ones declined."""

    frauds: int
    stopped: int
    legitimate: int
    declined: int


@dataclass(frozen=True)
class ShadowReport:
    """A challenger beside a champion.

    Parameters
    ----------
    champion, challenger
        Versions.
    unreadable
        Lines that are none; a crash leaves at most one a file.
    counts
        What each side decided or would have.
    changed
        Decisions by ``champion > challenger`` outcome, where they differ.
    known
        Per side, where labels were given.
    verdict
        The breaker's: whether a canary would be stopped at once.
    """

    champion: str
    challenger: str
    unreadable: int
    counts: Mapping[Side, Counts]
    changed: Mapping[str, int]
    known: Mapping[Side, Known]
    verdict: Verdict


def compare_shadow(
    log: Path, version: str = "", *, frauds: Mapping[str, bool] | None = None, limits: BreakerLimits = LIMITS
) -> ShadowReport:
    """Return how a challenger compares on live traffic.

    Parameters
    ----------
    log
        Directory of the decision log.
    version
        Of the challenger; by default the one of the last line.
    frauds
        What is known by transaction.

    Raises
    ------
    NoShadow
        No line of such a challenger is there.
    """
    read = list(_lines(log / FOLDER))
    lines = [line for line in read if line is not None]
    wanted = version or (lines[-1].challenger_version if lines else "")
    chosen = [line for line in lines if line.challenger_version == wanted]
    if not chosen:
        known = ", ".join(sorted({line.challenger_version for line in lines})) or "none"
        raise NoShadow(
            f"{log / FOLDER} holds no decision that {version or 'a challenger'} scored along; known are {known}"
        )
    chosen = [line for line in chosen if line.champion_version == chosen[-1].champion_version]
    counts = {side: _counts(chosen, side) for side in SIDES}
    changed: dict[str, int] = {}
    for line in chosen:
        if line.champion_outcome != line.challenger_outcome:
            change = f"{line.champion_outcome} > {line.challenger_outcome}"
            changed[change] = changed.get(change, 0) + 1
    return ShadowReport(
        champion=chosen[-1].champion_version,
        challenger=wanted,
        unreadable=len(read) - len(lines),
        counts=counts,
        changed=changed,
        known={side: _known(chosen, side, frauds) for side in SIDES} if frauds is not None else {},
        verdict=judge_canary(counts["champion"], counts["challenger"], limits),
    )


def _lines(folder: Path) -> Iterator[ShadowLine | None]:
    """Yield the lines of every file, null for one that cannot be read."""
    decoder = msgspec.json.Decoder(ShadowLine)
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError:
                yield None


def _counts(lines: list[ShadowLine], side: Side) -> Counts:
    outcomes = [getattr(line, f"{side}_outcome") for line in lines]
    scores = np.array([getattr(line, f"{side}_score") for line in lines])
    bands = np.bincount(np.searchsorted(BOUNDS, scores, side="left"), minlength=len(BOUNDS) + 1)
    return Counts(len(lines), outcomes.count("review"), outcomes.count("decline"), tuple(int(band) for band in bands))


def _known(lines: list[ShadowLine], side: Side, frauds: Mapping[str, bool]) -> Known:
    told = [(frauds[line.transaction_id], getattr(line, f"{side}_outcome")) for line in lines
            if line.transaction_id in frauds]  # fmt: skip
    outcomes = {fraud: [outcome for is_fraud, outcome in told if is_fraud == fraud] for fraud in (True, False)}
    return Known(
        frauds=len(outcomes[True]),
        stopped=len(outcomes[True]) - outcomes[True].count("approve"),
        legitimate=len(outcomes[False]),
        declined=outcomes[False].count("decline"),
    )
