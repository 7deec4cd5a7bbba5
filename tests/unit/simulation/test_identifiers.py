import numpy as np

from simulation.identifiers import hexadecimal, numbered, scramble


def test_every_number_gets_its_own_scrambled_number() -> None:
    every = scramble(np.arange(1 << 16), bits=16, key=7)
    assert len(np.unique(every)) == 1 << 16
    assert every.max() == (1 << 16) - 1


def test_order_is_hidden_and_depends_on_the_key() -> None:
    numbers = np.arange(50_000)
    first, second = scramble(numbers, bits=48, key=7), scramble(numbers, bits=48, key=8)
    assert abs(np.corrcoef(numbers, first.astype(float))[0, 1]) < 0.02
    assert np.mean(first == second) < 0.001


def test_hexadecimal_ids_sort_like_their_numbers() -> None:
    numbers = np.sort(scramble(np.arange(500), bits=48, key=1))
    ids = hexadecimal(numbers, prefix="t", digits=12).to_pylist()
    assert ids == sorted(ids)
    assert ids[3] == f"t{int(numbers[3]):012x}"


def test_numbered_ids_are_padded() -> None:
    assert numbered(2, prefix="m", digits=5).to_pylist() == ["m00000", "m00001"]
