"""A small world as a training set and as a lake: frauds every day, features that know of them, labels a week late."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.dataset import TrainingSet
from training.fit import BASELINE_FEATURES
from training.ranking import DAY_MS
from training.transaction_log import LABELS_SCHEMA, TRANSACTIONS_SCHEMA, TRUTH_SCHEMA, moments, write_transactions

DAYS = 70
ROWS = 9_000
START_MS = 20_000 * DAY_MS
DELAY_MS = 7 * DAY_MS
EXTRA = "amount_zscore_card_30d"


@dataclass(frozen=True)
class World:
    """The rows with the truth as their labels, and the statements about them."""

    rows: TrainingSet
    statements: pa.Table


def make_world(seed: int = 3) -> World:
    """Draw rows: one baseline feature knows a little of the fraud, a feature beyond the baseline's knows more."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(START_MS, START_MS + DAYS * DAY_MS, ROWS))
    is_fraud = rng.random(ROWS) < 0.06
    features = (*BASELINE_FEATURES, EXTRA)
    matrix = rng.normal(size=(ROWS, len(features))).astype(np.float32)
    matrix[:, 7] += 1.2 * is_fraud
    matrix[:, -1] += 2.2 * is_fraud
    ids = pa.array([f"t{number:06d}" for number in range(ROWS)])
    amount = rng.integers(100, 150_000, ROWS)
    rows = TrainingSet(
        features, matrix, ids, rng.integers(0, 4_000, ROWS), time, amount, is_fraud, START_MS + 200 * DAY_MS
    )
    frauds = np.flatnonzero(is_fraud)
    arrival = moments(time[frauds] + DELAY_MS)
    columns = [ids.take(pa.array(frauds)), pa.repeat(pa.scalar(value=True), len(frauds))]
    statements = pa.table([*columns, pa.repeat("chargeback", len(frauds)), arrival, arrival], schema=LABELS_SCHEMA)
    return World(rows, statements)


def write_world(world: World, folder: Path) -> None:
    """Write log, labels and truth of a world, with places and categories to be parted by."""
    rng = np.random.default_rng(1)
    rows, moment = world.rows, moments(world.rows.event_time_ms)
    size = len(rows.is_fraud)
    known = {
        "transaction_id": rows.transaction_id,
        "card_id": pa.array([f"c{card}" for card in rows.card]),
        "merchant_id": pa.repeat("m1", size),
        "amount_minor": pa.array(rows.amount_minor),
        "currency": pa.repeat("EUR", size),
        "event_timestamp": moment,
        "created_timestamp": moment,
        "channel": pa.array(rng.choice(["pos", "online"], size)),
        "merchant_category": pa.array(rng.choice([3100, 5411, 8999], size).astype(np.int32)),
        "country": pa.array(rng.choice(["BE", "FR", "DE", "NL", "LU", "IT", "ES"], size, p=[0.4, 0.2] + [0.08] * 5)),
    }
    table = pa.table(
        [known.get(field.name, pa.nulls(size, field.type)) for field in TRANSACTIONS_SCHEMA], schema=TRANSACTIONS_SCHEMA
    )
    write_transactions(table, rows.event_time_ms, folder, lambda *_: None)
    pq.write_table(world.statements, folder / "labels.parquet")
    kinds = pa.array([("theft" if number % 3 else "testing") if fraud else None
                      for number, fraud in enumerate(rows.is_fraud.tolist())], pa.string())  # fmt: skip
    pq.write_table(pa.table([rows.transaction_id, pa.array(rows.is_fraud), kinds], schema=TRUTH_SCHEMA),
                   folder / "truth.parquet")  # fmt: skip
