"""Rules stand around fitted thresholds, change nothing of them, and a mistyped one is refused."""

import json
from pathlib import Path

import pytest

from fraud.decline_cap import DeclineCap
from fraud.errors import InvalidPolicy
from fraud.policy import Policy, Segment, TierPolicy
from training.policy_rules import PolicyRules, read_rules

FITTED = Policy("budget", 0.2, 0.6)
TIERS: dict[str, TierPolicy] = {"partial": TierPolicy(0.1, 0.3), "request_only": TierPolicy(0.05, 0.1)}


def applied(rules: PolicyRules, salt: str = "data") -> Policy:
    return rules.applied(FITTED, TIERS, salt=salt)  # type: ignore[arg-type]


def test_without_rules_thresholds_are_as_fitted_and_only_the_blindest_tier_declines_nobody() -> None:
    policy = applied(PolicyRules())
    assert (policy.version, policy.review_at, policy.decline_at) == ("budget", 0.2, 0.6)
    assert policy.tiers["partial"] == TIERS["partial"]
    assert policy.tiers["request_only"] == TierPolicy(0.05, 0.1, {"decline": "review"})
    assert (policy.segments, policy.control_group.share, policy.decline_cap) == ((), 0.0, DeclineCap())


def test_a_file_of_rules_is_applied_and_names_another_version(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    segment = {"name": "gambling", "review_at": 0.05, "decline_at": 0.3, "merchant_categories": [7995]}
    file.write_text(
        json.dumps(
            {
                "missing_outcome": "review",
                "becomes": {"partial": {"decline": "review"}},
                "segments": [segment],
                "decline_cap": {"share": 0.1},
                "control_share": 0.01,
                "control_amount_minor": 500,
                "control_daily_minor": 900,
            }
        )
    )
    policy = applied(read_rules(file))
    assert policy.version.startswith("budget-")
    assert (policy.missing_outcome, policy.decline_cap.share) == ("review", 0.1)
    assert policy.segments == (Segment("gambling", 0.05, 0.3, merchant_categories=(7995,)),)
    assert policy.tiers["partial"].becomes == {"decline": "review"}
    assert policy.tiers["request_only"].becomes == {}
    group = policy.control_group
    assert (group.share, group.amount_at_most, group.daily_amount) == (0.01, 500, 900)


def test_the_lot_follows_the_data_and_is_the_same_for_the_same() -> None:
    rules = PolicyRules(control_share=0.1)
    assert applied(rules) == applied(rules)
    assert applied(rules).control_group.salt != applied(rules, "other data").control_group.salt


def test_other_rules_are_another_version() -> None:
    versions = {applied(PolicyRules(control_share=share)).version for share in (0.0, 0.1, 0.2)}
    assert len(versions) == 3


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"segment": []}, "'segment' is none of becomes"),
        ({"segments": [{"name": "s", "review_at": 0.1, "decline_at": 0.2, "mcc": [1]}]}, "'mcc' is none of"),
        ({"decline_cap": {"shares": 0.1}}, "'shares' is none of"),
        ({"segments": [{"name": "s", "review_at": 0.3, "decline_at": 0.2}]}, "segment 's': thresholds"),
        ({"becomes": {"partial": {"decline": "approve"}}}, "makes a higher score milder"),
        ({"becomes": {"none": {}}}, "becomes"),
        ({"becomes": {"full": {"decline": "review"}}}, "tiers names 'full'"),
        ({"control_share": 0.9}, "share 0.9 is not in"),
        ({"control_share": 0.1, "control_amount_minor": 0}, "amount_at_most=0"),
        ({"missing_outcome": "block"}, "missing_outcome"),
        ([], "Expected `object`"),
    ],
)
def test_a_rule_that_is_none_is_refused_by_name(tmp_path: Path, rules: object, said: str) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(rules))
    with pytest.raises(InvalidPolicy, match=said) as refused:
        read_rules(file)
    assert str(file) in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy, match=r"nowhere\.json cannot be read"):
        read_rules(tmp_path / "nowhere.json")
