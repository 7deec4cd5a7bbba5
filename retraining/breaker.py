"""The breaker: stops a canary by what it decides, weeks before a label says whether it was right.

A canary and the fleet beside it get the same traffic at random, so their decline rates, review rates and score
distributions differ by chance alone unless the models differ. Each check allows a band that a sound weekly model stays
in and adds what chance explains at ``confidence``: few decisions stop nothing, many decisions leave no excuse.

References
----------
Przyborowski and Wilenski, "Homogeneity of results in testing samples from Poisson series", Biometrika 31, 1940 (the
conditional test of two rates, exact where one of them is zero).
Yurdakul, "Statistical properties of population stability index", 2018 (PSI of equal populations is chi-squared).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from retraining.verdict import Check, Verdict


@dataclass(frozen=True)
class Counts:
    """What a version decided in a span of time.

    Parameters
    ----------
    decisions, reviews, declines
        How many.
    bands
        Scores counted by band, the same bands for every version.
    """

    decisions: int
    reviews: int
    declines: int
    bands: tuple[int, ...]


@dataclass(frozen=True)
class BreakerLimits:
    """What a canary may differ by.

    Parameters
    ----------
    least_decisions
        Of each side, without which nothing is said.
    ratio
        A decline or review rate may be this many times the control's, and one over it.
    psi
        Largest population stability index of the scores.
    confidence
        Of each one-sided bound. A rollout is looked at some sixty times, by three checks.
    """

    least_decisions: int = 300
    ratio: float = 1.5
    psi: float = 0.25
    confidence: float = 0.9999


LIMITS: Final = BreakerLimits()


def judge_canary(control: Counts, canary: Counts, limits: BreakerLimits = LIMITS) -> Verdict:
    """Return whether a canary stays within its band; with too few decisions it does, and the evidence says so."""
    fewest = min(control.decisions, canary.decisions)
    if fewest < limits.least_decisions:
        evidence = (
            f"{canary.decisions} decisions beside {control.decisions}; {limits.least_decisions} of each are needed"
        )
        return Verdict((Check("too_early", passed=True, evidence=evidence),))
    return Verdict(
        (
            _rate("decline_rate", (control.declines, control.decisions), (canary.declines, canary.decisions), limits),
            _rate("review_rate", (control.reviews, control.decisions), (canary.reviews, canary.decisions), limits),
            _scores(control, canary, limits),
        )
    )


def _rate(name: str, control: tuple[int, int], canary: tuple[int, int], limits: BreakerLimits) -> Check:
    """Ask whether of all cases too many, or too few, are the canary's for a rate within the band."""
    (few, all_few), (many, all_many) = canary, control
    cases = few + many
    odds = all_few / all_many
    too_many = _tail(cases - few, cases, 1.0 / (1.0 + limits.ratio * odds))
    too_few = _tail(few, cases, odds / (odds + limits.ratio))
    chance = min(too_many, too_few)
    return Check(
        name,
        chance >= 1.0 - limits.confidence,
        f"{few / all_few:.3%} of {all_few} against {many / all_many:.3%} of {all_many}; up to {limits.ratio:g} times "
        f"is allowed, and beyond that this happens by chance {chance:.2g} times in one",
    )


def _tail(successes: int, trials: int, share: float) -> float:
    """Return how likely so few successes, or fewer, are in trials that each succeed with this share.

    Examples
    --------
    >>> round(_tail(1, 3, 0.5), 3)
    0.5
    """
    whole, yes, no = math.lgamma(trials + 1), math.log(share), math.log1p(-share)
    logs = (
        whole - math.lgamma(count + 1) - math.lgamma(trials - count + 1) + count * yes + (trials - count) * no
        for count in range(successes + 1)
    )
    return min(1.0, math.fsum(map(math.exp, logs)))


def _scores(control: Counts, canary: Counts, limits: BreakerLimits) -> Check:
    before, now = np.array(control.bands, np.float64), np.array(canary.bands, np.float64)
    used = (before + now) > 0
    bands = int(used.sum())
    expected = (before[used] + 0.5) / (before.sum() + 0.5 * bands)
    found = (now[used] + 0.5) / (now.sum() + 0.5 * bands)
    psi = float(((found - expected) * np.log(found / expected)).sum())
    by_chance = float(_chi_squared(bands - 1, limits.confidence) * (1 / before.sum() + 1 / now.sum()))
    return Check(
        "score_distribution",
        bool(psi <= limits.psi + by_chance),
        f"PSI of the scores {psi:.3f}, {limits.psi:g} allowed and {by_chance:.3f} by chance",
    )


def _chi_squared(freedom: int, share: float) -> float:
    """Return a quantile of the chi-squared distribution (Wilson and Hilferty, 1931).

    Examples
    --------
    >>> round(_chi_squared(10, 0.95), 1)
    18.3
    """
    if freedom < 1:
        return 0.0
    part = 2.0 / (9.0 * freedom)
    return float(freedom * (1.0 - part + NormalDist().inv_cdf(share) * math.sqrt(part)) ** 3)
