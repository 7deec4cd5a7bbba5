"""A true probability has next to no error, a distorted one the error that it has."""

import numpy as np
import pytest

from training.errors import InvalidMetricInput
from training.reliability import reliability

RNG = np.random.default_rng(8)
TRUE = RNG.beta(0.2, 12.0, 80_000)
IS_FRAUD = RNG.random(80_000) < TRUE


def test_a_true_probability_is_reliable_and_a_doubled_one_is_off_by_its_mean() -> None:
    right, doubled = reliability(TRUE, IS_FRAUD), reliability(np.minimum(2 * TRUE, 1.0), IS_FRAUD)
    assert right.expected_error < 0.003
    assert right.ratio == pytest.approx(1.0, abs=0.05)
    assert doubled.expected_error == pytest.approx(IS_FRAUD.mean(), rel=0.1)
    assert doubled.ratio == pytest.approx(2.0, rel=0.1)


def test_groups_hold_every_row_once_and_half_of_them_the_riskiest_tenth() -> None:
    found = reliability(TRUE, IS_FRAUD, groups=20)
    assert found.rows.sum() == 80_000
    assert len(found.rows) == 20
    assert found.rows[-10:].sum() == pytest.approx(8_000, abs=20)
    assert (np.diff(found.said) > 0).all()
    assert (found.happened * found.rows).sum() == pytest.approx(IS_FRAUD.sum())


def test_weights_count_as_repeated_rows() -> None:
    weights = RNG.integers(1, 4, 500)
    repeated = np.repeat(np.arange(500), weights)
    edges_from_all = reliability(TRUE[:500], IS_FRAUD[:500], groups=2, weights=weights.astype(np.float64))
    assert edges_from_all.rows.sum() == len(repeated)
    assert edges_from_all.ratio == pytest.approx(TRUE[repeated].sum() / IS_FRAUD[repeated].sum())


@pytest.mark.parametrize(("scale", "groups", "sentence"), [(3.0, 20, "no probabilities"), (1.0, 3, "even number")])
def test_what_cannot_be_grouped_is_refused(scale: float, groups: int, sentence: str) -> None:
    with pytest.raises(InvalidMetricInput, match=sentence):
        reliability(TRUE * scale, IS_FRAUD, groups=groups)
