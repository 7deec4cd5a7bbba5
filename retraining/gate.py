"""The gate: what a challenger must show before it may replace the champion; each check with its evidence.

Both models are judged on the same held-out rows, newer than anything either was fitted to. Three kinds of check:

- *no worse*: the lower bound of (challenger / champion) must stay above a margin, so a week that is too noisy to tell
  promotes nobody, and a challenger identical to the champion passes;
- *not surely worse*: refused when even the bound in its favour says worse, for what a single week measures too coarsely
  to demand more: false positives at equal catch, the catch in each band of amounts;
- *absolute*: enough frauds, calibrated, a bundle that reproduces its recorded rows and stays within its size.

Only one check asks the clock, for processor time with a bound far above what is usual.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from retraining.bounds import LEAST_DAYS, Bound, day_bounds
from retraining.parts import amount_thirds, summed_by_day
from retraining.stability import population_stability
from training.fit import fit_calibration
from training.ranking import DAY_MS, Ranking, rank

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
    confidence
        Of each one-sided bound.
    recall
        Catch at which false positives, and the catch of each part, are compared.
    pr_auc_loss, pr_auc_margin
        Shares of the champion's PR-AUC that the challenger may seem to lose, and that its lower bound may. The first
        keeps a row of slightly worse weeks from adding up where a week tells them apart; the second sends away a week
        that tells nothing.
    more_false_positives, few_false_positives
        At equal catch the challenger may not surely raise more than this share more false positives; this share of the
        legitimate rows is added on both sides first: where there are next to none, one more is no reason.
    lost_recall
        The upper bound of the catch gained in a band of amounts or a segment may not lie below minus this.
    calibration_ratio
        (mean score / fraud share) must lie between one over this and this. By its point: even the least frauds know it
        to a quarter, and the bounds of a bursty week would refuse a champion against itself.
    psi
        Largest population stability index between the scores of both.
    bundle_bytes, trees
        Largest bundle, and most trees, that the scorer's latency and memory are planned for.
    row_us
        Most processor time of one row in the scorer's runtime, microseconds: a hundred times what is usual, so that no
        busy machine refuses a model.
    calibration_slope
        How steeply fraud follows the score, in log-odds, must lie between one over this and this.
    part_frauds
        Frauds below which a segment's catch is not compared.
    """

    least_frauds: int = 60
    confidence: float = 0.99
    recall: float = 0.5
    pr_auc_loss: float = 0.05
    pr_auc_margin: float = 0.20
    more_false_positives: float = 0.15
    few_false_positives: float = 0.0005
    lost_recall: float = 0.10
    calibration_ratio: float = 2.0
    psi: float = 1.0
    bundle_bytes: int = 32 * 2**20
    trees: int = 1000
    row_us: float = 500.0
    calibration_slope: float = 2.5
    part_frauds: int = 30


LIMITS: Final = GateLimits()


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed, and the numbers behind it in one sentence."""

    name: str
    passed: bool
    evidence: str


@dataclass(frozen=True)
class Verdict:
    """The gate's answer: promoted only when every check passed; ``report_sha256`` is of the report kept with it."""

    checks: tuple[Check, ...]
    report_sha256: str | None = None

    def facts(self) -> dict[str, Any]:
        """Return what a registry's history says of it."""
        report = {} if self.report_sha256 is None else {"report_sha256": self.report_sha256}
        return {"checks": [asdict(check) for check in self.checks], **report}

    @property
    def passed(self) -> bool:
        """Whether the challenger may be promoted."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The evidence of each failed check."""
        return tuple(f"{check.name}: {check.evidence}" for check in self.checks if not check.passed)


@dataclass(frozen=True)
class HeldOut:
    """The rows both models are judged on: equally long columns.

    Parameters
    ----------
    champion, challenger
        Scores of each, in [0, 1].
    is_fraud
        Labels known at the time.
    event_time_ms
        Event times.
    amount_minor
        Amounts; without them no bands are compared.
    parts
        Which rows are in each segment whose catch is compared.
    """

    champion: FloatArray
    challenger: FloatArray
    is_fraud: BoolArray
    event_time_ms: IntArray
    amount_minor: IntArray | None = None
    parts: Mapping[str, BoolArray] = field(default_factory=dict)


@dataclass(frozen=True)
class PackedModel:
    """What is known of the packed challenger before it is judged on rows.

    Parameters
    ----------
    fault
        Why it does not open and reproduce its recorded margins in the scorer's own runtime; null when it does.
    total_bytes, trees
        Size of all its files, and of its model.
    row_us
        Processor time of one row in the scorer's runtime, microseconds; null when it was not measured.
    """

    fault: str | None
    total_bytes: int
    trees: int
    row_us: float | None = None


def judge(rows: HeldOut, packed: PackedModel, *, limits: GateLimits = LIMITS, seed: int = 0) -> Verdict:
    """Return the verdict on a challenger.

    Parameters
    ----------
    rows
        Held out of both models' fitting.
    packed
        What is known of its bundle.
    limits
        How much worse is too much.
    seed
        Of the resamples of days: same rows and seed, same verdict.
    """
    frauds, days = int(rows.is_fraud.sum()), len(np.unique(rows.event_time_ms // DAY_MS))
    checks = [
        Check(
            "enough_mature_frauds",
            limits.least_frauds <= frauds < len(rows.is_fraud) and days >= LEAST_DAYS,
            f"{frauds} mature frauds in {len(rows.is_fraud)} held-out rows of {days} days; {limits.least_frauds} "
            f"frauds of {LEAST_DAYS} days are needed",
        ),
        _reproduces(packed),
        _fits(packed, limits),
        *([] if packed.row_us is None else [_in_time(packed.row_us, limits)]),
    ]
    if 0 < frauds < len(rows.is_fraud) and days >= LEAST_DAYS:
        pair = _Pair(rows, limits, seed)
        checks += [
            pair.ranks_no_worse(),
            pair.no_more_false_positives(),
            pair.calibrated(),
            pair.calibration_slope(),
            pair.scores_stable(),
        ]
        if rows.amount_minor is not None:
            thirds = amount_thirds(rows.amount_minor, rows.is_fraud)
            checks.append(pair.catches_every_part("catches_every_amount", thirds, 1))
        if rows.parts:
            checks.append(pair.catches_every_part("catches_every_segment", rows.parts, limits.part_frauds))
    return Verdict(tuple(checks))


def _reproduces(packed: PackedModel) -> Check:
    said = packed.fault or "the packed model gives its recorded margins bit for bit"
    return Check("bundle_reproduces", packed.fault is None, said)


def _fits(packed: PackedModel, limits: GateLimits) -> Check:
    return Check(
        "bundle_fits",
        packed.total_bytes <= limits.bundle_bytes and packed.trees <= limits.trees,
        f"{packed.total_bytes / 2**20:.1f} MB and {packed.trees} trees, {limits.bundle_bytes / 2**20:.0f} MB and "
        f"{limits.trees} allowed",
    )


def _in_time(row_us: float, limits: GateLimits) -> Check:
    said = f"{row_us:.1f} us of processor time a row in the scorer's runtime, {limits.row_us:g} us allowed"
    return Check("scores_in_time", row_us <= limits.row_us, said)


class _Pair:
    """Both models ranked once, for every check."""

    def __init__(self, rows: HeldOut, limits: GateLimits, seed: int) -> None:
        self._rows, self._limits, self._seed = rows, limits, seed
        day = rows.event_time_ms // DAY_MS
        self._days, self._day = np.unique(day, return_inverse=True)
        self._champion: Ranking = rank(rows.champion, rows.is_fraud, day=day)
        self._challenger: Ranking = rank(rows.challenger, rows.is_fraud, day=day)

    def ranks_no_worse(self) -> Check:
        champion, challenger = (
            ranking.curve().average_precision()[0] for ranking in (self._champion, self._challenger)
        )

        def log_ratio(weights: FloatArray) -> FloatArray:
            held = self._champion.curve(weights).average_precision()
            return np.log(self._challenger.curve(weights).average_precision() / held)[None]

        (ratio,) = self._bounds(log_ratio)
        point, low = 1.0 - self._limits.pr_auc_loss, 1.0 - self._limits.pr_auc_margin
        return Check(
            "ranks_no_worse",
            ratio.point >= math.log(point) and ratio.low >= math.log(low),
            f"PR-AUC {challenger:.3f} against {champion:.3f}: {math.exp(ratio.point):.2f} times, {point:.2f} needed; "
            f"surely {math.exp(ratio.low):.2f} times, {low:.2f} needed",
        )

    def no_more_false_positives(self) -> Check:
        recall, limits = self._limits.recall, self._limits

        few = limits.few_false_positives * float(self._champion.legitimate.sum())

        def log_ratio(weights: FloatArray) -> FloatArray:
            before = self._champion.curve(weights).false_positives_at_recall(recall)
            after = self._challenger.curve(weights).false_positives_at_recall(recall)
            return np.log((after + few) / (before + few))[None]

        (ratio,) = self._bounds(log_ratio)
        before = int(self._champion.curve().false_positives_at_recall(recall)[0])
        after = int(self._challenger.curve().false_positives_at_recall(recall)[0])
        allowed = 1.0 + limits.more_false_positives
        return Check(
            "no_more_false_positives_at_equal_catch",
            ratio.low <= math.log(allowed),
            f"at {recall:.0%} recall {after} false positives against {before}; counting {few:.0f} more on both sides "
            f"that is {math.exp(ratio.point):.2f} times, surely {math.exp(ratio.low):.2f} times, {allowed:.2f} allowed",
        )

    def calibrated(self) -> Check:
        fraud = np.bincount(self._day, self._rows.is_fraud, minlength=len(self._days))
        score = np.bincount(self._day, self._rows.challenger, minlength=len(self._days))

        def log_ratio(weights: FloatArray) -> FloatArray:
            return np.log(np.maximum(score @ weights, 1e-9) / np.maximum(fraud @ weights, 0.5))[None]

        (ratio,) = self._bounds(log_ratio)
        allowed = self._limits.calibration_ratio
        return Check(
            "calibrated",
            abs(ratio.point) <= math.log(allowed),
            f"mean score {self._rows.challenger.mean():.5f} where {self._rows.is_fraud.mean():.5f} are fraud: "
            f"{math.exp(ratio.point):.2f} times, bounds {math.exp(ratio.low):.2f} to {math.exp(ratio.high):.2f}, "
            f"{1.0 / allowed:.2f} to {allowed:.2f} allowed",
        )

    def scores_stable(self) -> Check:
        found = population_stability(self._rows.champion, self._rows.challenger)
        return Check(
            "scores_stable",
            found <= self._limits.psi,
            f"PSI of the scores against the champion's {found:.3f}, {self._limits.psi:g} allowed",
        )

    def calibration_slope(self) -> Check:
        scores = np.clip(self._rows.challenger, 1e-9, 1.0 - 1e-9)
        slope = fit_calibration(np.log(scores / (1.0 - scores)), self._rows.is_fraud).slope
        allowed = self._limits.calibration_slope
        return Check(
            "neither_too_sure_nor_too_shy",
            1.0 / allowed <= slope <= allowed,
            f"log-odds of fraud rise by {slope:.2f} where the score's rise by 1; {1.0 / allowed:.2f} to {allowed:.2f} "
            "allowed",
        )

    def catches_every_part(self, name: str, parts: Mapping[str, BoolArray], least: int) -> Check:
        """Compare the catch of each part, at each model's own threshold for the overall catch."""
        rows, fraud, size = self._rows, self._rows.is_fraud, len(self._days)
        counted = {part: inside & fraud for part, inside in parts.items() if int((inside & fraud).sum()) >= least}
        if not counted:
            return Check(name, passed=True, evidence=f"no part has {least} frauds to compare the catch of")
        caught = []
        for scores, ranking in ((rows.champion, self._champion), (rows.challenger, self._challenger)):
            place = int(ranking.curve().threshold_at_recall(self._limits.recall)[0])
            caught.append(scores >= ranking.thresholds[place])
        gains = summed_by_day(caught[1].astype(np.float64) - caught[0], counted, self._day, size)
        frauds = summed_by_day(np.ones(len(fraud)), counted, self._day, size)
        bounds = self._bounds(lambda weights: (gains @ weights) / np.maximum(frauds @ weights, 1.0))
        worst = min(bounds, key=lambda bound: bound.high)
        return Check(
            name,
            worst.high >= -self._limits.lost_recall,
            f"of {list(counted)[bounds.index(worst)]} the catch moved by {worst.point:+.1%}, at the best "
            f"{worst.high:+.1%}; {-self._limits.lost_recall:+.0%} is the most that may surely be lost; "
            f"{len(counted)} of {len(parts)} parts have {least} {'fraud' if least == 1 else 'frauds'} or more",
        )

    def _bounds(self, metrics: Callable[[FloatArray], FloatArray]) -> tuple[Bound, ...]:
        found = day_bounds(metrics, len(self._days), confidence=self._limits.confidence, seed=self._seed)
        assert found is not None  # noqa: S101  # judge() looked at the number of days
        return found
