"""Batch profiles: what a card and a merchant are usually like, recomputed every night from the log.

The nightly run of day D publishes at 02:00 UTC, one row for each entity that had a transaction on the day before,
computed from transactions before D 00:00 only; that publication time is the row's event time and its created time, so a
point-in-time join sees what serving could have seen. An entity without new transactions keeps its last row.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pfs

from fraud.kernels import kernel
from fraud.windows import DAY, HOUR, LONGEST_MS
from stores.files import Location, Span, read_files
from stores.table_writing import write_tables
from training.errors import UnreadableSource
from training.transaction_log import TRANSACTIONS_SCHEMA, Progress, moments, write_table

PUBLISHED_AFTER_MS = 2 * HOUR
_COLUMNS = ["card_id", "merchant_id", "event_timestamp", "amount_minor", "channel", "country"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ProfileReport:
    """How many rows each profile got."""

    card_rows: int
    merchant_rows: int


def write_profiles(lake: Path | Location, *, progress: Progress) -> ProfileReport:
    """Write ``profiles/card`` and ``profiles/merchant`` of the lake from its transaction log; replaces earlier ones.

    Parameters
    ----------
    lake
        Folder of the data set, or a bucket's prefix.
    progress
        Called with profiles done and profiles in all.

    Raises
    ------
    UnreadableSource
        The lake has no transaction log, or an empty one; or a file of it is not as the log has to be.
    """
    place = lake if isinstance(lake, Location) else Location(str(lake))
    last = last_day(place)
    log = read_files(place.within("transactions"), _COLUMNS, "event_timestamp", Span(), declared=TRANSACTIONS_SCHEMA)
    if not len(log):
        raise UnreadableSource(f"{place.address}/transactions holds no row up to {last}: generate or import a data set")
    time = log["event_timestamp"].cast(pa.int64()).to_numpy() // 1000
    amount = log["amount_minor"].to_numpy()
    country = log["country"].combine_chunks().dictionary_encode()
    countries = country.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    online = pc.is_in(log["channel"], pa.array(["online", "app"])).to_numpy().astype(np.int64)
    numbers = {name: log[name].combine_chunks().dictionary_encode() for name in ("card_id", "merchant_id")}
    codes = {name: column.indices.to_numpy(zero_copy_only=False).astype(np.int64) for name, column in numbers.items()}
    progress(0, 2)
    rows = {}
    for done, (name, other) in enumerate((("card_id", "merchant_id"), ("merchant_id", "card_id")), start=1):
        order = np.lexsort((time, codes[name]))
        key, found = _nightly(
            codes[name][order], time[order], amount[order], countries[order], online[order], codes[other][order],
            len(country.dictionary),
        )  # fmt: skip
        build = _card_table if name == "card_id" else _merchant_table
        table = build(numbers[name].dictionary, key, found, country.dictionary)
        ordered = table.sort_by([("event_timestamp", "ascending"), (name, "ascending")])
        _replace(ordered, place.within(f"profiles/{name.removesuffix('_id')}/part-0.parquet"))
        rows[name] = len(table)
        progress(done, 2)
    return ProfileReport(rows["card_id"], rows["merchant_id"])


def profiles_up_to_date(lake: Path) -> bool:
    """Return whether both profiles were computed after the last day of the log.

    Raises
    ------
    UnreadableSource
        The lake has no transaction log.
    """
    last = last_day(lake)
    due = int(np.datetime64(last, "ms").astype(np.int64)) + DAY + PUBLISHED_AFTER_MS
    for entity in ("card", "merchant"):
        path = lake / "profiles" / entity / "part-0.parquet"
        if not path.exists():
            return False
        published = read_files(Location(str(path)), ["event_timestamp"], "event_timestamp", Span())["event_timestamp"]
        newest = pc.max(published.cast(pa.int64())).as_py()
        if newest is None or newest // 1000 < due:
            return False
    return True


def last_day(lake: Path | Location) -> str:
    """Return the last day of the transaction log, such as ``2026-03-25``.

    Raises
    ------
    UnreadableSource
        The lake has no transaction log.
    """
    place = lake if isinstance(lake, Location) else Location(str(lake))
    filesystem, path = place.within("transactions").open()
    found = filesystem.get_file_info(pfs.FileSelector(path, allow_not_found=True))
    days = sorted(item.base_name.removeprefix("dt=") for item in found if item.base_name.startswith("dt="))
    if not days:
        raise UnreadableSource(f"{place.address}/transactions has no day: generate or import a data set first")
    return str(days[-1])


def _replace(table: pa.Table, place: Location) -> None:
    """Replace a file so that a reader sees the old profiles or the new ones: moved there, or uploaded whole."""
    if place.address.startswith("s3://"):
        write_tables(iter([table]), place)
        return
    path = Path(place.address)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")  # a name that readers of a folder of Parquet files pass over
    write_table(table, draft)
    draft.replace(path)


def _nightly(
    key: IntArray,
    time: IntArray,
    amount: IntArray,
    country: IntArray,
    online: IntArray,
    other: IntArray,
    countries: int,
) -> tuple[IntArray, FloatArray]:
    """Return (entity, values) of every nightly row; values as :func:`_walk` writes them."""
    key_out = np.empty(len(key), np.int64)
    out = np.empty((len(key), 6))
    count = _walk(key, time, amount, country, online, other, countries, key_out, out)
    return key_out[:count], out[:count]


@kernel
def _walk(
    key: IntArray,
    time: IntArray,
    amount: IntArray,
    country: IntArray,
    online: IntArray,
    other: IntArray,
    countries: int,
    key_out: IntArray,
    out: FloatArray,
) -> int:
    """Fill a row per entity and night: published, age in days, median, online share, home country, distinct others."""
    rows = 0
    first = 0
    votes = np.zeros(countries, np.int64)
    for index in range(len(key)):
        if index > 0 and key[index] != key[index - 1]:
            first = index
        midnight = (time[index] // DAY + 1) * DAY
        last_of_day = index + 1 == len(key) or key[index + 1] != key[index] or time[index + 1] >= midnight
        if not last_of_day:
            continue
        low = first + np.searchsorted(time[first : index + 1], midnight - LONGEST_MS)
        votes[:] = 0
        for place in range(low, index + 1):
            votes[country[place]] += 1
        key_out[rows] = key[index]
        out[rows, 0] = midnight + PUBLISHED_AFTER_MS
        out[rows, 1] = (midnight - time[first]) // DAY
        out[rows, 2] = np.median(amount[low : index + 1])
        out[rows, 3] = online[low : index + 1].mean()
        out[rows, 4] = np.argmax(votes)
        out[rows, 5] = len(np.unique(other[low : index + 1]))
        rows += 1
    return rows


def _card_table(names: pa.Array, key: IntArray, found: FloatArray, countries: pa.Array) -> pa.Table:
    return _table(
        {
            "card_id": names.take(pa.array(key)),
            "card_home_country": countries.take(pa.array(found[:, 4].astype(np.int64))),
            "card_age_days": pa.array(found[:, 1].astype(np.int64)),
            "card_amount_median_30d": pa.array(found[:, 2]),
            "card_online_share_30d": pa.array(found[:, 3]),
        },
        found[:, 0],
    )


def _merchant_table(names: pa.Array, key: IntArray, found: FloatArray, _countries: pa.Array) -> pa.Table:
    return _table(
        {
            "merchant_id": names.take(pa.array(key)),
            "merchant_age_days": pa.array(found[:, 1].astype(np.int64)),
            "merchant_amount_median_30d": pa.array(found[:, 2]),
            "merchant_card_distinct_30d": pa.array(found[:, 5].astype(np.int64)),
        },
        found[:, 0],
    )


def _table(columns: dict[str, pa.Array], published_ms: FloatArray) -> pa.Table:
    published = moments(published_ms.astype(np.int64))
    return pa.table(columns | {"event_timestamp": published, "created_timestamp": published})
