"""Shadow lines are read as the scorer writes them, compared on the same decisions, and again when labels have come."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from retraining.errors import NoShadow
from retraining.meters import BANDS, DIMENSION, NAMESPACE, OUTCOMES
from retraining.rollout.command import app
from retraining.rollout.shadowing import BOUNDS, FOLDER, Known, ShadowLine, compare_shadow
from serving import embedded, shadow
from serving.metrics import SCORE_BOUNDS, Metrics


def line(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "decision_id": f"d{number}",
        "transaction_id": f"t{number}",
        "decided_at_ms": 1_770_000_000_000 + number,
        "amount_minor": 1000,
        "champion_version": "a" * 16,
        "champion_score": 0.02 + number % 7 / 100,
        "champion_outcome": "decline" if number % 50 == 0 else "approve",
        "challenger_version": "b" * 16,
        "challenger_score": 0.02 + number % 7 / 100,
        "challenger_outcome": "decline" if number % 50 == 1 else "approve",
    } | changes


def write(log: Path, lines: list[dict[str, Any]]) -> Path:
    folder = log / FOLDER
    folder.mkdir(parents=True)
    text = "\n".join(json.dumps(item) for item in lines)
    (folder / "shadow-1.jsonl").write_text(text + '\n{"schema": 1, "decision_')
    return log


def test_lines_and_metrics_have_the_scorers_names() -> None:
    assert ShadowLine.__struct_fields__ == shadow.ShadowDecision.__struct_fields__
    assert (FOLDER, BOUNDS) == (shadow.FOLDER, SCORE_BOUNDS)
    written = shadow.ShadowDecision(**{key: value for key, value in line(1).items() if key != "schema"})
    assert msgspec.json.decode(msgspec.json.encode(written), type=ShadowLine).challenger_outcome == "decline"
    metrics = Metrics()
    metrics.scores.add(0.5, ("v",))
    told = json.loads(embedded.EmbeddedMetrics(metrics, version=lambda: "v", write=lambda _: None).lines(0)[-1])
    directive = told["_aws"]["CloudWatchMetrics"][0]
    assert directive["Namespace"] == NAMESPACE
    assert [DIMENSION] in directive["Dimensions"]
    assert {*OUTCOMES, *BANDS} <= told.keys()
    assert [told[band] for band in BANDS] == [0.0] * 8 + [1.0] + [0.0] * 6


def test_both_sides_are_counted_on_the_same_decisions(tmp_path: Path) -> None:
    report = compare_shadow(write(tmp_path, [line(number) for number in range(1000)]))
    assert (report.champion, report.challenger, report.unreadable) == ("a" * 16, "b" * 16, 1)
    assert {side: counts.declines for side, counts in report.counts.items()} == {"champion": 20, "challenger": 20}
    assert report.changed == {"decline > approve": 20, "approve > decline": 20}
    assert report.counts["champion"].bands == report.counts["challenger"].bands
    assert report.verdict.passed
    assert report.known == {}


def test_labels_that_came_later_say_who_was_right(tmp_path: Path) -> None:
    log = write(tmp_path, [line(number) for number in range(1000)])
    frauds = {f"t{number}": number % 50 == 1 for number in range(500)}
    report = compare_shadow(log, frauds=frauds)
    assert report.known == {
        "champion": Known(frauds=10, stopped=0, legitimate=490, declined=10),
        "challenger": Known(frauds=10, stopped=10, legitimate=490, declined=0),
    }


def test_a_shadow_that_would_be_stopped_ends_with_three(tmp_path: Path) -> None:
    log = write(tmp_path, [line(number, challenger_outcome="decline") for number in range(1000)])
    result = CliRunner().invoke(app, ["compare", "--log", str(log), "--json", "-"])
    assert result.exit_code == 3
    figures = json.loads(result.stdout)
    assert (figures["verdict"]["checks"][0]["passed"], figures["exit_code"]) == (False, 3)
    file = tmp_path / "new" / "figures.json"
    result = CliRunner().invoke(app, ["compare", "--log", str(log), "--json", str(file)])
    assert (result.exit_code, json.loads(file.read_text())) == (3, figures)
    assert "declines" in result.stdout


def test_another_challenger_is_not_mixed_in_and_one_that_never_scored_is_named(tmp_path: Path) -> None:
    other = [line(number, challenger_version="c" * 16) for number in range(10)]
    log = write(tmp_path, [*other, *(line(number) for number in range(400))])
    assert compare_shadow(log, "c" * 16).counts["challenger"].decisions == 10
    with pytest.raises(NoShadow, match=f"known are {'b' * 16}, {'c' * 16}"):
        compare_shadow(log, "nothing")
    with pytest.raises(NoShadow, match="known are none"):
        compare_shadow(tmp_path / "elsewhere")


def test_the_local_shadow_is_a_link_that_comes_and_goes(tmp_path: Path) -> None:
    from retraining.registry import Registry
    from tests.support.bundles import bundle_files

    registry = Registry(tmp_path / "models")
    version = registry.add(bundle_files(1)).version
    models = f"file:{registry.folder}"
    assert CliRunner().invoke(app, ["shadow", "--models", models, version]).exit_code == 0
    assert (registry.folder / "shadow" / "manifest.json").is_file()
    assert CliRunner().invoke(app, ["shadow", "--models", models, "-"]).exit_code == 0
    assert not (registry.folder / "shadow").exists()
