import numpy as np
import pytest

from demo.learning import _caught_by_type, _flagged
from training.evaluation import Evaluation, evaluate


def judged(scores: np.ndarray, fraud: np.ndarray) -> Evaluation:
    rows = np.arange(len(fraud), dtype=np.int64)
    return evaluate(
        scores, fraud, rows + 1, rows, rows * 86_400_000 // 200, recall_targets=(0.5,), k=5, seed=0, resamples=20
    )


@pytest.mark.parametrize("ties", [False, True])
def test_third_column_spends_the_baseline_s_false_positives(ties: bool) -> None:
    rng = np.random.default_rng(3)
    rows = 5000
    fraud = rng.random(rows) < 0.04
    theirs, ours = (np.clip(fraud * lift + rng.random(rows) * 0.6, 0, 1) for lift in (0.1, 0.25))
    if ties:
        ours = np.round(ours, 2)
    one, two, three = _flagged(theirs, ours, fraud, [judged(theirs, fraud), judged(ours, fraud)])
    alarms = [int((flagged & ~fraud).sum()) for flagged in (one, two, three)]
    assert alarms[1] < alarms[0]
    assert alarms[2] <= alarms[0]
    assert ties or alarms[2] == alarms[0]
    assert one[fraud].mean() == pytest.approx(0.5, abs=0.01)
    kinds = np.where(fraud, np.where(rng.random(rows) < 0.5, "cash_out", "testing"), "").astype(object)
    caught = _caught_by_type((one, two, three), kinds)
    assert set(caught) == {"cash_out", "testing"}
    assert sum(each.frauds for each in caught.values()) == fraud.sum()
    assert sum(each.ours_at_their_alarms * each.frauds for each in caught.values()) == pytest.approx(three[fraud].sum())
    assert all(each.ours_at_their_alarms >= each.ours for each in caught.values())
