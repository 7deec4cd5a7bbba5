"""The simulated side of ``bench/false_positives.py``: our model against the product's frozen baseline, by the truth.

Both are fitted on the same payments with the labels known then (late, some never, some wrong) and judged on the weeks
that follow, by the truth. A fraud type that appears only after the training is among them.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.catch_handbook import ROOT, Say, Scored, carried
from fraud.windows import DAY
from simulation import lake as simulated_lake
from simulation.config import WorldConfig
from simulation.world import generate
from training.challenger import rows_of
from training.command_line import gather
from training.compromised import unblocked
from training.dataset import TrainingSet, labelled_at, with_features
from training.equal_catch import JudgedRows
from training.fit import BASELINE_FEATURES, BASELINE_RECIPE, fit_model
from training.labels import read_labels, read_truth
from training.profiles import write_profiles
from training.ranking import BoolArray

SIMULATED_RECALLS: Final = (0.5, 0.7)
WORLD: Final = WorldConfig(days=126, transactions_per_day=6_000, seed=11)
TEST_DAYS: Final = 28
WARM_UP_DAYS: Final = 14
TRAIN_DAYS: Final = 56
VALIDATION_DAYS: Final = 14
LABEL_DELAY_DAYS: Final = 14


def score_simulated(seeds: Sequence[int], say: Say) -> Scored:
    """Make a world, fit both sides for each seed and score the test rows."""
    as_of_ms = WORLD.end_ms - TEST_DAYS * DAY
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        say("simulated world: generating")
        simulated_lake.write(generate(WORLD), lake)
        write_profiles(lake, progress=lambda *_: None)
        say("simulated world: features, point in time, through Feast")
        rows, _ = gather(
            lake,
            ROOT / "feature_repo",
            start_ms=WORLD.start_ms + WARM_UP_DAYS * DAY,
            end_ms=WORLD.end_ms,
            as_of_ms=WORLD.end_ms,
        )
        statements, truth = read_labels(lake), read_truth(lake)
    assert truth is not None, "a simulated world has its truth"
    is_fraud, kinds = truth_of(rows, truth)
    free_rows = unblocked(rows, statements)
    taken = rows.between(as_of_ms, WORLD.end_ms)
    test = np.arange(taken.start, taken.stop)
    free = test[free_rows[test]]
    known = labelled_at(rows, statements, as_of_ms)
    validation_to = as_of_ms - LABEL_DELAY_DAYS * DAY
    validation_from = validation_to - VALIDATION_DAYS * DAY
    start = validation_from - TRAIN_DAYS * DAY
    fit_on, stop_on = rows.between(start, validation_from), rows.between(validation_from, validation_to)
    checked = np.arange(stop_on.start, stop_on.stop)
    checked = checked[free_rows[checked]]
    baseline, ours, carry = [], [], []
    simple = with_features(known, BASELINE_FEATURES)
    for seed in seeds:
        say(f"simulated world, seed {seed}: frozen baseline and our model")
        theirs = fit_model(
            rows_of(simple, fit_on), rows_of(simple, stop_on), BASELINE_FEATURES, seed=seed, recipe=BASELINE_RECIPE
        ).scores(simple.matrix)
        mine = fit_model(rows_of(known, fit_on), rows_of(known, stop_on), known.features, seed=seed).scores(rows.matrix)
        baseline.append(theirs)
        ours.append(mine)
        for side, scores in (("baseline", theirs), ("ours", mine)):
            carry += carried(side, seed, scores, is_fraud, checked, free, SIMULATED_RECALLS)
    return Scored(
        rows=JudgedRows(is_fraud[free], rows.event_time_ms[free], rows.amount_minor[free], kinds[free], {}),
        baseline=[scores[free] for scores in baseline],
        ours=[scores[free] for scores in ours],
        kept=(is_fraud[test], [scores[test] for scores in baseline], [scores[test] for scores in ours]),
        left_out=len(test) - len(free),
        carried=carry,
        about={"features": len(rows.features), "world": f"{WORLD.days} days x {WORLD.transactions_per_day:,}"},
    )


def truth_of(rows: TrainingSet, truth: pa.Table) -> tuple[BoolArray, Any]:
    """Return whether each row truly is fraud, and its type (empty text when it is not)."""
    found = truth.take(pc.index_in(rows.transaction_id, truth["transaction_id"].combine_chunks()))
    kinds = pc.fill_null(found["fraud_type"].cast(pa.string()), "").to_numpy(zero_copy_only=False)
    return found["is_fraud"].to_numpy(), np.asarray(kinds, object)
