"""The Arrow tables of a world: rows of numbers become the columns of the transaction log."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud.transaction import CHANNELS
from simulation.identifiers import U64Array, hexadecimal, numbered, scramble
from simulation.labels import SOURCES, Statements
from simulation.randomness import IntArray, lognormal, stream
from simulation.rows import FRAUD_TYPES, NOTHING, POS, Rows
from simulation.scene import Scene

_TIME: Final = pa.timestamp("us", tz="UTC")

TRANSACTIONS: Final = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("card_id", pa.string(), nullable=False),
        pa.field("merchant_id", pa.string(), nullable=False),
        pa.field("device_id", pa.string()),
        pa.field("ip", pa.string()),
        pa.field("amount_minor", pa.int64(), nullable=False),
        pa.field("currency", pa.string(), nullable=False),
        pa.field("event_timestamp", _TIME, nullable=False),
        pa.field("created_timestamp", _TIME, nullable=False),
        pa.field("channel", pa.string(), nullable=False),
        pa.field("merchant_category", pa.int32(), nullable=False),
        pa.field("country", pa.string(), nullable=False),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("authorised", pa.bool_()),
    ]
)
LABELS: Final = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("is_fraud", pa.bool_(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("event_timestamp", _TIME, nullable=False),
        pa.field("created_timestamp", _TIME, nullable=False),
    ]
)
TRUTH: Final = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("is_fraud", pa.bool_(), nullable=False),
        pa.field("fraud_type", pa.string()),
    ]
)


def identify_rows(scene: Scene, time: IntArray) -> U64Array:
    """Return the number of each row's transaction id, for rows sorted by time; ids of one millisecond ascend."""
    numbers = scramble(np.arange(len(time), dtype=np.int64), bits=48, key=scene.config.seed + 1)
    same = np.zeros(len(time) + 1, np.bool_)
    same[1:-1] = time[1:] == time[:-1]
    tied = np.flatnonzero(same[1:] | same[:-1])
    numbers[tied] = numbers[tied][np.lexsort((numbers[tied], time[tied]))]
    return numbers


def transaction_ids(numbers: U64Array) -> pa.StringArray:
    """Return the transaction ids of numbers below 2**48."""
    return hexadecimal(numbers, prefix="t", digits=12)


def transactions_table(scene: Scene, rows: Rows, ids: pa.StringArray) -> pa.Table:
    """Return the transaction log of ``rows``, which are sorted by time."""
    merchants, cities, size = scene.merchants, scene.cities, len(rows)
    city = merchants.city[rows.merchant]
    nowhere = rows.channel != POS
    columns = [
        ids,
        _take(numbered(scene.cards.count, prefix="c", digits=7), rows.card),
        _take(numbered(merchants.count, prefix="m", digits=5), rows.merchant),
        _tokens(scene, rows.device, scene.devices.count, prefix="d"),
        _tokens(scene, rows.ip, scene.ips.count, prefix="ip"),
        pa.array(rows.amount),
        _take(pa.array([scene.config.currency]), np.zeros(size, np.int64)),
        _times(rows.time),
        _times(rows.time + _lag(scene, size)),
        _take(pa.array(CHANNELS), rows.channel.astype(np.int64)),
        pa.array(merchants.category[rows.merchant].astype(np.int32)),
        _take(pa.array(cities.countries), cities.country[city]),
        pa.array(cities.latitude[city], mask=nowhere),
        pa.array(cities.longitude[city], mask=nowhere),
        pa.array(rows.authorised),
    ]
    return pa.Table.from_arrays(columns, schema=TRANSACTIONS)


def labels_table(statements: Statements, ids: pa.StringArray) -> pa.Table:
    """Return the labels in order of arrival."""
    columns = [
        _take(ids, statements.row),
        pa.array(statements.is_fraud),
        _take(pa.array(SOURCES), statements.source),
        _times(statements.stated),
        _times(statements.arrived),
    ]
    return pa.Table.from_arrays(columns, schema=LABELS)


def truth_table(rows: Rows, ids: pa.StringArray) -> pa.Table:
    """Return what really happened, one row for each transaction in their order."""
    fraud = rows.fraud >= 0
    kind = pa.array(rows.fraud.astype(np.int64), mask=~fraud)
    return pa.Table.from_arrays([ids, pa.array(fraud), pc.take(pa.array(FRAUD_TYPES), kind)], schema=TRUTH)


def _take(values: pa.Array, index: IntArray) -> pa.Array:
    return pc.take(values, pa.array(index), boundscheck=False)


def _tokens(scene: Scene, number: IntArray, count: int, *, prefix: str) -> pa.Array:
    hidden = scramble(np.arange(count, dtype=np.int64), bits=32, key=scene.config.seed + len(prefix))
    index = pa.array(number, mask=number == NOTHING)
    return pc.take(hexadecimal(hidden, prefix=prefix, digits=8), index, boundscheck=False)


def _times(milliseconds: IntArray) -> pa.Array:
    return pa.array(milliseconds * 1000).cast(_TIME)


def _lag(scene: Scene, size: int) -> IntArray:
    """Draw how late each transaction arrives: about 200 ms, one in a hundred seconds, one in a thousand minutes."""
    rng = stream(scene.config.seed, "lag")
    lag = lognormal(rng, 200.0, 0.6, size)
    late = np.flatnonzero(rng.random(size) < 0.01)
    lag[late] += rng.exponential(5_000.0, len(late))
    very_late = late[rng.random(len(late)) < 0.1]
    lag[very_late] += rng.exponential(180_000.0, len(very_late))
    return lag.astype(np.int64)
