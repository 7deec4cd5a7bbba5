"""The commands as people and machines call them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulation.__main__ import app
from simulation.command_line import check_writable

WIDE = {"COLUMNS": "250"}
TRACE = "start,rate\n" + "".join(f"2026-03-10T{9 + n // 60:02d}:{n % 60:02d}:00Z,{40 + n}\n" for n in range(120))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return path


def test_trace_command_writes_what_capacity_reads(tmp_path: Path) -> None:
    out = tmp_path / "payday.csv"
    result = CliRunner().invoke(app, ["trace", "--kind", "payday", "--days", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert len(out.read_text().splitlines()) == 1 + 24 * 60


def test_capacity_prints_tables_and_assumptions_and_writes_json_and_plot(tmp_path: Path, trace: Path) -> None:
    found, picture = tmp_path / "capacity.json", tmp_path / "capacity.png"
    result = CliRunner(env=WIDE).invoke(
        app, ["capacity", "--trace", str(trace), "--json", str(found), "--plot", str(picture), "--overhead-ms", "3"]
    )
    assert result.exit_code == 0, result.output
    for words in ("perfect foresight", "start delay 900 s", "payday minimum", "a zone lost", "3 ms to every request"):
        assert words in result.stdout.replace("\n", " ")
    content = json.loads(found.read_text())
    assert len(content["minutes"]) == 120
    assert content["requests"] == sum(minute["requests"] for minute in content["minutes"])
    assert content["instance_hours"] == pytest.approx(8.0)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_same_seed_writes_the_same_bytes(tmp_path: Path, trace: Path) -> None:
    texts = []
    for name in ("one.json", "two.json"):
        command = ["capacity", "--trace", str(trace), "--no-sensitivity", "--json", str(tmp_path / name)]
        assert CliRunner().invoke(app, command).exit_code == 0
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]


@pytest.mark.parametrize("arguments", [["--scale", "1000"], ["--trace", "TRACE", "--no-sensitivity"]])
def test_figures_alone_go_to_standard_output(trace: Path, arguments: list[str]) -> None:
    given = [str(trace) if argument == "TRACE" else argument for argument in arguments]
    result = CliRunner(env=WIDE).invoke(app, ["capacity", *given, "--json", "-"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert {"saved_against_peak", "monthly_cost"} & set(content)


def test_scale_prints_the_sizing(tmp_path: Path) -> None:
    path = tmp_path / "scale.json"
    result = CliRunner(env=WIDE).invoke(app, ["capacity", "--scale", "100000", "--json", str(path)])
    assert result.exit_code == 0, result.output
    content = json.loads(path.read_text())
    assert content["rate"] == 100_000
    assert content["bottleneck"] in result.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--trace"),
        (["--trace", "nowhere.csv"], "nowhere.csv"),
        (["--scale", "0"], "0.0"),
        (["--trace", "TRACE", "--scale", "1000"], "--trace"),
        (["--plot", "x.png", "--scale", "1000"], "--plot"),
        (["--payday-minimum", "9", "--scale", "1000"], "--payday-minimum"),
        (["--trace", "TRACE", "--start-delay", "-5"], "-5"),
        (["--trace", "TRACE", "--service", "nowhere.json"], "nowhere.json"),
        (["--trace", "TRACE", "--instance-rate", "0"], "--instance-rate"),
        (["--trace", "TRACE", "--payday-minimum", "99"], "99"),
    ],
)
def test_bad_value_is_named(trace: Path, arguments: list[str], said: str) -> None:
    given = [str(trace) if argument == "TRACE" else argument for argument in arguments]
    result = CliRunner().invoke(app, ["capacity", "--no-sensitivity", *given])
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    ("option", "file", "said"),
    [
        ("--plot", "picture.doc", "picture.doc does not end with .png or .svg or .pdf"),
        ("--plot", "picture", "picture does not end with .png"),
        ("--plot", "folder.png", "folder.png: Is a directory"),
        ("--plot", "trace.csv/picture.png", "trace.csv: File exists"),
        ("--json", "folder.png", "folder.png: Is a directory"),
        ("--json", "trace.csv/figures.json", "trace.csv: File exists"),
    ],
)
def test_file_that_cannot_be_written_is_refused_before_the_study(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trace: Path, option: str, file: str, said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the study has begun")

    monkeypatch.setattr("simulation.capacity_command.study", refuse)
    (tmp_path / "folder.png").mkdir()
    result = CliRunner(env=WIDE).invoke(app, ["capacity", "--trace", str(trace), option, str(tmp_path / file)])
    assert result.exit_code == 2, result.exception
    assert said in result.stderr


def test_checking_a_file_leaves_none_and_keeps_what_is_there(tmp_path: Path) -> None:
    new, old = tmp_path / "new" / "figures.json", tmp_path / "old.json"
    old.write_text("{}")
    check_writable(new)
    check_writable(old)
    assert (new.parent.is_dir(), new.exists(), old.read_text()) == (True, False, "{}")
