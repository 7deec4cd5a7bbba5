"""One damaged file of a data set stops what would train on it: a sentence that names file and column, nothing kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from retraining.__main__ import main as retraining
from retraining.registry import Registry
from retraining.verdict import Verdict
from tests.support.bundles import bundle_files
from tests.support.feast_lakes import MIDDLE_MS, PAYMENTS, REPORTS, FeastLake
from tests.support.lakes import DAY_MS
from training.__main__ import main as training
from training.transaction_log import day_text

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
DAMAGED = f"transactions/dt={day_text(MIDDLE_MS - 2 * DAY_MS)}/part-0.parquet"
SPAN = ("--start", day_text(MIDDLE_MS - 6 * DAY_MS), "--end", day_text(MIDDLE_MS), "--label-delay", "5d")
WEEK = (
    *("--train-days", "12", "--validation-days", "6", "--test-days", "6", "--label-delay", "5"),
    *("--as-of", day_text(MIDDLE_MS + 5 * DAY_MS)),
)
Damage = Callable[[Path], None]


def rewritten(name: str, change: Callable[[pa.Table], pa.Table]) -> Damage:
    def damage(lake: Path) -> None:
        table = pq.read_table(lake / name, partitioning=None)
        pq.write_table(change(table), lake / name)

    return damage


def recast(column: str, made: Callable[[Any], Any]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index(column), column, made(table[column]))


def nowhere(lake: Path) -> None:
    for path in (lake / "transactions").rglob("*.parquet"):
        pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["merchant_category"]), path)


def first_file(lake: Path) -> None:
    path = min((lake / "transactions").rglob("*.parquet"))
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["country"]), path)


def torn_page(lake: Path) -> None:
    path = lake / DAMAGED
    column = pq.ParquetFile(path).metadata.row_group(0).column(9)  # its footer stays whole
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(content))


def torn_file(lake: Path) -> None:
    (lake / DAMAGED).write_bytes((lake / DAMAGED).read_bytes()[:200])


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a day lacks two columns": (
        rewritten(DAMAGED, lambda table: table.drop_columns(["channel", "merchant_category"])),
        f"{DAMAGED} has no column 'channel'; it has transaction_id",
    ),
    "a day has a column in another type": (
        rewritten(DAMAGED, recast("channel", lambda column: pa.nulls(len(column), pa.int64()))),
        f"{DAMAGED} has column 'channel' as int64, not string",
    ),
    "a day has nothing in a column": (
        rewritten(DAMAGED, recast("channel", lambda column: pa.nulls(len(column), pa.string()))),
        f"{DAMAGED} holds ",
    ),
    "no day has a column": (nowhere, "/part-0.parquet has no column 'merchant_category'; it has transaction_id"),
    "the first file lacks a column": (first_file, "/part-0.parquet has no column 'country'; it has transaction_id"),
    "a page is torn": (torn_page, f"{DAMAGED} cannot be read: "),
    "a file is torn": (torn_file, f"{DAMAGED}"),
    "labels have text for times": (
        rewritten("labels.parquet", recast("created_timestamp", lambda column: pc.cast(column, pa.string()))),
        "labels.parquet has column 'created_timestamp' as string, not timestamp[us, tz=UTC]",
    ),
    "labels have numbers for fraud": (
        rewritten("labels.parquet", recast("is_fraud", lambda column: pc.cast(column, pa.int64()))),
        "labels.parquet has column 'is_fraud' as int64, not bool",
    ),
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> FeastLake:
    return FeastLake(tmp_path_factory.mktemp("drifted") / "lake")


def run(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["command", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_named_and_nothing_is_made_of_it(
    name: str, lake: FeastLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, sentence = DAMAGES[name]
    lake.fill(PAYMENTS, REPORTS)
    damage(lake.folder)
    registry = Registry(tmp_path / "models")
    champion = registry.add(bundle_files()).version
    registry.promote(champion, Verdict(()), as_of_ms=MIDDLE_MS)
    before = {path: path.read_bytes() for path in registry.folder.rglob("*") if path.is_file()}

    assert run(monkeypatch, training, "dataset", "--lake", lake.folder, "--out", tmp_path / "set", *SPAN) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.rstrip().endswith("(unreadable_source)")
    assert not list(tmp_path.glob("set*"))

    assert (
        run(monkeypatch, retraining, "week", "--again", "--lake", lake.folder, "--models", registry.folder, *WEEK) == 1
    )
    said = capsys.readouterr().err
    assert sentence in said
    assert said.rstrip().endswith("(unreadable_source)")
    assert registry.champion_version() == champion
    after = {path: path.read_bytes() for path in registry.folder.rglob("*") if path.is_file()}
    assert {path: content for path, content in after.items() if path.name != ".lock"} == before


@pytest.mark.parametrize("name", ["a day lacks two columns", "a page is torn"])
def test_no_profile_is_made_of_a_damaged_day(
    name: str, lake: FeastLake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, sentence = DAMAGES[name]
    lake.fill(PAYMENTS, REPORTS)
    damage(lake.folder)
    before = (lake.folder / "profiles" / "card" / "part-0.parquet").read_bytes()
    assert run(monkeypatch, training, "profiles", "--lake", lake.folder) == 1
    assert sentence in capsys.readouterr().err
    assert (lake.folder / "profiles" / "card" / "part-0.parquet").read_bytes() == before
