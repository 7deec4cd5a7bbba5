"""The control group's estimates are right where those from declines' own labels are not."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from fraud.control_group import ControlGroup
from training.control_group import estimate_declines
from training.errors import InvalidMetricInput

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Log:
    """A simulated decision log, and what nobody can know: the truth of every row."""

    outcomes: npt.NDArray[np.str_]
    propensities: FloatArray
    labels: FloatArray
    truth: FloatArray
    flagged: npt.NDArray[np.bool_]


def simulate(seed: int, *, shares: tuple[float, ...] = (0.05, 0.15), rows: int = 30_000) -> Log:
    """Score, decide and label payments; each part of the log had a control group of another share."""
    rng = np.random.default_rng(seed)
    score = rng.beta(0.3, 4.0, rows)
    truth = (rng.random(rows) < 0.8 * score**1.5).astype(np.float64)
    flagged = score >= 0.4
    outcomes = np.where(flagged, "decline", np.where(score >= 0.3, "review", "approve"))
    share = np.array(shares)[np.arange(rows) * len(shares) // rows]
    drawn = flagged & (rng.random(rows) < share)
    outcomes[drawn] = "approve"
    propensities = np.where(drawn, share, np.where(flagged, 1.0 - share, 1.0))
    labels = np.where(outcomes == "decline", np.nan, truth)
    return Log(outcomes, propensities, labels, truth, flagged)


LOGS = [simulate(seed) for seed in range(200)]


def true_figures(log: Log) -> tuple[float, float]:
    """Return good payments flagged, and the recall of declines and reviews."""
    caught = log.truth[log.flagged].sum() + log.truth[log.outcomes == "review"].sum()
    return float((1.0 - log.truth)[log.flagged].sum()), float(caught / log.truth.sum())


def test_estimates_are_unbiased_and_their_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held, errors = np.zeros((200, 2), np.bool_), np.zeros((200, 2))
    for index, log in enumerate(LOGS):
        found = estimate_declines(log.outcomes, log.propensities, log.labels)
        for column, (truth, estimate) in enumerate(
            zip(true_figures(log), (found.false_positives, found.recall), strict=True)
        ):
            held[index, column] = estimate.low <= truth <= estimate.high
            errors[index, column] = estimate.point / truth - 1.0
    assert (held.mean(axis=0) >= 0.91).all()
    noise = errors.std(axis=0) / math.sqrt(200)
    assert (np.abs(errors.mean(axis=0)) < 3.0 * noise + 0.005).all()


def test_what_declines_seem_to_be_without_it_is_wrong() -> None:
    beyond = np.zeros((200, 2), np.bool_)
    for index, log in enumerate(LOGS):
        found = estimate_declines(log.outcomes, log.propensities, log.labels)
        missed = np.nansum(log.labels[log.outcomes == "approve"])
        reviewed = np.nansum(log.labels[log.outcomes == "review"])
        declines = (log.outcomes == "decline").sum()
        believed = (declines + reviewed) / (declines + reviewed + missed)  # every decline taken for a fraud
        unweighted = reviewed / (reviewed + missed)  # what has a label, as it is
        truth = true_figures(log)[1]
        beyond[index] = believed > found.recall.high, unweighted < found.recall.low
        assert believed > truth > unweighted
    assert (beyond.mean(axis=0) > 0.9).all()


def test_the_scorers_own_lot_gives_the_same() -> None:
    group = ControlGroup(0.1, "salt", amount_at_most=1, daily_amount=1)
    rng = np.random.default_rng(1)
    truth = (rng.random(20_000) < 0.3).astype(np.float64)
    drawn = np.array([group.lot(f"t{number}") < group.share for number in range(20_000)])
    found = estimate_declines(
        np.where(drawn, "approve", "decline"), np.where(drawn, 0.1, 0.9), np.where(drawn, truth, np.nan)
    )
    assert found.fraud_share.low < truth.mean() < found.fraud_share.high
    assert found.let_through == drawn.sum() == pytest.approx(found.effective_sample)


def test_unequal_weights_are_worth_fewer_rows() -> None:
    outcomes = ["approve"] * 20
    even = estimate_declines(outcomes, [0.1] * 20, [0.0] * 20)
    uneven = estimate_declines(outcomes, [0.01] * 10 + [0.5] * 10, [0.0] * 20)
    assert even.effective_sample == pytest.approx(20.0)
    assert uneven.effective_sample == pytest.approx((1000 + 20) ** 2 / (10 * 100**2 + 10 * 2**2))


def test_a_label_of_a_declined_payment_is_not_looked_at() -> None:
    log = LOGS[0]
    invented = np.where(log.outcomes == "decline", 1.0, log.labels)
    ours = estimate_declines(log.outcomes, log.propensities, log.labels)
    assert estimate_declines(log.outcomes, log.propensities, invented) == ours


def test_declines_without_a_lot_are_counted_and_left_out() -> None:
    found = estimate_declines(
        ["decline"] * 3 + ["decline", "approve"] + ["approve"] * 5,
        [1.0] * 3 + [0.5, 0.5] + [1.0] * 5,
        [math.nan] * 4 + [1.0] + [0.0, 0.0, 0.0, 0.0, 1.0],
    )
    assert (found.covered, found.uncovered, found.let_through) == (2, 3, 1)
    assert found.recall.point == pytest.approx(2 / 3)
    assert found.insult_rate.point == 0.0
    assert found.insult_rate.high < 2 / 6


def test_without_a_control_group_nothing_is_claimed() -> None:
    found = estimate_declines(["decline", "approve", "review"], [1.0] * 3, [math.nan, 0.0, 1.0])
    assert (found.covered, found.uncovered, found.let_through, found.effective_sample) == (0, 1, 0, 0.0)
    assert math.isnan(found.fraud_share.point)
    assert (found.false_positives.point, found.recall.point) == (0.0, 1.0)
    silent = estimate_declines(["decline"] * 4, [0.9] * 4, [math.nan] * 4)
    assert math.isnan(silent.false_positives.point)
    assert (silent.false_positives.low, silent.false_positives.high) == (0.0, 4.0)


def test_heavy_weights_are_clipped_and_counted() -> None:
    found = estimate_declines(["approve"] * 2, [1e-6, 0.5], [1.0, 0.0], largest_weight=2.0)
    assert (found.clipped, found.fraud_share.point) == (1, 0.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((["approve"], [1.0, 1.0], [0.0]), r"shapes \(1,\), \(2,\), \(1,\)"),
        ((["block"], [1.0], [0.0]), "outcome 'block' is none of"),
        ((["approve"], [0.0], [0.0]), "propensities from 0.0 to 0.0"),
        ((["approve"], [math.nan], [0.0]), "propensities from nan"),
        ((["approve"], [1.0], [0.5]), "neither 0, 1 nor NaN"),
        ((["review"], [0.5], [0.0]), "no lot sends anybody to review"),
    ],
)
def test_arrays_that_are_no_log_are_refused(arguments: tuple[list[object], ...], said: str) -> None:
    with pytest.raises(InvalidMetricInput, match=said):
        estimate_declines(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"confidence": 1.0}, {"confidence": 0.0}, {"largest_weight": 0.9}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidMetricInput, match="confidence"):
        estimate_declines(["approve"], [1.0], [0.0], **options)
