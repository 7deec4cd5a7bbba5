import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulation.__main__ import app

SMALL = ["--days", "2", "--transactions-per-day", "300", "--seed", "4"]


def test_generate_writes_a_world_and_prints_its_manifest(tmp_path: Path) -> None:
    out = tmp_path / "lake"
    result = CliRunner().invoke(
        app, ["generate", *SMALL, "--start", "2026-03-30", "--currency", "CHF", "--out", str(out), "--json", "-"]
    )
    assert result.exit_code == 0, result.output
    manifest = json.loads(result.stdout)
    assert manifest == json.loads((out / "manifest.json").read_text())
    assert (manifest["first_day"], manifest["last_day"], manifest["currency"]) == ("2026-03-30", "2026-03-31", "CHF")
    assert sorted(path.name for path in (out / "transactions").iterdir()) == ["dt=2026-03-30", "dt=2026-03-31"]


def test_manifest_goes_to_a_file_of_a_new_folder_beside_the_table(tmp_path: Path) -> None:
    figures, out = tmp_path / "new" / "figures.json", tmp_path / "lake"
    result = CliRunner().invoke(app, ["generate", *SMALL, "--out", str(out), "--json", str(figures)])
    assert result.exit_code == 0, result.output
    assert json.loads(figures.read_text()) == json.loads((out / "manifest.json").read_text())
    assert "fraud_types" not in result.stdout
    assert "card_testing" in result.stdout


def test_full_disk_is_one_sentence_and_the_same_command_works_afterwards(tmp_path: Path) -> None:
    out = tmp_path / "lake"
    command = [sys.executable, "-m", "simulation", "generate", *SMALL, "--out", str(out)]
    full = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),  # as a disk with no room left
    )
    assert full.returncode == 2
    assert "Traceback" not in full.stderr
    assert full.stderr.strip().splitlines()[-1].startswith("simulation: ")
    assert list(out.iterdir()) == []
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_second_run_is_refused_until_forced(tmp_path: Path) -> None:
    arguments = ["generate", *SMALL, "--out", str(tmp_path / "lake")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert CliRunner().invoke(app, [*arguments, "--force"]).exit_code == 0


@pytest.mark.parametrize(
    ("option", "value"), [("--days", "0"), ("--seed", "-1"), ("--currency", "euro"), ("--transactions-per-day", "1")]
)
def test_bad_value_is_named_and_writes_nothing(tmp_path: Path, option: str, value: str) -> None:
    result = CliRunner().invoke(app, ["generate", *SMALL, option, value, "--out", str(tmp_path / "lake")])
    assert result.exit_code == 2
    assert value in result.stderr
    assert not (tmp_path / "lake").exists()
