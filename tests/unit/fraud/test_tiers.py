"""A tier is chosen by what could not be read, and takes nothing that hangs on it."""

from hypothesis import given
from hypothesis import strategies as st

from fraud.features import FEATURE_NAMES, VELOCITY
from fraud.tiers import TIERS, owner, tier_features, tier_for
from fraud.windows import ENTITIES, Entity

unread_sets = st.sets(st.sampled_from(ENTITIES))


@given(unread_sets, st.booleans())
def test_a_tier_needs_nothing_that_is_unread_unless_it_was_fitted_without_it(unread: set[Entity], behind: bool) -> None:
    tier = tier_for(tuple(unread), behind=behind)
    if tier != "partial":
        assert not {owner(name) for name in tier_features(tier)} & unread
    assert (tier == "full") == (not unread and not behind)


@given(unread_sets)
def test_a_tier_chosen_while_the_stream_is_behind_takes_no_velocity(unread: set[Entity]) -> None:
    taken = set(tier_features(tier_for(tuple(unread), behind=True)))
    assert not taken & {feature.name for feature in VELOCITY}
    assert not any(name.endswith(("_mean_30d", "_max_30d", "zscore_card_30d")) for name in taken)


def test_the_order_and_the_repetition_of_unread_entities_do_not_matter() -> None:
    assert tier_for(("device", "card", "card"), behind=False) == tier_for(("card", "device"), behind=False)
    assert tier_for((*ENTITIES, "card"), behind=False) == "request_only"


def test_tiers_shrink_and_keep_the_order_of_features() -> None:
    widths = [len(tier_features(tier)) for tier in TIERS]
    assert widths == sorted(widths, reverse=True)
    for tier in TIERS:
        taken = tier_features(tier)
        assert taken == tuple(name for name in FEATURE_NAMES if name in taken)


def test_the_transaction_alone_gives_what_request_only_takes() -> None:
    assert tier_features("request_only") == tuple(name for name in FEATURE_NAMES if owner(name) is None)
    assert len(tier_features("request_only")) == 6
