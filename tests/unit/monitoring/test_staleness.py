"""A lagging store is a store without the newest changes, and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fraud.features import FEATURE_NAMES, NO_PROFILES, VELOCITY, evaluate
from fraud.ring import new_scratch
from fraud.transaction import Transaction
from fraud.velocity import entity_key, report_change, transaction_change, update
from fraud.windows import ENTITIES
from monitoring.errors import NothingToCompare
from monitoring.staleness import Lagging, last_days, threshold_at_fpr, truth_of
from stores.columns import same_bits
from tests.support.lakes import FraudReport, random_payments, some_reports, write_lake
from training.dataset import read_log
from training.offline_vectors import history_vectors

LAG = 60_000
FIRST = FEATURE_NAMES.index(VELOCITY[0].name)
COLUMNS = slice(FIRST, FIRST + len(VELOCITY))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Transaction], list[FraudReport]]:
    folder = tmp_path_factory.mktemp("staleness")
    payments = random_payments(8, 400)
    reports = some_reports(payments, 8)
    write_lake(folder, payments, reports)
    return folder, payments, reports


@pytest.fixture(scope="module")
def lagging(world: tuple[Path, Any, Any]) -> tuple[Lagging, pa.Table, Any]:
    rows = read_log(world[0], 0, 2**42)
    current = history_vectors(world[0], rows)
    return Lagging(world[0], rows, current), rows, current


def states_before(
    asked: Transaction, payments: list[Transaction], reports: list[FraudReport], lag_ms: int
) -> dict[Any, bytes]:
    """States made by the algebra of exactly what had happened ``lag_ms`` before, one change after the other."""
    by_id = {payment.transaction_id: payment for payment in payments}
    states: dict[Any, bytes] = {}
    for entity in ENTITIES:
        key = entity_key(entity, asked)
        changes = [(p.event_time_ms, transaction_change(entity, p)) for p in payments if entity_key(entity, p) == key]
        changes += [
            (r.known_ms, report_change(r.transaction_id, r.known_ms))
            for r in reports
            if entity_key(entity, by_id[r.transaction_id]) == key
        ]
        states[entity] = b""
        for time_ms, change in sorted(changes, key=lambda item: item[0]):
            if key is not None and time_ms < asked.event_time_ms and time_ms <= asked.event_time_ms - lag_ms:
                states[entity], _ = update(entity, states[entity], change)
    return states


@pytest.mark.parametrize("lag_ms", [0, 1, LAG])
def test_lagging_vectors_are_those_of_lagging_states(
    world: tuple[Path, list[Transaction], list[FraudReport]], lagging: tuple[Lagging, pa.Table, Any], lag_ms: int
) -> None:
    _, payments, reports = world
    found = lagging[0].vectors(lag_ms, write_through=False)
    by_id = {payment.transaction_id: payment for payment in payments}
    scratch = new_scratch()
    for place, name in list(enumerate(lagging[1]["transaction_id"].to_pylist()))[::7]:
        asked = by_id[name]
        expected = evaluate(asked, states_before(asked, payments, reports, lag_ms), NO_PROFILES, scratch)
        assert same_bits(found[place, COLUMNS], expected[COLUMNS]).all(), name


def test_no_lag_changes_nothing(lagging: tuple[Lagging, pa.Table, Any]) -> None:
    asked, _, current = lagging
    assert same_bits(asked.vectors(0, write_through=False), current).all()


def test_write_through_leaves_only_merchants_declines_and_reports_behind(
    lagging: tuple[Lagging, pa.Table, Any],
) -> None:
    asked, _, current = lagging
    through = np.any(~same_bits(asked.vectors(LAG, write_through=True), current), axis=0).tolist()
    without = np.any(~same_bits(asked.vectors(LAG, write_through=False), current), axis=0).tolist()
    behind = {name for name, moved in zip(FEATURE_NAMES, through, strict=True) if moved}
    assert behind
    assert all("merchant" in name or "_declined_" in name or "_report_" in name for name in behind)
    assert without[FEATURE_NAMES.index("card_transaction_count_1m")]


def test_threshold_lets_through_no_more_than_the_share_allowed() -> None:
    dice = np.random.default_rng(0)
    scores, fraud = dice.random(1_000), dice.random(1_000) < 0.1
    for fpr in (0.001, 0.01, 0.2):
        threshold = threshold_at_fpr(scores, fraud, fpr)
        alerts = int((scores[~fraud] > threshold).sum())
        assert alerts == int(fpr * (~fraud).sum())


def test_labels_stand_in_where_nobody_knows_the_truth(world: tuple[Path, Any, list[FraudReport]]) -> None:
    lake, _, reports = world
    rows = read_log(lake, 0, 2**42)
    fraud, source = truth_of(lake, rows)
    reported = {report.transaction_id for report in reports}
    assert source == "labels.parquet"
    assert set(np.array(rows["transaction_id"].to_pylist())[fraud]) == reported


def test_last_days_end_with_the_lake(world: tuple[Path, list[Transaction], Any], tmp_path: Path) -> None:
    lake, payments, _ = world
    rows = last_days(lake, 3)
    newest = max(payment.event_time_ms for payment in payments)
    times = rows["event_timestamp"].cast(pa.int64()).to_numpy() // 1000
    assert times.max() == newest
    assert times.max() - times.min() < 3 * 86_400_000
    with pytest.raises(NothingToCompare):
        last_days(tmp_path, 3)
