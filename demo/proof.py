"""After the hour: whether what was served is what the log says, and how fresh it was."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from demo.places import Places
from demo.replay import percentiles
from fraud.features import FEATURE_NAMES, SERVICE
from fraud.transaction import Transaction
from monitoring.certificate import certify_decisions, read_applied
from monitoring.decision_log import Logged
from monitoring.offline import feast_vectors
from monitoring.parity import Parity
from stores.columns import same_bits
from training.dataset import entity_rows
from training.transaction_log import TRANSACTIONS_SCHEMA


def join_the_lake(places_: Places) -> int:
    """Put the transactions that the worker logged beside the history, as the offline log has them; return how many."""
    rows = 0
    for part in sorted((places_.stream / "transactions").rglob("*.parquet")):
        table = pq.read_table(part, partitioning=None).select(TRANSACTIONS_SCHEMA.names)
        folder = places_.lake / "transactions" / part.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "part-stream.parquet", compression="zstd")
        rows += len(table)
    return rows


def applied_rows(places_: Places) -> pa.Table:
    """Return the worker's log of which transaction made which revision."""
    return read_applied(places_.stream)


def certify(store: Any, logged: Sequence[Logged], places_: Places, streamed: Sequence[str]) -> Parity:
    """Compare every served vector with the log, by Feast's own historical features; see :mod:`monitoring.parity`."""
    return certify_decisions(
        places_.lake,
        logged,
        applied_rows(places_),
        streamed_ids=streamed,
        evaluate=lambda _lake, rows: feast_vectors(store, entity_rows(rows)),
    )


def compare_at_rest(store: Any, transactions: Sequence[Transaction], *, as_of_ms: int) -> dict[str, int]:
    """Ask Feast online and offline the same questions once the stream is quiet; return compared and mismatches."""
    rows = [_request(transaction, as_of_ms) for transaction in transactions]
    service = store.get_feature_service(SERVICE)
    online = store.get_online_features(features=service, entity_rows=rows).to_dict()
    moment = datetime.fromtimestamp(as_of_ms / 1000, UTC)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    entities = pa.table(columns | {"event_timestamp": pa.array([moment] * len(rows), pa.timestamp("us", "UTC"))})
    offline = feast_vectors(store, entities)
    as_numbers = np.array(
        [[np.nan if value is None else float(value) for value in online[name]] for name in FEATURE_NAMES]
    ).T
    wrong = ~same_bits(as_numbers, offline)
    return {"compared": len(rows), "mismatches": int(wrong.any(axis=1).sum())}


def _request(transaction: Transaction, as_of_ms: int) -> dict[str, Any]:
    device = transaction.device_id or ""
    return {
        "card_id": transaction.card_id,
        "device_id": device,
        "ip": transaction.ip or "",
        "merchant_id": transaction.merchant_id,
        "event_time_ms": as_of_ms,
        "amount_minor": transaction.amount_minor,
        "card_token": transaction.card_id,
        "merchant_token": transaction.merchant_id,
        "device_token": device,
        "channel": transaction.channel,
        "merchant_category": transaction.merchant_category,
        "country": transaction.country,
        "latitude": transaction.latitude,
        "longitude": transaction.longitude,
    }


def event_freshness(stream: Mapping[str, Any], changes: Path) -> dict[str, float]:
    """Return p50 and p99 of arrival on the stream to visible in the store, milliseconds."""
    table = ds.dataset(changes, format="parquet").to_table(columns=["arrival_ms", "visible_ms"])
    lag = table["visible_ms"].to_numpy() - table["arrival_ms"].to_numpy()
    if not len(lag):
        return dict(stream["freshness_ms"])
    return percentiles(lag, (0.5, 0.99))
