"""After the hour: whether what was served is what the log says, and how fresh it was."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from demo.places import Places
from fraud.features import FEATURE_NAMES, SERVICE
from fraud.transaction import Transaction
from fraud.windows import ENTITIES
from monitoring.decision_log import Logged
from monitoring.parity import AppliedRow, Parity, Served, compare, same_bits, visible_velocity
from stores.files import Location
from stores.log import load_log, places
from training.dataset import entity_rows, read_log
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


def applied_rows(places_: Places) -> list[AppliedRow]:
    """Return the worker's log of which transaction made which revision."""
    table = ds.dataset(places_.stream / "changes", format="parquet").to_table()
    return [
        AppliedRow(row["entity"], row["key"], row["revision_after"], row["transaction_id"]) for row in table.to_pylist()
    ]


def certify(store: Any, logged: Sequence[Logged], places_: Places, streamed: Sequence[str]) -> Parity:
    """Compare every served vector with the log, see :mod:`monitoring.parity`."""
    times = [entry.event_time_ms for entry in logged]
    log_rows = read_log(places_.lake, min(times), max(times) + 1)
    place = pc.index_in(pa.array([e.transaction_id for e in logged]), log_rows["transaction_id"].combine_chunks())
    asked_rows = log_rows.take(place)
    entities = entity_rows(asked_rows)
    as_of_log = historical_vectors(store, entities)
    log = load_log(Location(str(places_.lake)), first_ms=min(times), last_ms=max(times) + 1)
    where = places(asked_rows["latitude"], asked_rows["longitude"])
    times_ms = np.array(times, np.int64)
    party = {"card": "merchant_id", "device": "card_id", "merchant": "card_id"}
    asked = {
        entity: log.questions(
            entity, key=entities[f"{entity}_id"], as_of_ms=times_ms, party=entities[party[entity]], place=where
        )
        for entity in ENTITIES
    }
    revisions = {entity: np.array([e.revisions[entity] for e in logged], np.int64) for entity in ENTITIES}
    visible = visible_velocity(log, asked, revisions, applied_rows(places_), list(streamed))
    served = Served(np.array([entry.vector for entry in logged]), revisions)
    return compare(served, as_of_log, visible, asked_rows["amount_minor"].to_numpy())


def historical_vectors(store: Any, entities: pa.Table) -> npt.NDArray[np.float64]:
    """Return Feast's historical vectors of some entity rows, in their order, shape ``(n, features)``."""
    service = store.get_feature_service(SERVICE)
    found = store.get_historical_features(entity_df=entities.to_pandas(), features=service).to_arrow()
    columns = [pc.cast(found[name], pa.float64()).to_numpy(zero_copy_only=False) for name in FEATURE_NAMES]
    return np.stack(columns, axis=1)


def compare_at_rest(store: Any, transactions: Sequence[Transaction], *, as_of_ms: int) -> dict[str, int]:
    """Ask Feast online and offline the same questions once the stream is quiet; return compared and mismatches."""
    rows = [_request(transaction, as_of_ms) for transaction in transactions]
    service = store.get_feature_service(SERVICE)
    online = store.get_online_features(features=service, entity_rows=rows).to_dict()
    moment = datetime.fromtimestamp(as_of_ms / 1000, UTC)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    entities = pa.table(columns | {"event_timestamp": pa.array([moment] * len(rows), pa.timestamp("us", "UTC"))})
    offline = historical_vectors(store, entities)
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
    return {"p50": float(np.quantile(lag, 0.5)), "p99": float(np.quantile(lag, 0.99))}
