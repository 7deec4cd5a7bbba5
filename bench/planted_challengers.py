"""Real fits on the simulated world, worsened on purpose, for ``bench/gate_error_rates.py``.

A champion and challengers are fitted as the weekly loop fits them, by the labels known at one time, and judged on every
week that follows, by the labels known one delay later. A challenger's true quality is its PR-AUC over all those weeks,
by the truth, relative to the champion's: the gate sees one week of it.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from bench.catch_handbook import ROOT
from bench.catch_simulated import truth_of
from fraud.windows import DAY
from retraining.gate import judge
from retraining.held_out import HeldOut, PackedModel, Thresholds
from retraining.verdict import Verdict
from simulation import lake as simulated_lake
from simulation.config import WorldConfig
from simulation.world import generate
from training.challenger import rows_of
from training.command_line import gather
from training.compromised import unblocked
from training.dataset import TrainingSet, labelled_at
from training.fit import RECIPE, FittedModel, Rows, choose_policy, fit_model
from training.labels import read_labels, read_truth
from training.metrics import average_precision
from training.profiles import write_profiles
from training.ranking import BoolArray, FloatArray

WORLD: Final = WorldConfig(days=140, transactions_per_day=4_000, seed=23, fraud_share=0.012)
WARM_UP_DAYS, TRAIN_DAYS, VALIDATION_DAYS, LABEL_DELAY_DAYS, WEEKS = 7, 35, 7, 14, 9
REVIEW_SHARE, INSULT_SHARE = 0.01, 0.001
PACKED: Final = PackedModel(fault=None, total_bytes=2**20, trees=100)
NOISES: Final = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Standard deviations of what is added to a challenger's margin, by card and day, so that it cannot average out."""
BLIND: Final = "blind to a type"


@dataclass(frozen=True)
class Planted:
    """What the gate said of one challenger, week after week.

    Parameters
    ----------
    held_out
        Size of a week.
    challenger, ratio
        How it was made; its true PR-AUC over the champion's, null where that is not the point.
    verdicts
        One for each week.
    """

    held_out: str
    challenger: str
    ratio: float | None
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Stage:
    """The rows of the weeks and of validation, and what is known of them."""

    rows: TrainingSet
    fit: slice
    stop: slice
    weeks: tuple[slice, ...]
    free: BoolArray
    is_fraud: BoolArray
    kinds: np.ndarray[tuple[int], np.dtype[np.object_]]


def planted_rates(seed: int) -> Iterator[Planted]:
    """Yield each planted challenger with the verdicts it got."""
    with Console(stderr=True).status("simulated world: generating, features through Feast"):
        stage = _stage()
    champion = _fitted(stage, seed=seed)
    scores = champion.scores(stage.rows.matrix)
    yield _judged(stage, "another seed", scores, _fitted(stage, seed=seed + 1).scores(stage.rows.matrix))
    for share in (0.5, 0.25, 0.1):
        fewer = _fitted(stage, seed=seed, labels=share).scores(stage.rows.matrix)
        yield _judged(stage, f"{share:.0%} of the labels", scores, fewer)
    yield _judged(stage, "without history", scores, _fitted(stage, seed=seed, features=10).scores(stage.rows.matrix))
    weak = _fitted(stage, seed=seed, labels=0.25, features=10).scores(stage.rows.matrix)
    yield _judged(stage, "better than a weak champion", weak, scores)
    for noise in NOISES:
        yield _judged(stage, f"noise {noise:g}", scores, _noisy(stage, champion, noise, seed))
    for kind in np.unique(stage.kinds[stage.is_fraud].astype(str)):
        blind = stage.is_fraud & (stage.kinds == kind)
        share = blind.sum() / stage.is_fraud.sum()
        low = np.random.default_rng(seed).choice(scores[~stage.is_fraud], len(scores))
        found = _judged(stage, f"{BLIND}: {kind}, {share:.0%}", scores, np.where(blind, low, scores))
        if share >= TENTH:
            yield replace(found, ratio=None)


TENTH: Final = 0.1
"""Least share of the frauds that a type must be for its loss to count as worse."""


def _stage() -> Stage:
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        simulated_lake.write(generate(WORLD), lake)
        write_profiles(lake, progress=lambda *_: None)
        start = WORLD.start_ms + WARM_UP_DAYS * DAY
        rows, _ = gather(lake, ROOT / "feature_repo", start_ms=start, end_ms=WORLD.end_ms, as_of_ms=WORLD.end_ms)
        statements, truth = read_labels(lake), read_truth(lake)
    assert truth is not None, "a simulated world has its truth"
    is_fraud, kinds = truth_of(rows, truth)
    train_to = start + TRAIN_DAYS * DAY
    stop_to = train_to + VALIDATION_DAYS * DAY
    first = stop_to + LABEL_DELAY_DAYS * DAY
    known = labelled_at(rows, statements, first)
    later = labelled_at(rows, statements, WORLD.end_ms)
    cut = int(rows.between(stop_to, stop_to + 1).start)
    labels = np.concatenate([known.is_fraud[:cut], later.is_fraud[cut:]])
    weeks = tuple(rows.between(first + 7 * week * DAY, first + 7 * (week + 1) * DAY) for week in range(WEEKS))
    return Stage(
        replace(rows, is_fraud=labels), rows.between(start, train_to), rows.between(train_to, stop_to), weeks,
        unblocked(rows, statements), is_fraud, kinds,
    )  # fmt: skip


def _fitted(stage: Stage, *, seed: int, labels: float = 1.0, features: int | None = None) -> FittedModel:
    """Return a fit; with fewer labels the other frauds of the training pass for legitimate."""
    rows = stage.rows
    kept = np.random.default_rng(seed).random(len(rows.is_fraud)) < labels
    train = rows_of(rows, stage.fit)
    train = Rows(train.matrix, train.is_fraud & kept[stage.fit])
    validation = rows_of(rows, stage.stop)
    if features is not None:
        # Columns that are always missing are columns that nobody computed; the model's width stays.
        train, validation = (Rows(_without(part.matrix, features), part.is_fraud) for part in (train, validation))
    return fit_model(train, validation, rows.features, seed=seed, recipe=replace(RECIPE, trees=100))


def _without(
    matrix: np.ndarray[tuple[int, int], np.dtype[np.float32]], features: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    left = matrix.copy()
    left[:, features:] = np.nan
    return left


def _noisy(stage: Stage, model: FittedModel, noise: float, seed: int) -> FloatArray:
    """Return the scores of a model whose margin carries an error that a card keeps for a day, calibrated anew."""
    from training.fit import fit_calibration

    rows = stage.rows
    key = rows.card * 100_003 + rows.event_time_ms // DAY
    _, place = np.unique(key, return_inverse=True)
    error = np.random.default_rng(seed).normal(0.0, noise, int(place.max()) + 1)[place]
    margin = model.margins(rows.matrix) + error
    held = fit_calibration(margin[stage.stop], rows.is_fraud[stage.stop])
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * (held.slope * margin + held.intercept))), np.float64)


def _judged(stage: Stage, name: str, champion: FloatArray, challenger: FloatArray) -> Planted:
    rows, points = stage.rows, []
    for scores in (champion, challenger):
        policy = choose_policy(
            scores[stage.stop], rows.is_fraud[stage.stop], version="x", review_share=REVIEW_SHARE,
            insult_share=INSULT_SHARE,
        )  # fmt: skip
        points.append((policy.review_at, policy.decline_at))
    at = Thresholds(points[0], points[1], REVIEW_SHARE, INSULT_SHARE)
    verdicts = tuple(judge(_held(stage, week, champion, challenger, at), PACKED) for week in stage.weeks)
    after = slice(stage.weeks[0].start, stage.weeks[-1].stop)
    taken = np.arange(after.start, after.stop)[stage.free[after]]
    areas = [average_precision(scores[taken], stage.is_fraud[taken]) for scores in (champion, challenger)]
    size = f"7 days x {WORLD.transactions_per_day:,}"
    return Planted(size, name, areas[1] / areas[0], verdicts)


def _held(stage: Stage, week: slice, champion: FloatArray, challenger: FloatArray, at: Thresholds) -> HeldOut:
    rows = stage.rows
    taken = np.arange(week.start, week.stop)[stage.free[week]]
    return HeldOut(
        champion[taken], challenger[taken], rows.is_fraud[taken], rows.event_time_ms[taken], rows.amount_minor[taken],
        fraud_type=np.where(rows.is_fraud[taken], stage.kinds[taken], ""), card=rows.card[taken], thresholds=at,
    )  # fmt: skip
