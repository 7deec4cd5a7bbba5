"""Labels settle column by column as they do one by one, and a label file that is none is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.label import PRECEDENCE, Label, settle
from stores.errors import UnreadableSource as Unreadable
from training.errors import UnreadableSource
from training.labels import read_labels, read_truth, settle_labels
from training.transaction_log import LABELS_SCHEMA, moments

IDS = ["a", "b", "c", "d"]


def table(labels: list[Label]) -> pa.Table:
    return pa.table(
        {
            "transaction_id": pa.array([label.transaction_id for label in labels], pa.string()),
            "is_fraud": pa.array([label.is_fraud for label in labels], pa.bool_()),
            "source": pa.array([label.source for label in labels], pa.string()),
            "event_timestamp": moments(np.array([label.event_time_ms for label in labels], np.int64)),
            "created_timestamp": moments(np.array([label.arrival_time_ms for label in labels], np.int64)),
        },
        schema=LABELS_SCHEMA,
    )


statements = st.builds(
    lambda name, fraud, source, made, late: Label(name, fraud, source, made, made + late),
    st.sampled_from([*IDS, "elsewhere"]),
    st.booleans(),
    st.sampled_from(PRECEDENCE),
    st.integers(0, 4),
    st.integers(0, 4),
)


@settings(deadline=None)
@given(st.lists(statements, max_size=14), st.integers(0, 9))
def test_columns_settle_as_single_labels_do(labels: list[Label], as_of_ms: int) -> None:
    found = settle_labels(table(labels), pa.array(IDS), as_of_ms=as_of_ms)
    each = [settle([label for label in labels if label.transaction_id == name], as_of_ms) for name in IDS]
    assert found.labelled.tolist() == [label is not None for label in each]
    assert found.is_fraud.tolist() == [label is not None and label.is_fraud for label in each]


@settings(deadline=None)
@given(st.lists(statements, max_size=14), st.randoms(use_true_random=False))
def test_the_order_of_the_statements_decides_nothing(labels: list[Label], draw: object) -> None:
    shuffled = sorted(labels, key=lambda _: draw.random())  # type: ignore[attr-defined]
    one, other = (settle_labels(table(some), pa.array(IDS), as_of_ms=6) for some in (labels, shuffled))
    assert one.is_fraud.tolist() == other.is_fraud.tolist()


def test_a_label_is_known_from_its_arrival_and_not_from_its_making() -> None:
    labels = table([Label("a", is_fraud=True, source="chargeback", event_time_ms=1, arrival_time_ms=50)])
    before, at = (settle_labels(labels, pa.array(["a"]), as_of_ms=time) for time in (49, 50))
    assert (before.is_fraud.tolist(), at.is_fraud.tolist()) == ([False], [True])


def test_a_source_without_a_place_in_the_order_is_named() -> None:
    labels = table([Label("a", is_fraud=True, source="report", event_time_ms=1, arrival_time_ms=1)])
    rumour = labels.set_column(2, "source", pa.array(["rumour"]))
    with pytest.raises(UnreadableSource, match="'rumour' is none of verdict, chargeback, report"):
        settle_labels(rumour, pa.array(["a"]), as_of_ms=1)


def test_missing_labels_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match=r"labels\.parquet is missing: generate or import"):
        read_labels(tmp_path)


def test_labels_that_are_no_parquet_or_lack_a_column_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    path.write_bytes(b"transaction_id,is_fraud\n")
    with pytest.raises(Unreadable, match=r"labels\.parquet cannot be read"):
        read_labels(tmp_path)
    pq.write_table(table([]).drop_columns(["source"]), path)
    with pytest.raises(Unreadable, match=r"labels\.parquet has no column 'source'; it has transaction_id"):
        read_labels(tmp_path)


def test_truth_is_null_where_nobody_knows_it(tmp_path: Path) -> None:
    assert read_truth(tmp_path) is None
