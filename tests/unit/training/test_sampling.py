"""Which legitimate rows are kept depends on id and seed alone, and the weights make up for the others."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import InvalidSplit
from training.sampling import Sampling

IDS = pa.array([f"payment-{number}" for number in range(20_000)])
FRAUD = np.arange(20_000) % 50 == 0


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(40)), st.floats(0.05, 1.0), st.integers(0, 5))
def test_a_rows_fate_does_not_depend_on_its_place_or_company(order: list[int], share: float, seed: int) -> None:
    sampling = Sampling(share, seed)
    places = np.array(order)
    whole = sampling.kept(IDS[:40], FRAUD[:40])
    assert sampling.kept(IDS.take(pa.array(places)), FRAUD[places]).tolist() == whole[places].tolist()


def test_every_fraud_and_about_the_share_of_the_others_is_kept() -> None:
    kept = Sampling(0.1).kept(IDS, FRAUD)
    assert kept[FRAUD].all()
    assert abs(kept[~FRAUD].mean() - 0.1) < 0.01
    assert (Sampling(0.1, seed=1).kept(IDS, FRAUD) != kept).any()


def test_a_smaller_share_keeps_a_part_of_a_larger_one() -> None:
    assert (Sampling(0.3).kept(IDS, FRAUD) >= Sampling(0.1).kept(IDS, FRAUD)).all()


def test_weights_add_up_to_about_all_rows() -> None:
    sampling = Sampling(0.1)
    kept = sampling.kept(IDS, FRAUD)
    weight = sampling.weights(FRAUD[kept])
    assert weight is not None
    assert set(weight[FRAUD[kept]].tolist()) == {1.0}
    assert abs(float(weight.sum()) / len(IDS) - 1.0) < 0.1
    assert Sampling().weights(FRAUD) is None


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_named(share: float) -> None:
    with pytest.raises(InvalidSplit, match=f"keep-legitimate {share} is not above 0"):
        Sampling(share)
