import re

import pytest

from fraud.policy import OUTCOMES, Outcome, Override
from fraud.policy_reasons import fallback_reason, override_reason
from fraud.reason_codes import WORDINGS

OVERRIDES: tuple[Override, ...] = ("allow_list", "block_list", "decline_cap", "control_group")


def test_every_override_has_a_code_of_its_own_that_no_feature_has() -> None:
    found = [override_reason(override, "ip") for override in OVERRIDES]
    codes = {reason.code for reason in found if reason is not None}
    codes |= {"FAILED_CLOSED", "FAILED_OPEN"}
    assert len(codes) == len(OVERRIDES) + 2
    assert all(re.fullmatch(r"[A-Z]+(_[A-Z]+)+", code) for code in codes)
    words = WORDINGS.values()
    assert not codes & {code for word in words for code in (word.code, word.low_code, word.unknown_code)}
    assert {reason.weight for reason in found if reason is not None} == {0.0}
    assert override_reason("") is None


@pytest.mark.parametrize("by_score", OUTCOMES)
@pytest.mark.parametrize("scored", OUTCOMES)
def test_what_the_policy_changed_is_told_as_failing_open_or_closed(by_score: Outcome, scored: Outcome) -> None:
    reason = fallback_reason(by_score, scored, (), "no_velocity")
    if by_score == scored:
        assert reason is None
        return
    assert reason is not None
    harsher = OUTCOMES.index(scored) > OUTCOMES.index(by_score)
    assert reason.code == ("FAILED_CLOSED" if harsher else "FAILED_OPEN")
    assert reason.text == f"{scored} instead of {by_score}: the stream of payments is behind"
