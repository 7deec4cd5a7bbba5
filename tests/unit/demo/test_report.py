import numpy as np
import pytest

from demo.figures import Shown
from demo.report import AGAINST_A_CHAMPION, WIDTH, _verdict, _why, shown_checks
from demo.screen import NAME_WIDTH
from retraining.gate import judge
from retraining.held_out import HeldOut, PackedModel
from retraining.verdict import Check, Verdict

ROOM = WIDTH - NAME_WIDTH - 2


def failed(*names: str) -> Verdict:
    return Verdict((Check("bundle_fits", passed=True, evidence="1.0 MB"), *(Check(n, False, "long") for n in names)))


def test_refusal_names_the_failed_checks_in_words() -> None:
    said = _verdict(failed("ranks_no_worse", "calibrated"))
    assert said == "failed: ranks no worse, calibrated"
    assert _verdict(failed()) == "promoted"


@pytest.mark.parametrize("count", range(1, 6))
def test_refusal_stays_in_its_line(count: int) -> None:
    names = ["ranks_no_worse", "no_more_false_positives_at_equal_catch", "scores_stable", "x" * 70, "y"]
    said = _verdict(failed(*names[:count]))
    assert len(said) <= ROOM
    assert said.startswith("failed: ranks no worse")
    shown = said.removeprefix("failed: ").split(" and ")[0].count(",") + 1
    assert said.endswith(f" and {count - shown} more") is (count > shown)


def test_decision_shows_the_first_reason_that_fits() -> None:
    reasons = [{"text": "a" * 90}, {"text": "short"}, {"text": "shorter"}]
    decision = {"reasons": reasons}
    assert _why(Shown("cash_out", {"amount": "1.00 EUR"}, decision)) == "1.00 EUR: short"
    clause = [{"text": "b" * 55 + ", this one is 1.00 EUR"}]
    assert _why(Shown("cash_out", {"amount": "123.00 EUR"}, {"reasons": clause})) == "b" * 55
    only = _why(Shown("cash_out", {"amount": "1.00 EUR"}, {"reasons": [{"text": "word " * 40}]}))
    assert only.startswith("1.00 EUR: word")
    assert only.endswith(" ...")
    assert len(only) <= ROOM


def test_checks_against_a_champion_are_the_gate_s_own_and_hidden_from_the_first() -> None:
    rng = np.random.default_rng(0)
    rows = 4000
    fraud = rng.random(rows) < 0.05
    scores = np.clip(fraud * 0.5 + rng.random(rows) * 0.4, 0.001, 0.999)
    time = np.sort(rng.integers(0, 7 * 86_400_000, rows))
    parts = {"online": rng.random(rows) < 0.9}
    held = HeldOut(scores, scores, fraud, time, rng.integers(1, 9999, rows), parts)
    verdict = judge(held, PackedModel(None, 1000, 10, 1.0))
    names = {check.name for check in verdict.checks}
    assert names >= AGAINST_A_CHAMPION
    assert {check.name for check in shown_checks(verdict, alone=True)} == names - AGAINST_A_CHAMPION
    assert shown_checks(verdict, alone=False) == list(verdict.checks)
