"""Chance does not stop a canary, a shifted one is stopped, and too few decisions say nothing."""

import numpy as np
import pytest

from retraining.breaker import LIMITS, Counts, judge_canary

BOUNDS = np.array([0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


def decided(seed: int, count: int, *, shift: float = 0.0, decline_at: float = 0.3) -> Counts:
    """What a model decides whose log-odds are normal around those of one fraud in five hundred."""
    log_odds = np.random.default_rng(seed).normal(-6.2 + shift, 1.7, count)
    scores = 1.0 / (1.0 + np.exp(-log_odds))
    bands = np.bincount(np.searchsorted(BOUNDS, scores), minlength=len(BOUNDS) + 1)
    declines, reviews = int((scores >= decline_at).sum()), int(((scores >= 0.1) & (scores < decline_at)).sum())
    return Counts(count, reviews, declines, tuple(bands.tolist()))


def stopped(control: Counts, canary: Counts) -> set[str]:
    return {check.name for check in judge_canary(control, canary).checks if not check.passed}


def test_equal_models_are_hardly_ever_stopped() -> None:
    looks = [stopped(decided(seed, 9000), decided(10_000 + seed, 1000 + seed)) for seed in range(400)]
    assert sum(bool(look) for look in looks) == 0


def test_a_canary_that_declines_three_times_as_much_is_stopped_at_its_first_thousands() -> None:
    looks = [stopped(decided(seed, 20_000), decided(500 + seed, 5000, shift=1.2)) for seed in range(50)]
    assert sum("decline_rate" in look for look in looks) == 50


def test_a_canary_that_declines_hardly_anybody_is_stopped_too() -> None:
    control, canary = decided(1, 60_000), decided(2, 30_000, decline_at=0.9)
    assert "decline_rate" in stopped(control, canary)


def test_scores_that_moved_are_found_where_no_rate_moved() -> None:
    control = decided(1, 20_000)
    bands = list(control.bands)
    bands[0], bands[2] = 0, bands[2] + bands[0]
    moved = Counts(control.decisions, control.reviews, control.declines, tuple(bands))
    assert stopped(control, moved) == {"score_distribution"}


def test_few_decisions_say_nothing_and_the_evidence_says_so() -> None:
    few = Counts(LIMITS.least_decisions - 1, 0, 299, (0,) * 14 + (299,))
    verdict = judge_canary(decided(1, 9000), few)
    assert verdict.passed
    assert verdict.checks[0].name == "too_early"
    assert "299 decisions beside 9000; 300 of each are needed" in verdict.checks[0].evidence


@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_what_a_weekly_model_moves_is_within_the_band(shift: float) -> None:
    assert stopped(decided(3, 200_000), decided(4, 100_000, shift=shift)) == set()
