import numpy as np

from simulation.randomness import Picker, Tokens, expand, lognormal, stream, weighted


def test_parts_of_one_seed_draw_independently_and_repeatably() -> None:
    first = stream(7, "cards").random(5)
    assert np.array_equal(first, stream(7, "cards").random(5))
    assert not np.array_equal(first, stream(7, "merchants").random(5))
    assert not np.array_equal(first, stream(8, "cards").random(5))


def test_weighted_draw_never_takes_a_zero_weight_and_keeps_shares() -> None:
    drawn = weighted(np.random.default_rng(1), np.array([0.0, 1.0, 0.0, 3.0, 0.0]), 20_000)
    assert set(drawn.tolist()) == {1, 3}
    assert abs(np.mean(drawn == 3) - 0.75) < 0.02


def test_picker_stays_within_the_group_and_follows_the_weights() -> None:
    picker = Picker(np.array([10, 11, 12, 13]), np.array([1, 0, 1, 0]), np.array([1.0, 5.0, 9.0, 5.0]), group_count=2)
    rng = np.random.default_rng(1)
    ones = picker.pick(rng, np.ones(10_000, np.int64))
    zeros = picker.pick(rng, np.zeros(10_000, np.int64))
    assert set(ones.tolist()) == {10, 12}
    assert set(zeros.tolist()) == {11, 13}
    assert abs(np.mean(ones == 12) - 0.9) < 0.02


def test_tokens_are_never_handed_out_twice() -> None:
    tokens = Tokens()
    assert [*tokens.new(2).tolist(), *tokens.new(0).tolist(), *tokens.new(3).tolist()] == [0, 1, 2, 3, 4]


def test_visits_unfold_from_their_start_in_order_of_time() -> None:
    rng = np.random.default_rng(1)
    start, count = np.array([1_000, 50, 7]), np.array([3, 1, 2])
    visit, ordinal, time = expand(rng, start, count, gap_ms=500, sigma=1.0)
    assert visit.tolist() == [0, 0, 0, 1, 2, 2]
    assert ordinal.tolist() == [0, 1, 2, 0, 0, 1]
    assert time[ordinal == 0].tolist() == [1_000, 50, 7]
    assert np.all(np.diff(time)[visit[1:] == visit[:-1]] >= 0)


def test_lognormal_has_the_median_it_is_given() -> None:
    assert abs(np.median(lognormal(np.random.default_rng(1), 200.0, 0.7, 50_000)) / 200.0 - 1) < 0.02
