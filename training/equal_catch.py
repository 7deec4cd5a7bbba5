"""Two models at equal catch, over several seeds: what the same recall costs each in honest customers disturbed.

Each fit is given the threshold at which it catches the share asked for, on the rows judged; what a side costs is the
mean over its fits. The cut is paired by resampled days (:func:`training.intervals.pooled_cut`). A total hides who pays
for it, so every total comes with its parts: recall by fraud type, false positives by segment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.errors import InvalidMetricInput
from training.intervals import Interval, Measure, day_block_weights, percentile_interval, pooled_cut, relative_cut
from training.ranking import DAY_MS, BoolArray, FloatArray, IntArray, Ranking, rank, same_length

MEASURES: Final[tuple[Measure, Measure]] = ("count", "value")
LEAST_IN_SEGMENT: Final = 20
"""Mean false positives of the baseline below which a segment's cut is noise and its bounds are not given."""


@dataclass(frozen=True)
class JudgedRows:
    """Rows that both models scored; equally long columns.

    Parameters
    ----------
    is_fraud
        Mature labels, or the truth.
    event_time_ms, amount_minor
        Of each row; the UTC day is the block.
    fraud_type
        Text of each fraud's type, empty where there is none or nobody knows.
    segments
        For each partition of the rows, such as ``channel``, the part each row is in, as text.
    weights
        How many rows each stands for; null when each stands for itself.
    """

    is_fraud: BoolArray
    event_time_ms: IntArray
    amount_minor: IntArray
    fraud_type: npt.NDArray[Any]
    segments: Mapping[str, npt.NDArray[Any]]
    weights: FloatArray | None = None

    def ranked(self, scores: FloatArray) -> Ranking:
        """Return the ranking of these rows by a model's scores, with days and amounts."""
        return rank(
            scores,
            self.is_fraud,
            day=self.event_time_ms // DAY_MS,
            amount_minor=self.amount_minor,
            weights=self.weights,
        )


@dataclass(frozen=True)
class TypeRecall:
    """Share of one fraud type's transactions that each side catches, and ours minus the baseline's, paired."""

    fraud_type: str
    frauds: int
    baseline: float
    ours: float
    difference: Interval


@dataclass(frozen=True)
class SegmentCut:
    """False positives of each side in one segment, and their cut; mean over the fits."""

    segment: str
    part: str
    rows: int
    baseline: float
    ours: float
    cut: Interval


@dataclass(frozen=True)
class EqualCatch:
    """What catching ``recall`` costs both sides.

    Parameters
    ----------
    recall
        Share of the frauds that both catch.
    baseline, ours
        Legitimate rows alerted, mean over the fits of a side.
    baseline_value, ours_value
        Their amounts, minor units.
    cut, value_cut
        ``1 - ours / baseline``, with paired intervals.
    seed_cuts
        The cut of each pair of fits, by itself.
    by_type
        Recall of each fraud type.
    by_segment
        False positives of each part of each partition.
    """

    recall: float
    baseline: float
    ours: float
    baseline_value: float
    ours_value: float
    cut: Interval
    value_cut: Interval
    seed_cuts: tuple[float, ...]
    by_type: tuple[TypeRecall, ...]
    by_segment: tuple[SegmentCut, ...]


def equal_catch(
    baseline: Sequence[FloatArray],
    ours: Sequence[FloatArray],
    rows: JudgedRows,
    *,
    recalls: Sequence[float],
    resamples: int,
    seed: int,
) -> tuple[EqualCatch, ...]:
    """Return the comparison at each recall.

    Parameters
    ----------
    baseline, ours
        Scores of each fit, shape ``(n,)`` each; as many of one side as of the other, paired by seed.
    rows
        What was scored.
    recalls
        Shares of the frauds to catch, each in (0, 1].
    resamples, seed
        Of the days.

    Raises
    ------
    InvalidMetricInput
        As many fits on one side as on the other there are not, lengths differ, one class only, or a recall is out of
        range.
    """
    if len(baseline) != len(ours) or not ours:
        raise InvalidMetricInput(f"{len(baseline)} fits of the baseline and {len(ours)} of ours cannot be paired")
    same_length(ours[0], fraud_type=rows.fraud_type, **dict(rows.segments))
    pairs = [(rows.ranked(theirs), rows.ranked(mine)) for theirs, mine in zip(baseline, ours, strict=True)]
    sides = _Sides(pairs, list(zip(baseline, ours, strict=True)), rows, resamples, seed)
    return tuple(sides.at(recall) for recall in recalls)


@dataclass(frozen=True)
class _Sides:
    pairs: Sequence[tuple[Ranking, Ranking]]
    scores: Sequence[tuple[FloatArray, FloatArray]]
    rows: JudgedRows
    resamples: int
    seed: int

    def at(self, recall: float) -> EqualCatch:
        drawn = self._drawn(recall)
        cut, value_cut = (self._cut(recall, measure) for measure in MEASURES)
        curves = [[ranking.curve() for ranking in pair] for pair in self.pairs]
        counts = np.array([[float(c.false_positives_at_recall(recall)[0]) for c in pair] for pair in curves])
        values = np.array([[float(c.false_value_at_recall(recall)[0]) for c in pair] for pair in curves])
        return EqualCatch(
            recall=recall,
            baseline=float(counts[:, 0].mean()),
            ours=float(counts[:, 1].mean()),
            baseline_value=float(values[:, 0].mean()),
            ours_value=float(values[:, 1].mean()),
            cut=cut,
            value_cut=value_cut,
            seed_cuts=tuple(relative_cut(counts[:, 0], counts[:, 1]).tolist()),
            by_type=self._by_type(drawn),
            by_segment=self._by_segment(drawn),
        )

    def _cut(self, recall: float, measure: Measure) -> Interval:
        return pooled_cut(self.pairs, recall=recall, resamples=self.resamples, seed=self.seed, measure=measure)

    def _drawn(self, recall: float) -> "_Drawn":
        """Return the days as they were and as resampled, and where each fit's threshold then lies."""
        days = len(self.pairs[0][1].days)
        resampled = day_block_weights(days, resamples=self.resamples, seed=self.seed)
        weights = np.concatenate([np.ones((days, 1)), resampled], axis=1)
        positions = [tuple(_positions(ranking, weights, recall) for ranking in pair) for pair in self.pairs]
        return _Drawn(weights, positions)

    def _by_type(self, drawn: "_Drawn") -> tuple[TypeRecall, ...]:
        found = []
        for name in sorted(set(self.rows.fraud_type[self.rows.is_fraud].tolist()) - {""}):
            taken = self.rows.is_fraud & (self.rows.fraud_type == name)
            baseline, ours, total = self._alerted(drawn, taken)
            shares = [_share(side, total) for side in (baseline, ours)]
            difference = _interval(shares[1] - shares[0], len(drawn.weights))
            found.append(TypeRecall(name, int(taken.sum()), float(shares[0][0]), float(shares[1][0]), difference))
        return tuple(found)

    def _by_segment(self, drawn: "_Drawn") -> tuple[SegmentCut, ...]:
        found = []
        for segment, parts in self.rows.segments.items():
            for part in sorted(set(parts.tolist())):
                inside = parts == part
                baseline, ours, _ = self._alerted(drawn, inside & ~self.rows.is_fraud)
                cut = _interval(relative_cut(baseline, ours), len(drawn.weights))
                if baseline[0] < LEAST_IN_SEGMENT:
                    cut = Interval(cut.point, None, None)
                rows = int(inside.sum())
                found.append(SegmentCut(segment, str(part), rows, float(baseline[0]), float(ours[0]), cut))
        return tuple(found)

    def _alerted(self, drawn: "_Drawn", taken: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return how many of some rows each side alerts, and how many there are; points first, then resamples."""
        day = self.rows.event_time_ms[taken] // DAY_MS
        row_weights = None if self.rows.weights is None else self.rows.weights[taken]
        days = self.pairs[0][1].days
        total = np.bincount(np.searchsorted(days, day), row_weights, minlength=len(days)) @ drawn.weights
        sides = []
        for side in (0, 1):
            counted = []
            for pair, scores, positions in zip(self.pairs, self.scores, drawn.positions, strict=True):
                running = pair[side].running(scores[side][taken], day, row_weights)
                counted.append((running[positions[side]] * drawn.weights.T).sum(axis=1))
            sides.append(np.asarray(np.mean(counted, axis=0), np.float64))
        return sides[0], sides[1], total


@dataclass(frozen=True)
class _Drawn:
    """Day weights, shape ``(days, 1 + resamples)``, and the threshold's position of each fit under each of them."""

    weights: FloatArray
    positions: Sequence[tuple[IntArray, ...]]


def _positions(ranking: Ranking, weights: FloatArray, recall: float) -> IntArray:
    """Return positions; on a resample without any fraud, where there is none, the last one stands in."""
    parts = np.array_split(weights, max(weights.shape[1] // 50, 1), axis=1)
    found = np.concatenate([ranking.curve(part).threshold_at_recall(recall) for part in parts])
    return np.asarray(np.minimum(found, len(ranking.thresholds) - 1), np.int64)


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    share: FloatArray = np.full(len(whole), np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share


def _interval(values: FloatArray, days: int) -> Interval:
    return percentile_interval(float(values[0]), values[1:], days=days)
