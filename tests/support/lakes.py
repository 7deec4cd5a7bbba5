"""Small data sets on disk: a few busy cards, merchants and devices, with ties, repeats, declines and fraud reports."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fraud.transaction import CHANNELS, Transaction

START_MS = 1_770_000_000_000
DAY_MS = 86_400_000
MOMENT = pa.timestamp("us", "UTC")

SCHEMA = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("card_id", pa.string()),
        ("merchant_id", pa.string()),
        ("device_id", pa.string()),
        ("ip", pa.string()),
        ("amount_minor", pa.int64()),
        ("currency", pa.string()),
        ("event_timestamp", MOMENT),
        ("created_timestamp", MOMENT),
        ("channel", pa.string()),
        ("merchant_category", pa.int32()),
        ("country", pa.string()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("authorised", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class FraudReport:
    """A label that says fraud, and when it became known."""

    transaction_id: str
    known_ms: int


def moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def random_payments(seed: int, count: int, *, days: int = 45) -> list[Transaction]:
    """Payments sorted by time: bursts of one card, milliseconds shared, half of them with a device."""
    draw, addresses = random.Random(seed), random.Random(seed + 1)
    time = START_MS - days * DAY_MS
    out = []
    for index in range(count):
        time += draw.choice([0, 1, 900, 20_000, 600_000, 2 * days * DAY_MS // count])
        placed = draw.random() < 0.6
        out.append(
            Transaction(
                transaction_id=f"t{seed}-{index}",
                card_id=f"c{draw.randrange(10)}",
                merchant_id=f"m{draw.randrange(4)}",
                device_id=f"d{draw.randrange(6)}" if draw.random() < 0.5 else None,
                ip=f"i{addresses.randrange(9)}" if addresses.random() < 0.6 else None,
                amount_minor=draw.choice([1, 200, 201, 4_999, draw.randrange(1, 10**6)]),
                currency="EUR",
                event_time_ms=min(time, START_MS - 1),
                channel=draw.choice(CHANNELS),
                merchant_category=draw.choice([5411, 5999]),
                country=draw.choice(["DE", "FR", "GB"]),
                latitude=draw.uniform(-80, 80) if placed else None,
                longitude=draw.uniform(-179, 179) if placed else None,
                authorised=draw.choice([True, True, False, None]),
            )
        )
    return out


def some_reports(payments: Sequence[Transaction], seed: int) -> list[FraudReport]:
    """A tenth of the payments, reported days later."""
    draw = random.Random(seed)
    late = [(payment, payment.event_time_ms + draw.randrange(1, 20) * DAY_MS) for payment in payments[::10]]
    return [FraudReport(payment.transaction_id, known) for payment, known in late if known < START_MS]


def write_lake(
    lake: Path,
    payments: Sequence[Transaction],
    reports: Sequence[FraudReport] = (),
    delays_ms: Mapping[str, int] | None = None,
) -> None:
    """Write a transaction log by day, and labels: the reports, and as many that say legitimate.

    ``delays_ms`` says by transaction id how long after its event time a payment arrived; at once where it says nothing.
    """
    days: dict[str, list[Transaction]] = {}
    for payment in payments:
        days.setdefault(moment(payment.event_time_ms).date().isoformat(), []).append(payment)
    for day, paid in days.items():
        folder = lake / "transactions" / f"dt={day}"
        folder.mkdir(parents=True, exist_ok=True)
        rows = [log_row(payment, (delays_ms or {}).get(payment.transaction_id, 0)) for payment in paid]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "part-0.parquet")
    said = [(report.transaction_id, True, report.known_ms) for report in reports]
    said += [(payment.transaction_id, False, payment.event_time_ms + 1) for payment in payments[: len(reports)]]
    labels = {
        "transaction_id": pa.array([name for name, _, _ in said], pa.string()),
        "is_fraud": pa.array([fraud for _, fraud, _ in said], pa.bool_()),
        "source": pa.array(["chargeback"] * len(said), pa.string()),
        "event_timestamp": pa.array([known * 1000 for _, _, known in said], pa.int64()).cast(MOMENT),
        "created_timestamp": pa.array([known * 1000 for _, _, known in said], pa.int64()).cast(MOMENT),
    }
    pq.write_table(pa.table(labels), lake / "labels.parquet")


def log_row(payment: Transaction, delay_ms: int = 0) -> dict[str, Any]:
    row = {name: getattr(payment, name) for name in SCHEMA.names if hasattr(payment, name)}
    time, arrival = moment(payment.event_time_ms), moment(payment.event_time_ms + delay_ms)
    return row | {"event_timestamp": time, "created_timestamp": arrival}


def entity_frame(payments: Sequence[Transaction]) -> pd.DataFrame:
    """The rows a data scientist asks about: keys, times and request values."""
    return pd.DataFrame(
        [entity_row(payment) | {"event_timestamp": moment(payment.event_time_ms)} for payment in payments]
    )


def entity_row(payment: Transaction) -> dict[str, Any]:
    """Keys and request values of one payment, as Feast wants them."""
    device = payment.device_id or ""
    return {
        "card_id": payment.card_id,
        "merchant_id": payment.merchant_id,
        "device_id": device,
        "ip": payment.ip or "",
        "event_time_ms": payment.event_time_ms,
        "amount_minor": payment.amount_minor,
        "card_token": payment.card_id,
        "merchant_token": payment.merchant_id,
        "device_token": device,
        "channel": payment.channel,
        "merchant_category": payment.merchant_category,
        "country": payment.country,
        "latitude": payment.latitude,
        "longitude": payment.longitude,
    }
