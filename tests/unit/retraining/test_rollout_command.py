"""What the rollout's commands answer with: a status for the caller, figures for a file or for standard output."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from retraining.endpoint import Serving
from retraining.rollout import command
from retraining.rollout.canary import RolloutReport

WHERE = ("--models", "sagemaker:tollgate-dev-scorer", "--bucket", "lake", "--endpoint", "tollgate-dev-scorer")


class Conducted:
    """A rollout whose end is known, and the endpoint it ended on."""

    def __init__(self, report: RolloutReport) -> None:
        self.report = report

    def watch(self, _say: object) -> RolloutReport:
        return self.report

    def compare(self, _now: Serving) -> None:
        """Return no canary."""

    def look(self) -> Serving:
        return Serving("InService", "", "c1", "p1", since_ms=1)


def run(monkeypatch: pytest.MonkeyPatch, report: RolloutReport, *words: object) -> Any:
    conducted = Conducted(report)
    monkeypatch.setattr(command, "conduct", lambda *_: (conducted, conducted))
    return CliRunner().invoke(command.app, [str(words[0]), *WHERE, *map(str, words[1:])])


@pytest.mark.parametrize(("ending", "code"), [("full", 0), ("unchanged", 0), ("rolled back", 3)])
def test_the_end_of_a_rollout_is_a_status_and_the_same_figures_in_a_file_or_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: Any, code: int
) -> None:
    report = RolloutReport(ending, "v1", "why")
    alone = run(monkeypatch, report, "watch", "--json", "-")
    beside = run(monkeypatch, report, "watch", "--json", tmp_path / "new" / "end.json")
    assert (alone.exit_code, beside.exit_code) == (code, code)
    assert json.loads(alone.stdout) == {"ending": ending, "version": "v1", "reason": "why", "seen": None}
    assert (tmp_path / "new" / "end.json").read_text() == alone.stdout
    assert beside.stdout == f"{ending}: v1 serves (why)\n"


def test_what_an_endpoint_serves_is_shown_beside_a_file_of_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = RolloutReport("full", "v1")
    alone = run(monkeypatch, report, "status", "--json", "-")
    beside = run(monkeypatch, report, "status", "--json", tmp_path / "now.json")
    figures = json.loads(alone.stdout)
    assert (figures["stage"], figures["package"], figures["canary"]) == ("full", "p1", None)
    assert json.loads((tmp_path / "now.json").read_text()) == figures
    assert "package  p1\n" in beside.stdout
