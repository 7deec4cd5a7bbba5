"""A bundle carries the models of the lower tiers under its digests, and one without any opens as before."""

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.bundle import FILES, MANIFEST, open_bundle
from fraud.errors import CorruptBundle
from fraud.fallback import FALLBACK_FILES
from fraud.features import FEATURE_NAMES
from fraud.tiers import FALLBACKS, tier_features
from tests.support.bundles import bundle_files, resealed

PACKED = bundle_files(tiers=FALLBACKS)
PARTIAL = "fallback-partial.json"


def test_every_tier_opens_with_its_own_features_calibration_and_scores() -> None:
    bundle = open_bundle(PACKED)
    assert set(bundle.fallbacks) == set(FALLBACKS)
    for number, tier in enumerate(FALLBACKS, 1):
        model = bundle.fallbacks[tier]
        assert (model.tier, model.features) == (tier, tier_features(tier))
        assert model.calibration.slope == pytest.approx(1.0 + 0.1 * number)
        held = json.loads(PACKED[f"fallback-{tier}.json"])
        for check in held["checks"]:
            row = np.array([math.nan if value is None else value for value in check["row"]])
            assert model.score(row) == model.calibration.score(check["margin"])


def test_a_bundle_of_before_there_were_tiers_opens_and_has_none() -> None:
    old = bundle_files()
    assert set(old) == {*FILES, MANIFEST}
    plain = {"version": "p", "review_at": 0.2, "decline_at": 0.4, "missing_outcome": "review"}
    bundle = open_bundle(resealed(old, policy=json.dumps(plain).encode()))
    assert bundle.fallbacks == {}
    assert (bundle.policy.missing_outcome, bundle.policy.tiers, bundle.policy.segments) == ("review", {}, ())
    assert bundle.policy.control_group.share == 0.0


def test_tiers_make_another_version_and_the_same_ones_the_same() -> None:
    assert open_bundle(PACKED).version != open_bundle(bundle_files()).version
    assert open_bundle(bundle_files(1, tiers=FALLBACKS)).version == open_bundle(PACKED).version


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_flipped_bit_in_a_fallback_is_refused_with_its_name(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FALLBACK_FILES)))
    content = bytearray(PACKED[name])
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptBundle, match=f"^{name} has digest"):
        open_bundle(PACKED | {name: bytes(content)})


def test_a_fallback_that_is_gone_or_that_nobody_vouches_for_is_refused() -> None:
    with pytest.raises(CorruptBundle, match=f"^{PARTIAL} is missing"):
        open_bundle({name: content for name, content in PACKED.items() if name != PARTIAL})
    with pytest.raises(CorruptBundle, match=f"^{PARTIAL} has digest [0-9a-f]+, the manifest says nothing$"):
        open_bundle(bundle_files() | {PARTIAL: PACKED[PARTIAL]})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"checks": []}, "fallback partial: bundle records no rows"),
        ({"features": FEATURE_NAMES[:-1]}, "fallback partial: model takes"),
        ({"model": {}}, "not an XGBoost JSON model"),
        ({"calibration": {"slope": -1.0, "intercept": 0.0}}, "is not increasing"),
        ({"calibration": None}, "fallback partial is malformed"),
    ],
)
def test_a_sealed_but_malformed_fallback_is_refused(change: dict[str, object], said: str) -> None:
    held = json.loads(PACKED[PARTIAL]) | change
    with pytest.raises(CorruptBundle, match=said):
        open_bundle(resealed(PACKED, **{"fallback-partial": msgspec.json.encode(held)}))


def test_a_recorded_margin_that_a_fallback_does_not_give_is_refused() -> None:
    held = json.loads(PACKED[PARTIAL])
    held["checks"][2]["margin"] += 1e-6
    with pytest.raises(CorruptBundle, match="fallback partial: recorded row 2 gives margin"):
        open_bundle(resealed(PACKED, **{"fallback-partial": msgspec.json.encode(held)}))
