"""A log held in stretches answers as the whole log does, whatever the order of the rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud.features import VELOCITY
from fraud.transaction import Transaction
from stores import velocity_slabs
from stores.as_known import AsKnown
from stores.errors import UnreadableSource
from stores.files import Location
from stores.log import REACH_MS, load_log
from stores.velocity_slabs import VelocitySlabs
from stores.windows_join import Asked, Windows
from tests.support.lakes import entity_frame, random_payments, some_reports, write_lake


def asked_of(payments: list[Transaction], lag_ms: int | None = None) -> Asked:
    times = np.array([payment.event_time_ms for payment in payments], np.int64)
    until = None if lag_ms is None else AsKnown(lag_ms).newest_arrival_us(times * 1000)
    amounts = np.array([payment.amount_minor for payment in payments], np.int64)
    return Asked(pa.Table.from_pandas(entity_frame(payments)), times, amounts, until)


@pytest.mark.parametrize("order", ["in order", "reversed", "shuffled"])
@pytest.mark.parametrize("lag_ms", [None, 2_000])
def test_stretches_change_no_bit_and_no_order(
    order: str, lag_ms: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(velocity_slabs, "SLAB", 13)
    payments = random_payments(61, 300, days=90)
    write_lake(tmp_path, payments, some_reports(payments, 61))
    rows = sorted(payments[100:280], key=lambda payment: payment.event_time_ms)
    if order == "reversed":
        rows.reverse()
    elif order == "shuffled":
        np.random.default_rng(1).shuffle(rows)
    asked = asked_of(rows, lag_ms)
    lake = Location(str(tmp_path))
    whole = Windows(load_log(lake, arrivals=lag_ms is not None)).values(asked)
    slabs = VelocitySlabs(lake, asked, most_rows=150)
    assert slabs.stretches > 3
    parts = [slabs.values(slice(start, start + 37)) for start in range(0, len(rows), 37)]
    assert np.concatenate(parts).tobytes() == np.ascontiguousarray(whole).tobytes()


def test_no_more_of_the_log_is_held_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payments = random_payments(62, 300, days=600)
    write_lake(tmp_path, payments)
    held: list[int] = []

    def spy(*args: object, **options: object) -> object:
        log = load_log(*args, **options)  # type: ignore[arg-type]
        held.append(len(log.transactions))
        return log

    monkeypatch.setattr(velocity_slabs, "load_log", spy)
    rows = sorted(payments, key=lambda payment: payment.event_time_ms)
    most = 150
    slabs = VelocitySlabs(Location(str(tmp_path)), asked_of(rows), most_rows=most)
    for start in range(0, len(rows), 100):
        slabs.values(slice(start, start + 100))
    assert len(held) == slabs.stretches > 2  # each once, though several slabs lie in one
    assert max(held) <= most < len(rows)
    assert rows[-1].event_time_ms - rows[0].event_time_ms > 3 * REACH_MS


def test_no_rows_need_no_log(tmp_path: Path) -> None:
    write_lake(tmp_path, random_payments(63, 5))
    slabs = VelocitySlabs(Location(str(tmp_path)), asked_of(random_payments(63, 5)).part(slice(0, 0)))
    assert slabs.values(slice(0, 0)).shape == (0, len(VELOCITY))


def test_a_day_missing_between_busy_ones_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stores import parts

    monkeypatch.setattr(parts, "BUSY_DAY", 3)
    payments = random_payments(64, 600, days=20)
    write_lake(tmp_path, payments)
    days = sorted((tmp_path / "transactions").iterdir())
    lost = days[len(days) // 2]
    schema = pq.read_schema(lost / "part-0.parquet")
    asked = asked_of(payments[-3:])
    VelocitySlabs(Location(str(tmp_path)), asked)
    (lost / "part-0.parquet").unlink()
    lost.rmdir()
    with pytest.raises(UnreadableSource, match=rf"has no rows of {lost.name.removeprefix('dt=')}"):
        VelocitySlabs(Location(str(tmp_path)), asked)
    lost.mkdir()
    pq.write_table(schema.empty_table(), lost / "part-0.parquet")
    assert VelocitySlabs(Location(str(tmp_path)), asked).stretches == 1  # an empty file says there was nothing
