"""The checks that hold both models against each other on the same rows, with bounds over resampled days."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from retraining.bounds import Bound, day_bounds
from retraining.held_out import HeldOut
from retraining.limits import GateLimits
from retraining.parts import summed_by_day
from retraining.stability import population_stability
from retraining.verdict import Check
from training.fit import fit_calibration
from training.ranking import DAY_MS, Ranking, rank

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Pair:
    """Both models ranked once, for every check."""

    def __init__(self, rows: HeldOut, limits: GateLimits, seed: int) -> None:
        self._rows, self._limits, self._seed = rows, limits, seed
        day = rows.event_time_ms // DAY_MS
        self._days, self._day = np.unique(day, return_inverse=True)
        self._champion: Ranking = rank(rows.champion, rows.is_fraud, day=day, weights=rows.weights)
        self._challenger: Ranking = rank(rows.challenger, rows.is_fraud, day=day, weights=rows.weights)

    def ranks_no_worse(self) -> Check:
        """Return the check of PR-AUC: no worse, by its point and by its lower bound."""
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
        """Return the check of false positives where both catch the same share: not surely more."""
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
        """Return the check of the mean score against the share of frauds."""
        weight = self._rows.weight
        fraud = np.bincount(self._day, weight * self._rows.is_fraud, minlength=len(self._days))
        score = np.bincount(self._day, weight * self._rows.challenger, minlength=len(self._days))

        def log_ratio(weights: FloatArray) -> FloatArray:
            return np.log(np.maximum(score @ weights, 1e-9) / np.maximum(fraud @ weights, 0.5))[None]

        (ratio,) = self._bounds(log_ratio)
        allowed = self._limits.calibration_ratio
        return Check(
            "calibrated",
            abs(ratio.point) <= math.log(allowed),
            f"mean score {score.sum() / weight.sum():.5f} where {fraud.sum() / weight.sum():.5f} are fraud: "
            f"{math.exp(ratio.point):.2f} times, bounds {math.exp(ratio.low):.2f} to {math.exp(ratio.high):.2f}, "
            f"{1.0 / allowed:.2f} to {allowed:.2f} allowed",
        )

    def scores_stable(self) -> Check:
        """Return the check of how far the scores moved from the champion's."""
        rows = self._rows
        review_at = None if rows.thresholds is None else rows.thresholds.champion[0]
        found = population_stability(rows.champion, rows.challenger, review_at=review_at)
        return Check(
            "scores_stable",
            found <= self._limits.psi,
            f"PSI of the scores against the champion's {found:.3f}, {self._limits.psi:g} allowed",
        )

    def calibration_slope(self) -> Check:
        """Return the check of how steeply fraud follows the score."""
        scores = np.clip(self._rows.challenger, 1e-9, 1.0 - 1e-9)
        odds = np.log(scores / (1.0 - scores))
        slope = fit_calibration(odds, self._rows.is_fraud, weights=self._rows.weights).slope
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
        gains = summed_by_day(rows.weight * (caught[1].astype(np.float64) - caught[0]), counted, self._day, size)
        frauds = summed_by_day(rows.weight, counted, self._day, size)
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
