"""The picture is a real PNG and refuses what it cannot draw."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from training.errors import InvalidMetricInput, UnwritableOutput
from training.evaluation import compare, evaluate
from training.plots import draw_comparison
from training.ranking import DAY_MS, FloatArray

RNG = np.random.default_rng(3)
IS_FRAUD = RNG.random(2000) < 0.05
BASELINE = np.clip(RNG.beta(1, 12, 2000) + 0.2 * IS_FRAUD, 0, 1)
OURS = np.clip(RNG.beta(1, 12, 2000) + 0.5 * IS_FRAUD, 0, 1)
TIME = RNG.integers(0, 9 * DAY_MS, 2000)


def draw(path: Path, our_scores: FloatArray, *, recall: float = 0.6) -> None:
    amount, card = np.full(2000, 100), np.arange(2000) % 300
    baseline, ours = (
        evaluate(s, IS_FRAUD, amount, card, TIME, recall_targets=(0.6,), k=5, seed=1, resamples=20)
        for s in (BASELINE, our_scores)
    )
    cut = compare(BASELINE, our_scores, IS_FRAUD, TIME, recall=recall, seed=1, resamples=20)
    draw_comparison(
        path,
        baseline=baseline,
        ours=ours,
        cuts=[cut],
        baseline_scores=BASELINE,
        our_scores=our_scores,
        is_fraud=IS_FRAUD,
    )


def test_picture_is_drawn_and_shows_both_models(tmp_path: Path) -> None:
    draw(tmp_path / "picture.png", OURS)
    pixels = imread(tmp_path / "picture.png")
    assert pixels.shape[0] > 900
    assert pixels.shape[1] > 1300
    colours = {tuple(colour) for colour in np.rint(pixels[..., :3].reshape(-1, 3) * 255).astype(int)}
    assert {(0x8A, 0x8F, 0x98), (0x0B, 0x6E, 0x99)} <= colours


def test_a_perfect_model_without_false_positives_can_be_drawn(tmp_path: Path) -> None:
    draw(tmp_path / "picture.png", np.where(IS_FRAUD, 0.99, 0.0))
    assert (tmp_path / "picture.png").stat().st_size > 20_000


def test_scores_that_are_no_probabilities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidMetricInput, match="no probabilities"):
        draw(tmp_path / "picture.png", OURS * 100)


def test_a_recall_that_was_not_evaluated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidMetricInput, match=r"recall target 0\.5"):
        draw(tmp_path / "picture.png", OURS, recall=0.5)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnwritableOutput, match=r"absent.picture\.png"):
        draw(tmp_path / "absent" / "picture.png", OURS)
