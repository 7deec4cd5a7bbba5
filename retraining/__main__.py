"""The weekly loop's command line: week, backtest, rollback, history, status, rollout; pipeline and step for SageMaker.

``week`` ends with 0 when the challenger was promoted, 3 when it was refused, 1 when something failed.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from fraud.errors import CorruptBundle, TollgateError
from retraining import backtest_command, jobs
from retraining.addresses import open_registry
from retraining.label_facts import lake_facts
from retraining.limits import LIMITS
from retraining.registry import ModelRegistry, Registry
from retraining.rollout import command as rollouts
from retraining.weekly import (
    WeekPlan,
    WeekReport,
    run_week,
    training_set_builder,
    week_figures,
    weighed_builder,
)
from training.command_line import (
    JsonFile,
    as_of_or_end,
    end_with,
    make_profiles,
    wants_only_json,
    write_figures,
)
from training.policy_rules import PolicyRules, read_rules
from training.progress import progress_bar, progress_bars
from training.recipes import read_recipe
from training.selective import read_decisions

ROOT: Final = Path(__file__).resolve().parents[1]
PROMOTED: Final = 0
REFUSED: Final = 3
_COLOURS: Final = {"pass": "green", "FAIL": "red", "not asked": "yellow"}

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(jobs.app, name="step")
app.add_typer(rollouts.app, name="rollout")
backtest_command.register(app)

Models = Annotated[str, typer.Option(help="Registry: a folder, or sagemaker:GROUP together with --bucket.")]
Bucket = Annotated[str, typer.Option(help="Bucket of a registry on AWS.")]


@app.command()
def week(
    lake: Annotated[Path, typer.Option(help="Folder of the data set: transactions/, labels.parquet, profiles/.")],
    models: Models,
    bucket: Bucket = "",
    image: Annotated[str, typer.Option(help="Inference image of what is registered on AWS.")] = "",
    approval: Annotated[str, typer.Option(help="On AWS: automatic, or manual to wait for a person.")] = "automatic",
    as_of: Annotated[str, typer.Option(help="Day of the iteration; by default the day after the log's last.")] = "",
    train_days: Annotated[int, typer.Option(min=1, help="Days that the trees are grown on.")] = 30,
    validation_days: Annotated[int, typer.Option(min=1, help="Days after them: when to stop, thresholds.")] = 7,
    test_days: Annotated[int, typer.Option(min=1, help="Held-out days, the newest whose labels are mature.")] = 7,
    label_delay: Annotated[int, typer.Option(min=0, help="Days until a label is mature.")] = 21,
    review_share: Annotated[float, typer.Option(min=0, max=1, help="Transactions people can look at.")] = 0.01,
    insult_share: Annotated[float, typer.Option(min=0, max=1, help="Good transactions that may be declined.")] = 0.001,
    policy: Annotated[Path | None, typer.Option(help="JSON file of rules around the thresholds.")] = None,
    parameters: Annotated[Path | None, typer.Option(help="Parameters file of `training search`.")] = None,
    decisions: Annotated[
        Path | None, typer.Option(help="Parquet of transaction_id, outcome, propensity: weighs by inverse propensity.")
    ] = None,
    parity: Annotated[
        Path | None,
        typer.Option(help="Certificate of `monitoring parity --json`: without a mismatch, or no promotion."),
    ] = None,
    require_parity: Annotated[
        bool, typer.Option("--require-parity", help="Without a certificate no promotion.")
    ] = False,
    audit: Annotated[bool, typer.Option("--audit/--no-audit", help="Prove that no feature sees the future.")] = True,
    seeds: Annotated[int, typer.Option(min=0, help="Other seeds that have to agree; 0 does not ask.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of the fit: the same rows and seed, the same model.")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Judge although this calendar week has its verdict.")] = False,
    repo: Annotated[Path, typer.Option(help="Feast repository.")] = ROOT / "feature_repo",
    json_file: JsonFile = None,
) -> None:
    """Run one iteration: train a challenger, judge it against the champion, promote or refuse it."""
    plan = WeekPlan(
        train_days, validation_days, test_days, label_delay, review_share=review_share, insult_share=insult_share,
        seed=seed, rules=PolicyRules() if policy is None else read_rules(policy), recipe=read_recipe(parameters),
    )  # fmt: skip
    weighed = None if decisions is None else read_decisions(decisions)
    registry = open_registry(models, bucket=bucket, image=image, approval=approval)
    asked = _Asked(parity, require_parity, audit, seeds, again)
    report = _run(lake, registry, repo, plan, as_of_or_end(as_of, lake), asked, weighed)
    code = PROMOTED if report.promoted else REFUSED
    write_figures(week_figures(report) | {"exit_code": code}, json_file)
    if not wants_only_json(json_file):
        _show(report, code)
    raise typer.Exit(code)


@app.command()
def rollback(
    models: Models,
    bucket: Bucket = "",
    to: Annotated[str, typer.Option(help="Version to serve; by default the champion before this one.")] = "",
    endpoint: Annotated[str, typer.Option(help="SageMaker endpoint that goes back too, at once.")] = "",
) -> None:
    """Make an earlier version champion again; with --endpoint stop its canary or serve what it served before."""
    if endpoint and to:
        raise typer.BadParameter("--endpoint goes back to what was served before; without it --to names any version")
    if endpoint:
        conductor, _ = rollouts.conduct(models, bucket, endpoint)
        with rollouts.waiting(f"rollback of {endpoint}") as say:
            report = conductor.roll_back(lambda now: say(now.status))
        rollouts.show_report(report)
        return
    registry = _existing(models, bucket)
    with registry.locked():
        before = registry.champion_version()
        version = registry.rollback(to or None)
    typer.echo(f"champion is {version} again; {before} stays in {models}")


@app.command()
def pipeline(
    check: Annotated[bool, typer.Option("--check/--render", help="Only compare; fail on a difference.")] = False,
) -> None:
    """Write the definition of the SageMaker pipeline, without a call to AWS."""
    from retraining import pipeline as definition

    if check:
        definition.check()
        typer.echo(f"{definition.GOLDEN.name} is what the code makes")
        return
    definition.GOLDEN.write_text(definition.render(), encoding="utf-8")
    typer.echo(f"wrote {definition.GOLDEN}")


@app.command()
def history(models: Models, bucket: Bucket = "", json_file: JsonFile = None) -> None:
    """Show every promotion, refusal and rollback, oldest first."""
    events = _existing(models, bucket).history()
    write_figures({"events": events}, json_file)
    if wants_only_json(json_file):
        return
    table = Table()
    for column in ("as of", "event", "version", "why"):
        table.add_column(column, no_wrap=column != "why")
    for event in events:
        failed = [check for check in event.get("checks", []) if not check["passed"]]
        why = "\n".join(f"{check['name']}: {check['evidence']}" for check in failed)
        if event["event"] == "rolled_back":
            why = f"from {event['from_version']}"
        table.add_row(_day(event.get("as_of_ms")), event["event"], event["version"], why)
    Console().print(table)


@app.command()
def status(models: Models, bucket: Bucket = "", json_file: JsonFile = None) -> None:
    """Show the champion, whether it opens, and where a rollback would lead."""
    registry = _existing(models, bucket)
    version, fault = registry.champion_version(), None
    provenance: dict[str, Any] = {}
    try:
        champion = registry.champion()
        provenance = dict(champion.provenance) if champion else {}
    except CorruptBundle as error:
        fault = str(error)
    earlier = [known for known in registry.served() if known != version]
    found = {
        "champion": version,
        "opens": fault is None and version is not None,
        "fault": fault,
        "rollback_leads_to": earlier[-1] if earlier else None,
        "versions": len(registry.versions()),
        "provenance": provenance,
    }
    write_figures(found, json_file)
    if not wants_only_json(json_file):
        for name, value in found.items():
            typer.echo(f"{name:>18}  {value}")
    if fault is not None:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Asked:
    """What is asked beside the gate's own checks."""

    parity: Path | None
    require_parity: bool
    audit: bool
    seeds: int
    again: bool


def _run(
    lake: Path,
    registry: ModelRegistry,
    repo: Path,
    plan: WeekPlan,
    as_of_ms: int,
    asked: _Asked,
    decisions: pa.Table | None,
) -> WeekReport:
    from retraining.inspection import inspector, lake_prover
    from training.feast_store import compiled_plan, open_lake_store

    make_profiles(lake)
    with progress_bar("feast: definitions of this lake"):
        store = open_lake_store(repo, lake)
        read_plan = compiled_plan(store)
    with progress_bars("features, point in time", "trees", "leak audit") as (rows_done, trees_done, audited):
        build = training_set_builder(store, lake, rows_done)
        prove = lake_prover(lake, plan, as_of_ms=as_of_ms, progress=audited) if asked.audit else None
        return run_week(
            build if decisions is None else weighed_builder(build, decisions),
            registry,
            as_of_ms=as_of_ms,
            plan=plan,
            read_plan=read_plan,
            root=ROOT,
            limits=LIMITS,
            inspect=inspector(
                plan, as_of_ms=as_of_ms, prove=prove, parity=asked.parity, require_parity=asked.require_parity,
                seeds=asked.seeds,
            ),
            facts=lake_facts(lake, plan),
            again=asked.again,
            progress=trees_done,
        )  # fmt: skip


def _existing(models: str, bucket: str) -> ModelRegistry:
    """Return a registry whose folder must be there: a mistyped one would look like an empty registry."""
    registry = open_registry(models, bucket=bucket)
    if isinstance(registry, Registry) and not registry.folder.is_dir():
        raise FileNotFoundError(2, "no such registry; name the folder that `week` was given as --models", models)
    return registry


def _show(report: WeekReport, code: int) -> None:
    table = Table(title=f"Challenger {report.challenger}, as of {_day(report.as_of_ms)}")
    for column in ("check", "", "evidence"):
        table.add_column(column, no_wrap=column == "check")
    for check in report.verdict.checks:
        table.add_row(check.name, f"[{_COLOURS[check.word]}]{check.word}[/]", check.evidence)
    Console().print(table)
    if report.repeated:
        typer.echo("this week has its verdict, which stands; nothing was changed (--again judges anew)")
    typer.echo(f"{'promoted' if report.promoted else 'refused'}; champion is {report.champion}; exit code {code}")


def _day(time_ms: int | None) -> str:
    return "" if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()


def main() -> None:
    """Run the command line; an expected failure ends with one sentence and code 1."""
    os.environ.setdefault("FEAST_USAGE", "False")
    try:
        app()
    except (TollgateError, OSError) as error:
        end_with("retraining", error)


if __name__ == "__main__":
    main()
