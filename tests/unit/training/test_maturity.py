"""The maturity curve is unbiased where a plain average is not, and corrections are no frauds."""

import numpy as np
import pyarrow as pa
import pytest

from training.errors import UnreadableSource
from training.maturity import estimate_maturity, fraud_delays
from training.ranking import DAY_MS
from training.transaction_log import LABELS_SCHEMA, moments


def test_young_frauds_do_not_make_labels_look_quick() -> None:
    rng = np.random.default_rng(2)
    as_of_ms = 90 * DAY_MS
    time = rng.integers(0, as_of_ms, 12_000)
    delay = (rng.lognormal(np.log(10), 0.7, 12_000) * DAY_MS).astype(np.int64)
    seen = time + delay <= as_of_ms
    curve = estimate_maturity(time[seen], delay[seen], as_of_ms=as_of_ms, resamples=100)
    for age in (5, 10, 20, 40):
        true = float((delay < age * DAY_MS).mean())
        plain = float((delay[seen] < age * DAY_MS).mean())
        assert curve.share_at(age) == pytest.approx(true, abs=0.02)
        assert curve.low[age - 1] <= true <= curve.high[age - 1]
        assert plain > true
    assert (delay[seen] < 10 * DAY_MS).mean() - (delay < 10 * DAY_MS).mean() > 0.04
    assert curve.days_until(0.5) == pytest.approx(10, abs=1)
    assert (np.diff(curve.arrived) >= 0).all()
    assert curve.arrived[-1] == 1.0


def test_a_fixed_delay_is_a_step() -> None:
    time = np.arange(200) * DAY_MS // 2
    curve = estimate_maturity(time, np.full(200, 7 * DAY_MS), as_of_ms=120 * DAY_MS)
    assert curve.arrived.tolist() == [0.0] * 7 + [1.0]
    assert curve.days_until(0.95) == 8


def test_labels_of_the_future_or_too_few_are_refused() -> None:
    with pytest.raises(UnreadableSource, match="after the time the labels were read"):
        estimate_maturity(np.zeros(20, np.int64), np.full(20, 5), as_of_ms=4)
    with pytest.raises(UnreadableSource, match="3 fraud labels are too few"):
        estimate_maturity(np.zeros(3, np.int64), np.zeros(3, np.int64), as_of_ms=9 * DAY_MS)


def statements(*said: tuple[str, bool, str, int]) -> pa.Table:
    """Statements of (transaction, fraud, source, day of arrival)."""
    arrival = moments(np.array([day * DAY_MS for *_, day in said], np.int64))
    columns = [pa.array([one[0] for one in said]), pa.array([one[1] for one in said])]
    return pa.table([*columns, pa.array([one[2] for one in said]), arrival, arrival], schema=LABELS_SCHEMA)


def test_the_first_word_dates_a_fraud_and_a_corrected_one_is_none() -> None:
    said = statements(
        ("a", True, "report", 5),
        ("a", True, "chargeback", 30),
        ("b", True, "report", 4),
        ("b", False, "verdict", 6),
        ("c", True, "chargeback", 50),
        ("elsewhere", True, "chargeback", 3),
    )
    ids, time = pa.array(["a", "b", "c"]), np.array([1, 1, 1]) * DAY_MS
    found, delay = fraud_delays(said, ids, time, as_of_ms=40 * DAY_MS)
    assert (found.tolist(), delay.tolist()) == ([DAY_MS], [4 * DAY_MS])
    before_the_verdict = fraud_delays(said, ids, time, as_of_ms=5 * DAY_MS)[1]
    assert sorted(before_the_verdict.tolist()) == [3 * DAY_MS, 4 * DAY_MS]
