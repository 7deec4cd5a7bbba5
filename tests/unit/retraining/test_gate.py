"""The gate refuses what is worse with the reason that it is worse by, and passes what is as good."""

from dataclasses import replace

import numpy as np
import pytest

from retraining.gate import judge
from retraining.held_out import BoolArray, FloatArray, HeldOut, PackedModel, Thresholds
from retraining.limits import LIMITS
from retraining.stability import population_stability
from retraining.verdict import Verdict
from training.ranking import DAY_MS

FINE = PackedModel(fault=None, total_bytes=1_000_000, trees=120, row_us=4.0)
DAYS, A_DAY = 7, 6_000
ABSOLUTE = {"enough_mature_frauds", "bundle_reproduces", "bundle_fits", "scores_in_time"}
PAIRED = {
    "ranks_no_worse",
    "no_more_false_positives_at_equal_catch",
    "calibrated",
    "neither_too_sure_nor_too_shy",
    "scores_stable",
    "catches_at_its_thresholds",
    "catches_every_amount",
    "catches_every_type",
}


def week(apart: float = 3.0, *, noise: float = 0.3, seed: int = 1, share: float = 0.006) -> HeldOut:
    """A week scored by a champion that sets frauds 3.0 apart and by a challenger that sets them ``apart``."""
    rng = np.random.default_rng(seed)
    count = DAYS * A_DAY
    is_fraud = rng.random(count) < share
    shared = rng.normal(size=count)
    champion = 3.0 * is_fraud + shared
    challenger = apart * is_fraud + np.sqrt(1 - noise**2) * shared + noise * rng.normal(size=count)
    return HeldOut(
        champion=posterior(champion, 3.0, share),
        challenger=posterior(challenger, apart, share),
        is_fraud=is_fraud,
        event_time_ms=np.arange(count) % DAYS * DAY_MS,
        amount_minor=rng.integers(100, 90_000, count),
    )


def posterior(
    margin: np.ndarray[tuple[int], np.dtype[np.float64]], apart: float, share: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the probability of fraud at a margin, by Bayes' rule."""
    odds = np.log(share / (1 - share)) + apart * margin - apart**2 / 2
    return np.asarray(1 / (1 + np.exp(-odds)))


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def test_an_identical_challenger_passes_every_check() -> None:
    for seed in range(5):
        rows = week(seed=seed)
        verdict = judge(replace(rows, challenger=rows.champion), FINE)
        assert verdict.passed
        assert {check.name for check in verdict.checks} == ABSOLUTE | PAIRED


def test_a_better_challenger_passes() -> None:
    assert judge(week(3.6), FINE).passed


def test_a_planted_worse_model_is_refused_for_its_ranking() -> None:
    for seed in range(5):
        verdict = judge(week(2.4, seed=seed), FINE)
        assert "ranks_no_worse" in failed(verdict)
        assert any(reason.startswith("ranks_no_worse: PR-AUC 0.") for reason in verdict.reasons)


def test_a_week_too_noisy_to_tell_promotes_nobody() -> None:
    rows = week(3.0, noise=0.99, share=0.0018)
    assert rows.is_fraud.sum() >= LIMITS.least_frauds
    assert "ranks_no_worse" in failed(judge(rows, FINE))


@pytest.mark.parametrize("factor", [30.0, 1 / 30])
def test_a_miscalibrated_model_of_the_same_ranking_is_refused_for_that(factor: float) -> None:
    rows = week()
    odds = rows.champion / (1 - rows.champion) * factor
    verdict = judge(replace(rows, challenger=odds / (1 + odds)), FINE, limits=replace(LIMITS, psi=99.0))
    ratio = float((odds / (1 + odds)).mean() / rows.is_fraud.mean())
    assert (ratio > LIMITS.calibration_ratio) == (factor > 1)
    assert failed(verdict) == {"calibrated"}
    assert f"{ratio:.2f} times" in verdict.reasons[0]


def test_scores_of_nearly_nothing_are_not_calibrated() -> None:
    rows = week()
    verdict = judge(replace(rows, challenger=rows.champion * 1e-6), FINE)
    assert "calibrated" in failed(verdict)


def test_too_few_frauds_are_counted() -> None:
    rows = week()
    kept = np.flatnonzero(~rows.is_fraud)
    some = np.sort(np.concatenate([kept, np.flatnonzero(rows.is_fraud)[: LIMITS.least_frauds - 1]]))
    assert rows.amount_minor is not None
    few = HeldOut(
        *(c[some] for c in (rows.champion, rows.champion, rows.is_fraud, rows.event_time_ms, rows.amount_minor))
    )
    verdict = judge(few, FINE, limits=replace(LIMITS, calibration_ratio=99.0))
    assert failed(verdict) == {"enough_mature_frauds"}
    assert verdict.reasons[0].startswith(
        f"enough_mature_frauds: {LIMITS.least_frauds - 1} mature frauds in {len(some)}"
    )


@pytest.mark.parametrize("everything", [False, True])
def test_one_class_is_refused_and_not_judged_further(everything: bool) -> None:
    rows = replace(week(), is_fraud=np.full(DAYS * A_DAY, everything))
    verdict = judge(rows, FINE)
    assert {check.name for check in verdict.checks} == ABSOLUTE
    assert failed(verdict) == {"enough_mature_frauds"}


def test_two_days_are_too_few_to_know_their_own_noise() -> None:
    rows = replace(week(), event_time_ms=np.arange(DAYS * A_DAY) % 2 * DAY_MS)
    assert failed(judge(rows, FINE)) == {"enough_mature_frauds"}


def test_more_false_positives_at_equal_catch_are_refused_though_the_area_is_as_large() -> None:
    rows = week(4.0)
    rng = np.random.default_rng(2)
    champion = rows.challenger
    place = np.flatnonzero(rows.is_fraud)
    order = place[np.argsort(-champion[place])]
    challenger = champion.copy()
    # A few hundred legitimate rows rise just above the half of the frauds that is caught.
    level = champion[order[int(0.4 * len(order))]]
    raised = rng.choice(np.flatnonzero(~rows.is_fraud), 400, replace=False)
    challenger[raised] = level
    loose = replace(LIMITS, pr_auc_loss=0.99, pr_auc_margin=0.99, calibration_ratio=9.0, psi=9.0)
    verdict = judge(replace(rows, champion=champion, challenger=challenger), FINE, limits=loose)
    assert failed(verdict) == {"no_more_false_positives_at_equal_catch"}


def test_one_band_of_amounts_that_is_no_longer_caught_is_named() -> None:
    rows = week(4.0)
    assert rows.amount_minor is not None
    large = rows.is_fraud & (rows.amount_minor > np.quantile(rows.amount_minor[rows.is_fraud], 2 / 3))
    challenger = np.where(large, 0.001, rows.challenger)
    loose = replace(LIMITS, pr_auc_loss=0.99, pr_auc_margin=0.99, more_false_positives=99.0, calibration_ratio=9.0)
    verdict = judge(replace(rows, champion=rows.challenger, challenger=challenger), FINE, limits=loose)
    assert failed(verdict) == {"catches_every_amount"}
    assert "largest third" in verdict.reasons[0]


def test_scores_on_another_scale_are_unstable() -> None:
    rows = week()
    verdict = judge(replace(rows, challenger=rows.champion**0.25), FINE)
    assert "scores_stable" in failed(verdict)


def test_a_bundle_that_does_not_reproduce_or_is_too_large_is_refused() -> None:
    rows = week()
    same = replace(rows, challenger=rows.champion)
    assert failed(judge(same, replace(FINE, fault="recorded row 3 gives margin 0.1, not 0.2"))) == {"bundle_reproduces"}
    for packed in (replace(FINE, trees=LIMITS.trees + 1), replace(FINE, total_bytes=LIMITS.bundle_bytes + 1)):
        assert failed(judge(same, packed)) == {"bundle_fits"}


def test_only_a_model_a_hundred_times_too_slow_is_refused_for_its_time() -> None:
    rows = week()
    same = replace(rows, challenger=rows.champion)
    assert judge(same, replace(FINE, row_us=LIMITS.row_us)).passed
    slow = judge(same, replace(FINE, row_us=LIMITS.row_us + 1))
    assert failed(slow) == {"scores_in_time"}
    assert slow.reasons[0].startswith("scores_in_time: 501.0 us of processor time a row")


@pytest.mark.parametrize("steeper", [4.0, 1 / 4])
def test_scores_that_are_too_sure_or_too_shy_are_refused_though_their_mean_is_right(steeper: float) -> None:
    rows = week()
    odds = np.log(rows.champion / (1 - rows.champion))
    low, high, shift = -40.0, 40.0, 0.0
    for _ in range(60):  # the shift at which the mean is as it was
        shift = (low + high) / 2
        mean = float((1 / (1 + np.exp(-steeper * odds - shift))).mean())
        low, high = (shift, high) if mean < rows.is_fraud.mean() else (low, shift)
    challenger = 1 / (1 + np.exp(-steeper * odds - shift))
    verdict = judge(replace(rows, challenger=challenger), FINE, limits=replace(LIMITS, psi=99.0))
    assert failed(verdict) == {"neither_too_sure_nor_too_shy"}
    said = verdict.reasons[0].removeprefix("neither_too_sure_nor_too_shy: log-odds of fraud rise by ")
    assert float(said.split()[0]) == pytest.approx(1 / steeper, rel=0.15)


def test_a_segment_that_is_no_longer_caught_is_named() -> None:
    rows = week(4.0, share=0.02)
    online = np.arange(len(rows.is_fraud)) % 4 == 0
    parts = {"online": online, "pos": ~online, "moto": np.zeros(len(online), np.bool_)}
    champion = rows.challenger
    challenger = np.where(online & rows.is_fraud, 1e-4, champion)
    loose = replace(
        LIMITS, pr_auc_loss=0.99, pr_auc_margin=0.99, more_false_positives=99.0, calibration_ratio=9.0,
        calibration_slope=99.0, psi=99.0, lost_recall=0.3,
    )  # fmt: skip
    worse = judge(replace(rows, champion=champion, challenger=challenger, parts=parts), FINE, limits=loose)
    assert failed(worse) == {"catches_every_segment"}
    assert "of online the catch moved by -" in worse.reasons[0]
    assert "2 of 3 parts have 30 frauds" in worse.reasons[0]
    assert judge(replace(rows, champion=champion, challenger=champion, parts=parts), FINE).passed


def test_a_segment_of_too_few_frauds_refuses_nobody() -> None:
    rows = week(4.0)
    few = rows.is_fraud & (np.cumsum(rows.is_fraud) < LIMITS.part_frauds)
    challenger = np.where(few, 1e-4, rows.challenger)
    loose = replace(LIMITS, pr_auc_loss=0.99, pr_auc_margin=0.99, more_false_positives=99.0, lost_recall=0.9)
    verdict = judge(
        replace(rows, champion=rows.challenger, challenger=challenger, parts={"few": few}), FINE, limits=loose
    )
    said = {check.name: check for check in verdict.checks}["catches_every_segment"]
    assert said.passed
    assert said.evidence == "no part has 30 frauds to compare the catch of"


def test_same_rows_and_seed_give_the_same_verdict() -> None:
    assert judge(week(2.9), FINE, seed=4) == judge(week(2.9), FINE, seed=4)


def test_a_verdict_without_checks_promotes_nobody() -> None:
    assert not Verdict(()).passed


def test_stability_is_zero_for_equal_scores_and_grows_with_the_shift() -> None:
    scores = np.random.default_rng(1).beta(0.5, 60, 20_000)
    shifts = [population_stability(scores, scores * factor) for factor in (1.0, 1.5, 4.0)]
    assert shifts[0] == 0.0
    assert 0.0 < shifts[1] < shifts[2]


def test_stability_counts_what_is_near_a_decision_and_not_the_mass_below() -> None:
    rng = np.random.default_rng(2)
    scores, risky = rng.beta(0.5, 600, 20_000), rng.beta(2.0, 6.0, 200)
    before = np.concatenate([scores, risky])
    shy, doubled = np.concatenate([scores * 4, risky]), np.concatenate([scores, np.minimum(risky * 3.0, 1.0)])
    assert population_stability(before, shy) > 0.5
    assert population_stability(before, shy, review_at=0.2) < 0.02
    assert population_stability(before, doubled, review_at=0.2) > population_stability(before, doubled) > 0.0


def test_a_challenger_whose_low_scores_differ_from_an_odd_champions_is_stable() -> None:
    rows = week()
    challenger = np.where(rows.champion < 0.004, rows.champion**0.7, rows.champion)
    at = Thresholds((0.3, 0.9), (0.3, 0.9), 0.01, 0.001)
    unstable = judge(replace(rows, challenger=challenger), FINE)
    assert "scores_stable" in failed(unstable)
    assert "scores_stable" not in failed(judge(replace(rows, challenger=challenger, thresholds=at), FINE))


KINDS = np.array(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"], object)


def typed(rows: HeldOut, seed: int = 5) -> HeldOut:
    """Return rows whose frauds are of ten types at random."""
    kinds = np.where(rows.is_fraud, KINDS[np.random.default_rng(seed).integers(0, 10, len(rows.is_fraud))], "")
    return replace(rows, fraud_type=kinds.astype(object))


def test_a_challenger_blind_to_a_tenth_of_the_frauds_is_refused_for_their_type() -> None:
    for seed in range(5):
        rows = typed(week(4.0, seed=seed), seed)
        assert rows.fraud_type is not None
        blind = rows.is_fraud & (rows.fraud_type == "c")
        legitimate = rows.challenger[~rows.is_fraud]
        challenger = np.where(blind, np.resize(legitimate, len(blind)), rows.challenger)
        verdict = judge(replace(rows, champion=rows.challenger, challenger=challenger), FINE)
        assert "catches_every_type" in failed(verdict)
        assert any("of c the catch moved by -" in reason for reason in verdict.reasons)
        assert judge(replace(rows, champion=rows.challenger), FINE).passed


def test_frauds_of_one_card_are_one_witness() -> None:
    rows = typed(week(4.0, share=0.02))
    assert rows.fraud_type is not None
    blind = rows.is_fraud & (rows.fraud_type == "c")
    challenger = np.where(blind, 1e-5, rows.challenger)
    pair = replace(rows, champion=rows.challenger, challenger=challenger)
    loose = replace(LIMITS, pr_auc_loss=0.99, pr_auc_margin=0.99, more_false_positives=99.0, lost_recall=0.9,
                    calibration_ratio=9.0, calibration_slope=99.0)  # fmt: skip
    assert failed(judge(pair, FINE, limits=loose)) == {"catches_every_type"}
    assert judge(replace(pair, card=np.ones(len(blind), np.int64)), FINE, limits=loose).passed


def test_types_of_few_frauds_are_not_compared() -> None:
    rows = week()
    verdict = judge(replace(rows, challenger=rows.champion, fraud_type=np.full(len(rows.is_fraud), "", object)), FINE)
    assert {check.name: check.evidence for check in verdict.checks}["catches_every_type"] == (
        "not asked: none of 0 types has 10 frauds"
    )


def at(champion: tuple[float, float], challenger: tuple[float, float]) -> Thresholds:
    return Thresholds(champion, challenger, review_share=0.01, insult_share=0.001)


def points(scores: FloatArray, is_fraud: BoolArray) -> tuple[float, float]:
    return float(np.quantile(scores, 0.99)), float(np.quantile(scores[~is_fraud], 0.999))


def test_a_challenger_whose_thresholds_catch_less_is_refused_for_that_alone() -> None:
    rows = week(4.0)
    own = points(rows.challenger, rows.is_fraud)
    same = replace(rows, champion=rows.challenger, thresholds=at(own, own))
    assert judge(same, FINE).passed
    higher = (float(np.quantile(rows.challenger, 0.9975)), own[1])
    shy = judge(replace(same, thresholds=at(own, higher)), FINE)
    assert failed(shy) == {"catches_at_its_thresholds"}
    lenient = judge(replace(same, thresholds=at(own, (own[0], 0.99999))), FINE)
    assert failed(lenient) == {"catches_at_its_thresholds"}
    assert "; declines " in lenient.reasons[0]


def test_a_champion_that_spends_beyond_the_budget_is_no_measure_of_one_that_keeps_it() -> None:
    rows = week(4.0)
    own = points(rows.challenger, rows.is_fraud)
    spent = (float(np.quantile(rows.challenger, 0.96)), own[1])
    same = replace(rows, champion=rows.challenger, thresholds=at(spent, own))
    fraud = rows.is_fraud
    assert (rows.challenger[fraud] >= spent[0]).mean() > (rows.challenger[fraud] >= own[0]).mean() + 0.05
    assert judge(same, FINE).passed


def test_a_challenger_that_alerts_or_declines_beyond_its_budget_is_refused_for_that_alone() -> None:
    rows = week(4.0)
    own = points(rows.challenger, rows.is_fraud)
    same = replace(rows, champion=rows.challenger)
    many = (float(np.quantile(rows.challenger, 0.975)), own[1])
    assert failed(judge(replace(same, thresholds=at(own, many)), FINE)) == {"keeps_its_budgets"}
    insulting = (own[0], float(np.quantile(rows.challenger[~rows.is_fraud], 0.996)))
    verdict = judge(replace(same, thresholds=at(own, insulting)), FINE)
    assert failed(verdict) == {"keeps_its_budgets"}
    assert "the budget is 0.100%" in verdict.reasons[0]


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    rows = week(2.9)
    assert rows.amount_minor is not None
    twice = np.repeat(np.arange(len(rows.is_fraud)), np.where(rows.is_fraud, 2, 1))
    doubled = replace(
        rows, champion=rows.champion[twice], challenger=rows.challenger[twice], is_fraud=rows.is_fraud[twice],
        event_time_ms=rows.event_time_ms[twice], amount_minor=rows.amount_minor[twice],
    )  # fmt: skip
    weighed = replace(rows, weights=np.where(rows.is_fraud, 2.0, 1.0))
    evidence = [
        {check.name: check.evidence for check in judge(one, FINE).checks if check.name in {"ranks_no_worse",
         "no_more_false_positives_at_equal_catch", "calibrated"}} for one in (doubled, weighed)
    ]  # fmt: skip
    assert evidence[0] == evidence[1]
    assert weighed.effective_frauds == pytest.approx(rows.is_fraud.sum())
