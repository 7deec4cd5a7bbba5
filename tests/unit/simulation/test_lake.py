import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from fraud.errors import InvalidSetting
from simulation.lake import claim, write
from simulation.tables import TRANSACTIONS
from simulation.world import WorldConfig, fraud_counts, generate

CONFIG = WorldConfig(days=4, transactions_per_day=500, seed=2)


def test_written_world_reads_back_whole(tmp_path: Path) -> None:
    made = generate(CONFIG)
    written: list[int] = []
    manifest = write(made, tmp_path / "lake", progress=written.append)
    files = sorted((tmp_path / "lake" / "transactions").glob("dt=*/part-0.parquet"))
    assert [file.parent.name for file in files] == [f"dt=2026-01-0{day}" for day in (5, 6, 7, 8)]
    parts = [pq.ParquetFile(file).read() for file in files]
    assert pa.concat_tables(parts).equals(made.transactions)
    assert written == [part.num_rows for part in parts]
    assert parts[0].schema.equals(TRANSACTIONS)
    dataset = ds.dataset(tmp_path / "lake" / "transactions", partitioning="hive")
    assert dataset.count_rows() == made.transactions.num_rows
    assert pq.read_table(tmp_path / "lake" / "labels.parquet").equals(made.labels)
    assert pq.read_table(tmp_path / "lake" / "truth.parquet").equals(made.truth)
    assert json.loads((tmp_path / "lake" / "manifest.json").read_text()) == manifest
    assert manifest["rows"] == made.transactions.num_rows
    assert manifest["fraud_types"] == fraud_counts(made.truth)
    assert (manifest["first_day"], manifest["last_day"], manifest["days"]) == ("2026-01-05", "2026-01-08", 4)


def test_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(generate(CONFIG), tmp_path / name)
    digests = [
        {
            file.relative_to(tmp_path / name): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in (tmp_path / name).rglob("*.*")
            if file.is_file()
        }
        for name in ("a", "b")
    ]
    assert len(digests[0]) == 7
    assert digests[0] == digests[1]


def test_non_empty_directory_is_refused_without_force(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InvalidSetting, match="not empty"):
        claim(tmp_path, force=False)
    claim(tmp_path, force=True)
    assert list(tmp_path.iterdir()) == []


def test_force_never_deletes_what_is_no_world(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidSetting, match=r"thesis\.txt"):
        claim(tmp_path, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_file_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InvalidSetting, match="not a directory"):
        claim(tmp_path / "out", force=True)
