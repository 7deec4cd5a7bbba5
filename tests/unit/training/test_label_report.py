"""Labels are counted as they are: repeated, corrected, disputed, about nobody, never there."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.lakes import DAY_MS, START_MS, random_payments, write_lake
from training.errors import UnreadableSource
from training.label_report import report_labels
from training.maturity_plot import draw_maturity
from training.transaction_log import LABELS_SCHEMA, TRUTH_SCHEMA, moments

PAYMENTS = random_payments(61, 200, days=60)
AS_OF_MS = START_MS + DAY_MS


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Forty frauds known after three days; one of them said twice, one corrected, one disputed, one about nobody."""
    write_lake(tmp_path, PAYMENTS)
    said = [(p.transaction_id, True, "chargeback", p.event_time_ms + 3 * DAY_MS) for p in PAYMENTS[:40]]
    first, second, third = (p.transaction_id for p in PAYMENTS[:3])
    late = PAYMENTS[0].event_time_ms + 9 * DAY_MS
    said += [(first, True, "chargeback", late), (second, False, "chargeback", late), (third, False, "report", late)]
    said += [("nobody's", True, "report", late), (PAYMENTS[50].transaction_id, True, "report", AS_OF_MS + 1)]
    arrival = moments(np.array([time for *_, time in said], np.int64))
    columns = [pa.array(list(column)) for column in list(zip(*said, strict=True))[:3]]
    pq.write_table(pa.table([*columns, arrival, arrival], schema=LABELS_SCHEMA), tmp_path / "labels.parquet")
    return tmp_path


def test_every_kind_of_statement_is_counted(lake: Path) -> None:
    found = report_labels(lake, as_of_ms=AS_OF_MS)
    assert (found.transactions, found.statements, found.unknown) == (200, 44, 1)
    assert (found.repeated, found.corrected, found.disputed) == (1, 1, 1)
    assert found.frauds == 39
    assert found.by_source == {"chargeback": 42, "report": 2}
    assert set(found.days_until.values()) == {4}
    assert found.never is None
    assert found.figures()["curve"]["arrived"] == [0.0, 0.0, 0.0, 1.0]


def test_frauds_that_no_label_names_are_counted_where_the_truth_is_known(lake: Path) -> None:
    truly = {payment.transaction_id for payment in PAYMENTS[:60]}
    ids = [payment.transaction_id for payment in PAYMENTS]
    truth = pa.table([ids, [name in truly for name in ids], [None] * len(ids)], schema=TRUTH_SCHEMA)
    pq.write_table(truth, lake / "truth.parquet")
    assert report_labels(lake, as_of_ms=AS_OF_MS).never == pytest.approx(1 - 39 / 60)


def test_a_lake_without_log_or_with_too_few_frauds_is_refused(lake: Path, tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match="too few for a maturity curve"):
        report_labels(lake, as_of_ms=PAYMENTS[2].event_time_ms + 4 * DAY_MS)
    with pytest.raises(UnreadableSource, match="transactions is missing"):
        report_labels(tmp_path / "nowhere", as_of_ms=AS_OF_MS)


def test_the_curve_can_be_drawn(lake: Path) -> None:
    draw_maturity(lake / "curve.png", report_labels(lake, as_of_ms=AS_OF_MS).curve)
    assert (lake / "curve.png").stat().st_size > 10_000
