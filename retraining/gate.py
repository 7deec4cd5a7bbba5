"""The gate: what a challenger must show before it may replace the champion; each check with its evidence.

Both models are judged on the same held-out rows, newer than anything either was fitted to. A check passes by its bound,
not by its point: noise must not promote, and a worse model must not slip through on a lucky week.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.intervals import day_block_intervals, false_positive_cut
from training.ranking import DAY_MS, rank

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GateLimits:
    """How much worse a challenger may be within the noise.

    Parameters
    ----------
    least_frauds
        Mature frauds without which no verdict is possible.
    recall
        Catch at which false positives are compared.
    pr_auc_margin
        The lower bound of (challenger - champion) PR-AUC may not fall below minus this share of the champion's.
    more_false_positives
        The challenger's false positives may not exceed the champion's by more than this share at the point.
    surely_more_false_positives
        Nor may the upper bound of its cut lie below minus this: worse in every resample is worse.
    calibration_error
        Largest gap between the mean score and the fraud share, as a share of the latter.
    """

    least_frauds: int = 60
    recall: float = 0.5
    pr_auc_margin: float = 0.10
    more_false_positives: float = 0.15
    surely_more_false_positives: float = 0.0
    calibration_error: float = 1.0


LIMITS: Final = GateLimits()


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed, and the numbers behind it in one sentence."""

    name: str
    passed: bool
    evidence: str


@dataclass(frozen=True)
class Verdict:
    """The gate's answer: promoted only when every check passed."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether the challenger may be promoted."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The evidence of each failed check."""
        return tuple(f"{check.name}: {check.evidence}" for check in self.checks if not check.passed)


@dataclass(frozen=True)
class HeldOut:
    """The rows both models are judged on: scores of each, labels known at the time, and event times; shape ``(n,)``."""

    champion: FloatArray
    challenger: FloatArray
    is_fraud: BoolArray
    event_time_ms: IntArray


def judge(rows: HeldOut, *, bundle_reproduces: bool, limits: GateLimits = LIMITS, seed: int = 0) -> Verdict:
    """Return the verdict on a challenger.

    Parameters
    ----------
    rows
        Held out of both models' fitting.
    bundle_reproduces
        Whether the packed challenger gave its recorded margins bit for bit in the scorer's own runtime.
    seed
        Of the day-block resamples.
    """
    frauds = int(rows.is_fraud.sum())
    checks = [
        Check(
            "enough_mature_frauds",
            frauds >= limits.least_frauds,
            f"{frauds} mature frauds in {len(rows.is_fraud)} held-out rows, {limits.least_frauds} are needed",
        ),
        Check(
            "bundle_reproduces",
            bundle_reproduces,
            "the packed model gives its recorded margins bit for bit"
            if bundle_reproduces
            else "the packed model does not give its recorded margins",
        ),
    ]
    if 0 < frauds < len(rows.is_fraud):
        checks += [
            _ranks_no_worse(rows, limits, seed),
            _no_more_false_positives(rows, limits, seed),
            _calibrated(rows, limits),
        ]
    return Verdict(tuple(checks))


def _ranks_no_worse(rows: HeldOut, limits: GateLimits, seed: int) -> Check:
    day = rows.event_time_ms // DAY_MS
    champion = rank(rows.champion, rows.is_fraud, day=day)
    challenger = rank(rows.challenger, rows.is_fraud, day=day)

    def difference(weights: FloatArray) -> Any:
        return np.stack(
            [
                challenger.curve(weights).average_precision() - champion.curve(weights).average_precision(),
                champion.curve(weights).average_precision(),
            ]
        )

    gap, held = day_block_intervals(difference, len(champion.days), resamples=400, seed=seed)
    bound = -limits.pr_auc_margin * held.point
    low = gap.low if gap.low is not None else gap.point
    return Check(
        "ranks_no_worse",
        low >= bound,
        f"PR-AUC {held.point + gap.point:.3f} against {held.point:.3f}; the difference's lower bound {low:+.3f} must "
        f"reach {bound:+.3f}",
    )


def _no_more_false_positives(rows: HeldOut, limits: GateLimits, seed: int) -> Check:
    day = rows.event_time_ms // DAY_MS
    champion = rank(rows.champion, rows.is_fraud, day=day)
    challenger = rank(rows.challenger, rows.is_fraud, day=day)
    cut = false_positive_cut(champion, challenger, recall=limits.recall, resamples=400, seed=seed)
    before = int(champion.curve().false_positives_at_recall(limits.recall)[0])
    after = int(challenger.curve().false_positives_at_recall(limits.recall)[0])
    high = cut.high if cut.high is not None else cut.point
    passed = cut.point >= -limits.more_false_positives and high >= -limits.surely_more_false_positives
    return Check(
        "no_more_false_positives_at_equal_catch",
        passed,
        f"at {limits.recall:.0%} recall {after} false positives against {before}: cut {cut.point:+.0%}, may not fall "
        f"below {-limits.more_false_positives:+.0%}, its upper bound {high:+.0%} not below "
        f"{-limits.surely_more_false_positives:+.0%}",
    )


def _calibrated(rows: HeldOut, limits: GateLimits) -> Check:
    share = float(rows.is_fraud.mean())
    mean = float(rows.challenger.mean())
    error = abs(mean - share) / share
    return Check(
        "calibrated",
        error <= limits.calibration_error,
        f"mean score {mean:.4f} where {share:.4f} are fraud: off by {error:.0%}, {limits.calibration_error:.0%} allowed",
    )
