"""What the training command line says, and where: figures on standard output, one sentence when it cannot."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.feast_lakes import MIDDLE_MS, FeastLake
from tests.support.feast_lakes import PAYMENTS as PAYMENTS_OF_LAKE
from tests.support.lakes import DAY_MS, random_payments, write_lake
from training.__main__ import app, main
from training.command_line import as_of_or_end, make_profiles, moment
from training.errors import InvalidSplit
from training.transaction_log import day_text

LAYOUTS = Path(__file__).parents[2] / "data" / "layouts"
PAYMENTS = random_payments(51, 120)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["training", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    write_lake(tmp_path / "lake", PAYMENTS)
    return tmp_path / "lake"


def test_profiles_answers_with_its_counts(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "profiles", "--lake", lake, "--json", "-") == 0
    figures = json.loads(capsys.readouterr().out)
    for entity in ("card", "merchant"):
        rows = pq.read_metadata(lake / "profiles" / entity / "part-0.parquet").num_rows
        assert figures[f"{entity}_rows"] == rows > 0


def test_figures_go_to_a_file_and_the_table_to_the_person(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "new" / "figures.json"
    assert run(monkeypatch, "profiles", "--lake", lake, "--json", figures) == 0
    assert set(json.loads(figures.read_text())) == {"card_rows", "merchant_rows"}
    assert "card_rows" in capsys.readouterr().out


def test_a_missing_lake_ends_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "profiles", "--lake", tmp_path / "nowhere") == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("training: ")
    assert said[0].endswith("has no day: generate or import a data set first (unreadable_source)")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--start", "2026-13-01", "--end", "2026-03-02"), "start '2026-13-01' is not a day such as 2026-03-01"),
        (("--start", "2026-03-02", "--end", "2026-03-02"), "start 2026-03-02 is not before end 2026-03-02"),
        (("--start", "1.3.2026", "--end", "2026-03-02"), "start '1.3.2026' is not a day such as 2026-03-01"),
    ],
)
def test_a_bad_span_names_its_value(
    lake: Path,
    arguments: tuple[str, ...],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "dataset", "--lake", lake, "--out", lake / "x.parquet", *arguments) == 1
    assert sentence in capsys.readouterr().err
    assert not (lake / "x.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--label-delay", "a month"), "label delay 'a month' is not a duration such as 30d"),
        (("--as-known", "--lag", "2"), "lag '2' is not a duration such as 30d, 12h, 90m, 2s or 250ms"),
        (("--lag", "2s"), "--lag 2s needs --as-known: by event time nothing lags"),
        (("--keep-legitimate", "1.5"), "keep-legitimate 1.5 is not above 0 and at most 1"),
        (("--service", "mine"), "service 'mine' has no feature contract here; there is fraud_score_v1"),
        (("--as-of", "2026-02-30"), "as-of '2026-02-30' is not a day such as 2026-03-01"),
    ],
)
def test_a_dataset_refuses_what_it_cannot_answer(
    lake: Path,
    arguments: tuple[str, ...],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    span = ("--start", "2026-01-20", "--end", "2026-01-25")
    assert run(monkeypatch, "dataset", "--lake", lake, "--out", lake / "set", *span, *arguments) == 1
    assert sentence in capsys.readouterr().err
    assert not (lake / "set").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("dataset", "--start", "2026-01-20", "--end", "2026-01-25", "--out", "set"),
        ("labels",),
        ("train", "--out", "set"),
    ],
)
def test_an_address_is_no_folder_and_says_what_to_do(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *command, "--lake", "s3://bucket/lake") == 1
    said = capsys.readouterr().err
    assert "s3://bucket/lake is an address, and commands work on a folder: mount it, or copy it" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_a_set_without_a_fraud_says_so(
    filled: FeastLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled.fill(PAYMENTS_OF_LAKE, [])
    span = ("--start", day_text(MIDDLE_MS - 2 * DAY_MS), "--end", day_text(MIDDLE_MS), "--label-delay", "5d")
    assert run(monkeypatch, "dataset", "--lake", filled.folder, "--out", tmp_path / "set", *span) == 0
    assert "rows is known to be fraud; no model can be fitted to this set" in capsys.readouterr().err
    assert json.loads((tmp_path / "set" / "manifest.json").read_text())["frauds"] == 0


@pytest.mark.filterwarnings("ignore")
def test_a_dataset_is_asked_for_in_words(
    filled: FeastLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, end = (day_text(time) for time in (MIDDLE_MS - 6 * DAY_MS, MIDDLE_MS))
    words = (
        "--start",
        first,
        "--end",
        end,
        "--label-delay",
        "5d",
        "--as-known",
        "--lag",
        "2s",
        "--keep-legitimate",
        "0.5",
    )
    out = tmp_path / "set"
    assert run(monkeypatch, "dataset", "--lake", filled.folder, "--out", out, *words, "--json", "-") == 0
    figures = json.loads(capsys.readouterr().out)
    manifest = json.loads((out / "manifest.json").read_text())
    assert figures["manifest"] == manifest
    assert (figures["rows"], figures["leaks"]) == (pq.read_metadata(out / "rows.parquet").num_rows, 0)
    request = manifest["request"]
    assert (request["start"], request["end"], request["label_delay"], request["lag_ms"]) == (first, end, "5d", 2_000)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--as-of", "yesterday"), "as-of 'yesterday' is not a day such as 2026-03-01 (invalid_split)"),
        (("--judge-by", "guess"), "--judge-by 'guess' is none of labels, truth (invalid_split)"),
    ],
)
def test_train_refuses_what_it_does_not_know(
    lake: Path,
    arguments: tuple[str, ...],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "train", "--lake", lake, "--out", lake / "out", *arguments) == 1
    assert sentence in capsys.readouterr().err
    assert not (lake / "out").exists()


def test_an_unknown_format_is_named_with_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "import", tmp_path, "--out", tmp_path / "lake", "--format", "stone-tablet") == 1
    said = capsys.readouterr().err
    assert "'stone-tablet'" in said
    assert "handbook" in said


def test_import_says_how_many_rows_were_refused_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("import", LAYOUTS / "tabformer.csv", "--mapping", "tabformer", "--out")
    assert run(monkeypatch, *arguments, tmp_path / "one", "--json", "-") == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["rows"], figures["rejected"], figures["frauds"]) == (3, 2, 1)
    assert {(count["reason"], count["at"]) for count in figures["reasons"]} == {
        ("no time", "tabformer.csv:3"),
        ("amount out of range", "tabformer.csv:4"),
    }
    assert run(monkeypatch, *arguments, tmp_path / "two", "--label-delay", "9d") == 0
    said = capsys.readouterr().out
    assert "no time" in said
    assert "Rejected rows" in said
    assert json.loads((tmp_path / "two" / "manifest.json").read_text())["label_delay_ms"] == 9 * 86_400_000
    assert run(monkeypatch, *arguments, tmp_path / "two") == 1
    assert "exists already" in capsys.readouterr().err


def test_a_delay_that_is_no_duration_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ("--label-delay", "soon", "--out", tmp_path / "lake")
    assert run(monkeypatch, "import", tmp_path / "absent.csv", "--mapping", "tabformer", *wrong) == 1
    assert "label delay 'soon' is not a duration such as 30d" in capsys.readouterr().err


def test_profiles_are_made_once_and_only_when_due(lake: Path) -> None:
    path = lake / "profiles" / "card" / "part-0.parquet"
    make_profiles(lake)
    first = path.stat().st_mtime_ns
    make_profiles(lake)
    assert path.stat().st_mtime_ns == first


def test_the_time_is_the_day_asked_for_or_the_one_after_the_logs_last(lake: Path) -> None:
    last = max(folder.name for folder in (lake / "transactions").iterdir()).removeprefix("dt=")
    assert as_of_or_end("", lake) == moment("day", last) + 86_400_000
    assert as_of_or_end("2026-03-01", lake) == moment("day", "2026-03-01")
    with pytest.raises(InvalidSplit):
        as_of_or_end("2026-03-01T00:00", lake)


def test_every_command_has_a_sentence_of_help() -> None:
    names = {
        command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands
    }
    assert names == {"import", "profiles", "dataset", "train", "labels", "search", "evaluate", "declines"}
    assert all(command.callback is not None and command.callback.__doc__ for command in app.registered_commands)
