"""The commands that change lists: whole files, one writer at a time, one sentence when it cannot."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from serving.__main__ import main
from serving.list_file import add_entry
from serving.lists import ListEntry, read_entries
from tests.support.scorers import ROOT

ADD = ("lists", "add", "--entity", "card", "--key", "c1", "--list", "block", "--reason", "stolen", "--by", "ann")


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_an_entry_is_added_shown_replaced_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lists.json"
    assert run(*ADD, "--file", file, "--days", "2", "--json", "-") == 0
    added = answer(capsys)
    assert added["replaced"] is False
    assert added["entry"]["expires_ms"] - added["entry"]["added_ms"] == 2 * 86_400_000
    assert abs(added["entry"]["added_ms"] - time.time() * 1000) < 60_000
    assert run("lists", "show", "--file", file, "--json", "-") == 0
    assert answer(capsys)["entries"] == [added["entry"]]
    assert run(*ADD, "--file", file, "--json", "-") == 0
    assert answer(capsys)["replaced"] is True
    assert len(read_entries(file)) == 1
    remove = ("lists", "remove", "--file", file, "--entity", "card", "--key", "c1", "--list", "block", "--json", "-")
    assert [run(*remove), run(*remove)] == [0, 1]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"removed": True},
        {"removed": False},
    ]
    assert read_entries(file) == ()


def test_expired_entries_are_shown_only_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lists.json"
    old = ListEntry(
        entity="card", key="c1", list="allow", reason="r", added_by="a", added_ms=1, expires_ms=1_600_000_000_000
    )
    assert add_entry(file, old) is False
    assert run("lists", "show", "--file", file) == 0
    assert capsys.readouterr().out == "0 entries\n"
    assert run("lists", "show", "--file", file, "--all") == 0
    assert "allow  card  c1  until 2020-09-13T12:26+00:00  r (a)" in capsys.readouterr().out


def test_a_folder_gets_a_file_of_its_own_and_the_setting_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLGATE_LISTS", str(tmp_path))
    assert run(*ADD) == 0
    assert [entry.key for entry in read_entries(tmp_path / "entries.json")] == ["c1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*ADD, "--days", "0"), "--days 0 is not in 0..3650 (invalid_setting)"),
        ((*ADD, "--days", "nan"), "--days nan"),
        ((*ADD, "--key", "4111111111111111"), "key: looks like a card number; send a token instead (invalid_list)"),
        ((*ADD, "--reason", ""), "reason is not 1 to"),
        (("lists", "show"), "(invalid_list)"),
    ],
)
def test_what_cannot_be_done_ends_with_one_sentence_and_changes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lists.json"
    assert run(*arguments, "--file", file) == 1
    error = capsys.readouterr().err
    assert error.startswith("serving: ")
    assert said in error
    assert error.count("\n") == 1
    assert not file.exists()


def test_figures_go_to_a_file_beside_the_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, figures = tmp_path / "lists.json", tmp_path / "new" / "figures.json"
    assert run(*ADD, "--file", file, "--json", figures) == 0
    assert json.loads(figures.read_text())["entry"]["key"] == "c1"
    assert capsys.readouterr().out.startswith("added; in force until ")
    assert run("lists", "show", "--file", file, "--json", figures) == 0
    assert [entry["key"] for entry in json.loads(figures.read_text())["entries"]] == ["c1"]
    assert capsys.readouterr().out.endswith("1 entries\n")


@pytest.mark.parametrize("option", ["--file", "--json"])
def test_a_place_that_cannot_be_written_ends_with_one_sentence(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(*ADD, "--file", tmp_path / "lists.json", option, tmp_path / "file" / "below") == 1
    assert capsys.readouterr().err == f"serving: {tmp_path / 'file'}: {os.strerror(errno.EEXIST)}\n"


def test_without_a_file_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TOLLGATE_LISTS", raising=False)
    assert run("lists", "show") == 1
    assert "give --file, or set TOLLGATE_LISTS" in capsys.readouterr().err


def test_a_malformed_file_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lists.json"
    file.write_text("{")
    assert run(*ADD, "--file", file) == 1
    assert "is no file of lists" in capsys.readouterr().err
    assert file.read_text() == "{"


def test_two_writers_at_once_lose_nothing_and_readers_see_whole_files(tmp_path: Path) -> None:
    file = tmp_path / "lists.json"
    script = (
        "import sys\nfrom pathlib import Path\nfrom serving.list_file import add_entry\n"
        "from serving.lists import ListEntry\n"
        "for n in range(60):\n"
        "    add_entry(Path(sys.argv[1]), ListEntry(entity='card', key=f'{sys.argv[2]}-{n}', list='block',"
        " reason='r', added_by='a', added_ms=1, expires_ms=2))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(file), name], cwd=ROOT) for name in ("a", "b", "c")]
    sizes = [0]
    while any(writer.poll() is None for writer in writers):
        if file.exists():
            sizes.append(len(read_entries(file)))
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert sizes == sorted(sizes)
    assert len(read_entries(file)) == 180
    assert {path.name for path in tmp_path.iterdir()} == {"lists.json", ".lists.json.lock"}


def test_an_end_that_no_calendar_has_is_shown_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lists.json"
    add_entry(
        file,
        ListEntry(entity="card", key="c1", list="allow", reason="r", added_by="a", added_ms=1, expires_ms=2**60),
    )
    assert run("lists", "show", "--file", file) == 0
    assert "until after the year 9999" in capsys.readouterr().out
