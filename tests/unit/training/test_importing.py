"""Any layout becomes the same log: the book's row for row; others' rows are taken whole or kept with a reason."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from tests.support.handbook import PARQUET, needs_benchmark, small_world, write_source
from training.errors import UnknownFormat, UnreadableSource, UnwritableOutput
from training.handbook import read_handbook
from training.importing import ImportReport, import_files, import_transactions
from training.mapping import Mapping, find_mapping, parse_mapping
from training.ranking import DAY_MS
from training.tokens import TokenKey
from training.transaction_log import LABELS_SCHEMA, TRANSACTIONS_SCHEMA, TRUTH_SCHEMA

SHOP = b"""
name = "shop"
currency = "EUR"
transaction_id = { columns = ["id"] }
card_id = { columns = ["card"] }
merchant_id = { columns = ["shop"] }
device_id = { columns = ["device"], optional = true }
event_time = { columns = ["day", "time"], format = "%d.%m.%Y %H:%M:%S", zone = "Europe/Berlin" }
amount = { column = "total", unit = "major", strip = ".", decimal = "," }
channel = { column = "how", values = { web = "online", till = "pos" } }
merchant_category = { column = "mcc" }
country = { constant = "DE" }
authorised = { column = "ok", true = ["y"], false = ["n"] }
currency_column = "cur"
[label]
column = "fraud"
fraud = ["yes"]
legitimate = ["no"]
source = "report"
delay = "2d"
arrival = { columns = ["told"] }
[file]
delimiter = ";"
"""
LAYOUTS = Path(__file__).parents[2] / "data" / "layouts"
"""Rows made up in each public layout."""

HEADER = "id;card;shop;device;day;time;total;how;mcc;ok;cur;fraud;told"
GOOD = "t1;c1;m1;d1;01.03.2026;12:00:00;1.019,99;web;5999;y;EUR;no;"


def import_book(
    source: Path, out: Path, progress: Callable[[int, int], None], *, label_delay_ms: int = 7 * DAY_MS
) -> ImportReport:
    return import_transactions("handbook", source, out, label_delay_ms=label_delay_ms, progress=progress)


def shop_file(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def shop() -> Mapping:
    return parse_mapping(SHOP, "shop.toml")


def log_of(folder: Path) -> list[dict[str, Any]]:
    days = sorted((folder / "transactions").iterdir())
    parts = [pq.read_table(day / "part-0.parquet", partitioning=None) for day in days]
    assert all(part.schema.equals(TRANSACTIONS_SCHEMA) for part in parts)
    rows: list[dict[str, Any]] = pa.concat_tables(parts).to_pylist()
    return rows


def rejected(folder: Path) -> list[tuple[Any, ...]]:
    rows = pq.read_table(folder / "rejected.parquet").to_pylist()
    return [(row["row"], row["column"], row["field"], row["reason"], row["value"]) for row in rows]


def test_import_writes_the_log_row_for_row(tmp_path: Path) -> None:
    world = small_world()
    calls: list[tuple[int, int]] = []
    source = write_source(tmp_path / "source.parquet", world)
    report = import_book(source, tmp_path / "log", lambda done, total: calls.append((done, total)))
    days = sorted((tmp_path / "log" / "transactions").iterdir())
    parts = [pq.read_table(day / "part-0.parquet", partitioning=None) for day in days]
    table = pa.concat_tables(parts)
    assert table.schema.equals(TRANSACTIONS_SCHEMA)
    assert report.rows == len(table) == 600
    assert report.days == len(days) == len(set((world.event_time_ms // DAY_MS).tolist()))
    assert calls[-1] == (600, 600)
    assert len(calls) == len(days)
    assert days[0].name == "dt=2018-04-01"
    for day, part in zip(days, parts, strict=True):
        assert set(pc.strftime(part["event_timestamp"], "dt=%Y-%m-%d").to_pylist()) == {day.name}
    assert pc.cast(table["event_timestamp"], pa.int64()).to_pylist() == (world.event_time_ms * 1000).tolist()
    assert table["created_timestamp"].equals(table["event_timestamp"])
    assert table["amount_minor"].to_pylist() == np.maximum(world.amount_minor, 1).tolist()
    assert table["card_id"].to_pylist() == [f"c{c:05d}" for c in world.customer]
    assert table["merchant_id"].to_pylist() == [f"m{t:05d}" for t in world.terminal]
    assert table["device_id"].null_count == table["authorised"].null_count == 600


def test_import_writes_one_late_label_per_fraud_and_the_truth(tmp_path: Path) -> None:
    world = small_world()
    source = write_source(tmp_path / "source.parquet", world)
    report = import_book(source, tmp_path / "log", lambda *_: None, label_delay_ms=3 * DAY_MS)
    labels, truth = (pq.read_table(tmp_path / "log" / f"{name}.parquet") for name in ("labels", "truth"))
    assert labels.schema.equals(LABELS_SCHEMA)
    assert truth.schema.equals(TRUTH_SCHEMA)
    frauds = np.flatnonzero(world.is_fraud)
    assert labels["transaction_id"].to_pylist() == [f"t{row:07d}" for row in frauds]
    assert set(labels["source"].to_pylist()) == {"chargeback"}
    arrival = pc.cast(labels["created_timestamp"], pa.int64()).to_numpy()
    assert (arrival // 1000 - world.event_time_ms[frauds] == 3 * DAY_MS).all()
    names = [None, "amount_over_220", "terminal_compromised", "card_details_stolen"]
    assert truth["fraud_type"].to_pylist() == [names[scenario] for scenario in world.scenario]
    manifest = json.loads((tmp_path / "log" / "manifest.json").read_text())
    assert manifest["frauds"] == report.frauds == len(frauds) == sum(manifest["fraud_types"].values())
    assert manifest["first_day"] == "2018-04-01"


def test_amounts_round_half_to_even_and_nothing_becomes_one_unit(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.parquet", small_world(rows=4))
    table = pq.read_table(source)
    amounts = pa.array([0.125, 0.375, 57.16, 0.0])
    pq.write_table(table.set_column(table.schema.get_field_index("TX_AMOUNT"), "TX_AMOUNT", amounts), source)
    assert sorted(read_handbook(source).amount_minor.tolist()) == [0, 12, 38, 5716]
    report = import_book(source, tmp_path / "log", lambda *_: None)
    assert report.raised_amounts == 1
    days = (tmp_path / "log" / "transactions").iterdir()
    written = [pq.read_table(day / "part-0.parquet", partitioning=None)["amount_minor"].to_pylist() for day in days]
    assert sorted(amount for part in written for amount in part) == [1, 12, 38, 5716]


def test_an_import_never_mixes_into_a_folder_in_use(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.parquet", small_world())
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "kept.txt").write_text("mine")
    with pytest.raises(UnwritableOutput, match="exists already"):
        import_book(source, tmp_path / "log", lambda *_: None)
    assert [path.name for path in (tmp_path / "log").iterdir()] == ["kept.txt"]


def test_an_import_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise OSError(28, "No space left on device")

    source = write_source(tmp_path / "source.parquet", small_world())
    with pytest.raises(UnwritableOutput, match="No space left on device"):
        import_book(source, tmp_path / "log", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["source.parquet"]


@needs_benchmark
def test_the_whole_benchmark_is_imported(tmp_path: Path) -> None:
    report = import_book(PARQUET, tmp_path / "log", lambda *_: None)
    assert (report.rows, report.days, report.labels, report.raised_amounts) == (1_754_155, 183, 14_681, 42)
    assert (report.first_day, report.last_day) == ("2018-04-01", "2018-09-30")
    assert report.fraud_types == {"amount_over_220": 973, "terminal_compromised": 9_077, "card_details_stolen": 4_631}


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownFormat, match=r"'paysim' is unknown; known: handbook, ieee-cis, sparkov"):
        import_transactions("paysim", tmp_path, tmp_path / "out", label_delay_ms=0, progress=lambda *_: None)


def test_a_missing_file_a_missing_column_and_a_negative_delay_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match=r"absent\.parquet: no such file"):
        import_book(tmp_path / "absent.parquet", tmp_path / "out", lambda *_: None)
    with pytest.raises(UnreadableSource, match="-1 ms is negative"):
        import_book(tmp_path, tmp_path / "out", lambda *_: None, label_delay_ms=-1)
    source = write_source(tmp_path / "source.parquet", small_world())
    pq.write_table(pq.read_table(source).drop_columns(["TERMINAL_ID"]), source)
    with pytest.raises(
        UnreadableSource, match=r"source\.parquet: column TERMINAL_ID is missing; it has TRANSACTION_ID"
    ):
        import_book(source, tmp_path / "out", lambda *_: None)
    source.write_bytes(b"no parquet")
    with pytest.raises(UnreadableSource, match=r"source\.parquet: cannot be read"):
        import_book(source, tmp_path / "out", lambda *_: None)
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(UnreadableSource, match=r"notes\.docx: ends with none of \.parquet"):
        import_book(tmp_path / "notes.docx", tmp_path / "out", lambda *_: None)
    assert not (tmp_path / "out").exists()


def test_every_field_of_a_mapping_reaches_the_log(tmp_path: Path) -> None:
    told = "t2;c2;m1;;29.03.2026;02:30:00;5,00;till;5411;n;EUR;yes;2026-04-01T08:00:00+02:00"
    late = "t3;c2;m1;;30.03.2026;00:30:00;5,00;till;5411;;EUR;yes;"
    source = shop_file(tmp_path / "shop.csv", told, late, GOOD)
    report = import_files([source], shop(), tmp_path / "log")
    assert (report.rows, report.days, report.frauds, report.rejected) == (3, 2, 2, 0)
    first, second, third = log_of(tmp_path / "log")
    assert first | {"event_timestamp": str(first["event_timestamp"]), "created_timestamp": 0} == {
        "transaction_id": "t1", "card_id": "c1", "merchant_id": "m1", "device_id": "d1", "ip": None,
        "amount_minor": 101_999, "currency": "EUR", "event_timestamp": "2026-03-01 11:00:00+00:00",
        "created_timestamp": 0, "channel": "online", "merchant_category": 5999, "country": "DE", "latitude": None,
        "longitude": None, "authorised": True,
    }  # fmt: skip
    assert first["created_timestamp"] == first["event_timestamp"]
    assert (second["authorised"], second["device_id"], third["authorised"]) == (False, None, None)
    assert str(second["event_timestamp"]) == "2026-03-29 01:00:00+00:00"  # the clocks skip 02:30 that night
    labels = pq.read_table(tmp_path / "log" / "labels.parquet").to_pylist()
    assert [(row["transaction_id"], row["source"], str(row["created_timestamp"])) for row in labels] == [
        ("t2", "report", "2026-04-01 06:00:00+00:00"),
        ("t3", "report", "2026-03-31 22:30:00+00:00"),
    ]
    assert not (tmp_path / "log" / "truth.parquet").exists()


WRONG = {
    "time": ("t2;c1;m1;;31.02.2026;12:00:00;1,00;web;5999;y;EUR;no;", "day, time", "no time", "31.02.2026 12:00:00"),
    "long ago": ("t2;c1;m1;;01.03.1026;12:00:00;1,00;web;5999;y;EUR;no;", "day, time", "time out of range", None),
    "no amount": ("t2;c1;m1;;01.03.2026;12:00:00;;web;5999;y;EUR;no;", "total", "missing", None),
    "odd amount": ("t2;c1;m1;;01.03.2026;12:00:00;ten;web;5999;y;EUR;no;", "total", "no number", "ten"),
    "refund": ("t2;c1;m1;;01.03.2026;12:00:00;-5,00;web;5999;y;EUR;no;", "total", "amount out of range", "-5,00"),
    "nothing": ("t2;c1;m1;;01.03.2026;12:00:00;0,00;web;5999;y;EUR;no;", "total", "amount out of range", "0,00"),
    "channel": ("t2;c1;m1;;01.03.2026;12:00:00;1,00;fax;5999;y;EUR;no;", "how", "unknown code", "fax"),
    "category": ("t2;c1;m1;;01.03.2026;12:00:00;1,00;web;food;y;EUR;no;", "mcc", "unknown code", "food"),
    "currency": ("t2;c1;m1;;01.03.2026;12:00:00;1,00;web;5999;y;USD;no;", "cur", "another currency", "USD"),
    "label": ("t2;c1;m1;;01.03.2026;12:00:00;1,00;web;5999;y;EUR;maybe;", "fraud", "unknown label", "maybe"),
    "early": ("t2;c1;m1;;01.03.2026;12:00:00;1,00;web;5999;y;EUR;yes;2026-02-28", "told", "known too early", None),
    "no merchant": ("t2;c1; ;;01.03.2026;12:00:00;1,00;web;5999;y;EUR;no;", "shop", "missing", None),
    "unprintable": (
        "t2;c1;m\u200b1;;01.03.2026;12:00:00;1,00;web;5999;y;EUR;no;",
        "shop",
        "no token of 1 to 128 printable characters",
        None,
    ),
    "card": ("t2;4111 1111 1111 1111;m1;;01.03.2026;12:00:00;1,00;web;5999;y;EUR;no;", "card", "card number", None),
    "card as merchant": (
        "t2;c1;4111111111111111;;01.03.2026;12:00:00;1,00;web;5999;y;EUR;no;",
        "shop",
        "card number",
        None,
    ),
    "spreadsheet": (
        "t2;4.11111E+15;m1;;01.03.2026;12:00:00;1,00;web;5999;y;EUR;no;",
        "card",
        "number in scientific notation",
        None,
    ),
    "line": ("t2;c1;m1", "(line)", "3 columns instead of 13", None),
    "repeated": ("t1;c9;m1;;02.03.2026;12:00:00;1,00;web;5999;y;EUR;no;", "id", "repeated id", "t1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_refused_row_is_kept_with_its_place_and_reason(name: str, tmp_path: Path) -> None:
    line, column, reason, value = WRONG[name]
    last = "t3;c3;m3;;03.03.2026;12:00:00;1,00;web;5999;y;EUR;no;"
    report = import_files([shop_file(tmp_path / "shop.csv", GOOD, line, last)], shop(), tmp_path / "log")
    assert [row["transaction_id"] for row in log_of(tmp_path / "log")] == ["t1", "t3"]
    (found,) = rejected(tmp_path / "log")
    assert (found[0], found[1], found[3]) == (2, column, reason)
    if value is not None:
        assert found[4] == value
    (count,) = report.reasons
    assert (count.rows, count.column, count.reason, count.at) == (1, column, reason, "shop.csv:2")
    everything = b"".join(path.read_bytes() for path in (tmp_path / "log").rglob("*") if path.is_file())
    assert b"41111111" not in everything.replace(b" ", b"")
    assert json.loads((tmp_path / "log" / "manifest.json").read_text())["rejected"] == 1


def test_a_key_makes_every_card_a_token_that_only_it_can_make(tmp_path: Path) -> None:
    cards = ["4111111111111111", "4111111111111111", "5500005555555559", "c1"]
    lines = [f"t{i};{card};m1;;01.03.2026;12:00:0{i};1,00;web;5999;y;EUR;no;" for i, card in enumerate(cards)]
    source = shop_file(tmp_path / "shop.csv", *lines)
    found = {}
    for secret in (b"sixteen bytes or", b"sixteen other by"):
        out = tmp_path / secret.decode()
        assert import_files([source], shop(), out, key=TokenKey(secret)).rejected == 0
        found[secret] = [row["card_id"] for row in log_of(out)]
        assert b"4111" not in b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    one, other = found.values()
    assert one[0] == one[1]
    assert len(set(one)) == 3
    assert set(one).isdisjoint(other)
    assert all(token.startswith("tok_") and len(token) == 36 for token in one)


def test_no_row_at_all_is_an_error_that_says_why(tmp_path: Path) -> None:
    source = shop_file(tmp_path / "shop.csv", WRONG["channel"][0], WRONG["channel"][0])
    with pytest.raises(
        UnreadableSource, match=r"none of 2 rows could be taken: unknown code in how \(2 rows, such as 'f"
    ):
        import_files([source], shop(), tmp_path / "log")
    with pytest.raises(UnreadableSource, match="none of 0 rows could be taken: the files hold no row"):
        import_files([shop_file(source)], shop(), tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_files_in_any_order_and_runs_of_any_size_give_the_same_bytes(tmp_path: Path) -> None:
    draw = random.Random(5)
    lines = [
        f"t{i:04d};c{draw.randrange(9)};m{draw.randrange(4)};;{1 + draw.randrange(20):02d}.03.2026;"
        f"{draw.randrange(24):02d}:00:00;{draw.randrange(1, 99)},00;web;5999;y;EUR;{draw.choice(['yes', 'no'])};"
        for i in range(400)
    ]
    whole = shop_file(tmp_path / "whole.csv", *lines)
    halves = [shop_file(tmp_path / "a.csv", *lines[250:]), tmp_path / "b.csv.gz"]
    halves[1].write_bytes(gzip.compress(shop_file(tmp_path / "b.csv", *lines[:250]).read_bytes()))
    as_parquet = tmp_path / "typed.parquet"
    pq.write_table(pcsv.read_csv(whole, parse_options=pcsv.ParseOptions(delimiter=";")), as_parquet)
    given = {"one": [whole], "two": halves, "typed": [as_parquet]}
    sizes = {"one": 500_000, "two": 37, "typed": 150}
    for name, sources in given.items():
        report = import_files(sources, shop(), tmp_path / name, run_rows=sizes[name])
        assert (report.rows, report.rejected) == (400, 0)
    for path in (tmp_path / "one").rglob("*.parquet"):
        place = path.relative_to(tmp_path / "one")
        assert path.read_bytes() == (tmp_path / "two" / place).read_bytes() == (tmp_path / "typed" / place).read_bytes()


def imported(layout: str, out: Path, key: TokenKey | None = None) -> tuple[ImportReport, list[dict[str, Any]]]:
    """Import the made-up sample of a layout by its ready mapping."""
    report = import_files([LAYOUTS / f"{layout}.csv"], find_mapping(layout), out, key=key)
    return report, log_of(out)


def test_the_sparkov_layout_needs_a_key_for_its_card_numbers(tmp_path: Path) -> None:
    report, rows = imported("sparkov", tmp_path / "log")
    assert [row["card_id"] for row in rows] == ["12345678901"]
    assert rejected(tmp_path / "log") == [(2, "cc_num", "card_id", "card number", "16 characters")]
    report, rows = imported("sparkov", tmp_path / "again", TokenKey(b"k" * 16))
    assert (report.rows, report.rejected, report.frauds) == (2, 0, 1)
    first, second = rows
    assert (first["amount_minor"], first["channel"], first["merchant_category"]) == (497, "online", 5964)
    assert (second["channel"], second["merchant_category"], second["latitude"]) == ("pos", 5411, 49.159047)
    assert first["merchant_id"] == "fraud_Made, Up and Sons"


def test_the_tabformer_layout_is_read_from_its_parts(tmp_path: Path) -> None:
    report, rows = imported("tabformer", tmp_path / "log")
    assert [(row["transaction_id"], row["card_id"], row["amount_minor"], row["country"]) for row in rows] == [
        ("t000000004", "c1-0", 200, "IT"),
        ("t000000000", "c0-0", 13_409, "US"),
        ("t000000001", "c0-1", 103_848, "US"),
    ]
    assert [row["authorised"] for row in rows] == [True, True, False]
    assert [row["merchant_id"] for row in rows][1:] == ["m3527213246127876953", "m-727612092139916043"]
    assert [(row[0], row[3]) for row in rejected(tmp_path / "log")] == [(3, "no time"), (4, "amount out of range")]
    assert report.frauds == 1


def test_the_ieee_cis_layout_counts_from_its_origin(tmp_path: Path) -> None:
    report, rows = imported("ieee-cis", tmp_path / "log")
    assert report.rows == 2
    assert [row["card_id"] for row in rows] == ["c13926--150-142-315", "c2755-404-150-102-325"]
    assert [str(row["event_timestamp"]) for row in rows] == ["2017-12-02 00:00:00+00:00", "2017-12-02 00:00:01+00:00"]
    assert [row["amount_minor"] for row in rows] == [6850, 2912]
    assert [row["merchant_category"] for row in rows] == [5999, 5964]
    assert not (tmp_path / "log" / "truth.parquet").exists()


def test_the_synccfd_layout_has_places_where_a_terminal_was(tmp_path: Path) -> None:
    report, rows = imported("synccfd", tmp_path / "log")
    assert [(row["channel"], row["latitude"]) for row in rows] == [("pos", -23.5), ("online", None)]
    assert report.fraud_types == {"card_lost_or_stolen": 1}
    assert pc.sum(pq.read_table(tmp_path / "log" / "truth.parquet")["is_fraud"]).as_py() == 1
