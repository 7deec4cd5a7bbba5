"""What the commands say without an account: figures in a file or alone on standard output, one sentence when not."""

import json
import sys
from pathlib import Path

import pytest

from infra import rules
from infra.__main__ import main
from infra.rules import Finding

FOUND = Finding("least privilege", "Role", "names every action")


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["infra", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "findings", lambda stack, _template: [FOUND] if stack == "data" else [])


def test_figures_are_alone_on_standard_output_or_in_a_file_beside_the_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "rules", "--json", "-") == 0
    assert capsys.readouterr().out == "[]\n"
    file = tmp_path / "new" / "rules.json"
    assert run(monkeypatch, "rules", "--json", file) == 0
    assert capsys.readouterr().out.startswith("no rule is broken; ")
    assert file.read_text() == "[]\n"


@pytest.mark.usefixtures("broken")
def test_what_is_broken_is_in_the_figures_and_the_status_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = [{"stack": "data", "rule": "least privilege", "resource": "Role", "detail": "names every action"}]
    assert run(monkeypatch, "rules", "--json", "-") == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == expected
    assert said.err.splitlines()[-1] == "infra: 1 rules are broken (stale_templates)"
    assert run(monkeypatch, "rules", "--json", tmp_path / "rules.json") == 1
    assert json.loads((tmp_path / "rules.json").read_text()) == expected


@pytest.mark.parametrize(
    "url", ["notaurl", "127.0.0.1:5000", "ftp://127.0.0.1", "http://", "http://a:99999", "http://[1"]
)
def test_address_that_is_none_is_named_beside_one_that_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for words in (("status", "prod"), ("redrive", "dev")):
        assert run(monkeypatch, *words, "--endpoint-url", url) == 2
        assert f"{url!r} is no address; one looks like http://127.0.0.1:5000" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for words in (("rules", "--json"), ("bill", "lambda", "--out")):
        assert run(monkeypatch, *words, tmp_path / "file" / "below") == 1
        assert capsys.readouterr().err == f"infra: {tmp_path / 'file'}: File exists\n"


def test_an_error_of_the_disk_without_a_number_is_still_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> list[Finding]:
        raise OSError("Cannot create a directory")

    monkeypatch.setattr(rules, "findings", refuse)
    assert run(monkeypatch, "rules") == 1
    assert capsys.readouterr().err == "infra: Cannot create a directory\n"
