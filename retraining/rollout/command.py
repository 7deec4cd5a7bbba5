"""``python -m retraining rollout``: shadow, compare, status, watch."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from retraining.addresses import open_registry
from retraining.errors import InvalidAddress
from retraining.registry import Registry
from retraining.rollout.canary import Canary, Conductor, RolloutReport, canary_figures
from retraining.rollout.shadowing import SIDES, ShadowReport, compare_shadow
from retraining.sagemaker_registry import SageMakerRegistry
from stores.bundle_files import point_to
from training.command_line import JsonFile, wants_only_json, write_figures

app = typer.Typer(no_args_is_help=True, help="From a challenger to all traffic: shadow, canary, full, and back.")

Models = Annotated[str, typer.Option(help="Registry: a folder, or sagemaker:GROUP together with --bucket.")]
Bucket = Annotated[str, typer.Option(help="Bucket of a registry on AWS.")]
Name = Annotated[str, typer.Option("--endpoint", help="SageMaker endpoint, such as tollgate-prod-scorer.")]

STOPPED = 3
"""Exit code when a rollout went back, or a shadow would be stopped: an answer, not a failure."""


@app.command()
def shadow(
    models: Models,
    version: Annotated[str, typer.Argument(help="Version that scores along; - ends the shadow.")],
) -> None:
    """Let a kept version score live traffic and decide nothing (scorers with TOLLGATE_SHADOW_DIR=MODELS/shadow)."""
    registry = open_registry(models)
    if not isinstance(registry, Registry):
        raise InvalidAddress(
            f"{models!r} is no folder; on AWS: python -m infra release ENV CHAMPION --shadow CHALLENGER"
        )
    link = registry.folder / "shadow"
    if version == "-":
        link.unlink(missing_ok=True)
        typer.echo("no version scores along any more")
        return
    registry.version(version)
    point_to(link, registry.folder / "versions" / version)
    typer.echo(f"{version} scores along; its decisions: python -m retraining rollout compare --log DIR")


@app.command()
def compare(
    log: Annotated[Path, typer.Option(help="Directory of the decision log.")],
    version: Annotated[str, typer.Option(help="Challenger; by default the last that scored along.")] = "",
    lake: Annotated[Path | None, typer.Option(help="Data set whose labels say what is known by now.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Compare a shadow with the champion on the same live decisions; 3 when a canary would be stopped at once."""
    frauds = None
    if lake is not None:
        frauds = _settled(lake)
    report = compare_shadow(log, version, frauds=frauds)
    code = 0 if report.verdict.passed else STOPPED
    if not wants_only_json(json_file):
        _show_shadow(report)
    write_figures(asdict(report) | {"exit_code": code}, json_file)
    raise typer.Exit(code)


@app.command()
def status(models: Models, endpoint: Name, bucket: Bucket = "", json_file: JsonFile = None) -> None:
    """Show what the endpoint serves, what comes, and what the breaker thinks of it."""
    conductor, place = conduct(models, bucket, endpoint)
    now = place.look()
    canary = conductor.compare(now)
    figures = {"stage": now.stage, **asdict(now), "canary": canary_figures(canary)}
    if not wants_only_json(json_file):
        for name in ("stage", "status", "config", "package", "coming", "coming_package", "failure"):
            typer.echo(f"{name:>16}  {figures[name] or '-'}")
        _show_canary(canary)
    write_figures(figures, json_file)


@app.command()
def watch(models: Models, endpoint: Name, bucket: Bucket = "", json_file: JsonFile = None) -> None:
    """Stay with a rollout to its end and call it back when it decides otherwise; 3 when it went back."""
    conductor, _ = conduct(models, bucket, endpoint)
    with waiting(f"rollout of {endpoint}") as say:
        report = conductor.watch(lambda now, canary: say(_sentence(now.status, canary)))
    if not wants_only_json(json_file):
        show_report(report)
    write_figures(asdict(report), json_file)
    raise typer.Exit(STOPPED if report.ending == "rolled back" else 0)


def conduct(models: str, bucket: str, endpoint: str) -> tuple[Conductor, Any]:
    """Return what conducts a rollout of an endpoint, and the endpoint.

    Raises
    ------
    InvalidAddress
        The registry is none on AWS.
    """
    registry = open_registry(models, bucket=bucket)
    if not isinstance(registry, SageMakerRegistry):
        raise InvalidAddress(f"{models!r} is a folder; an endpoint goes with sagemaker:GROUP and --bucket")
    import boto3

    from retraining.endpoint import Endpoint
    from retraining.meters import CloudWatchMeters

    cloudwatch = boto3.client("cloudwatch")
    place = Endpoint(boto3.client("sagemaker"), cloudwatch, endpoint)
    meters = CloudWatchMeters(cloudwatch)
    conductor = Conductor(place, registry, meters, now_ms=lambda: time.time_ns() // 1_000_000, pause=time.sleep)
    return conductor, place


def show_report(report: RolloutReport) -> None:
    """Print how a rollout ended."""
    typer.echo(f"{report.ending}: {report.version} serves{f' ({report.reason})' if report.reason else ''}")


@contextmanager
def waiting(what: str) -> Iterator[Any]:
    """Show on stderr that something goes on, for how long, and what was last said."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what)
        yield lambda said: progress.update(task, description=f"{what}: {said}")


def _settled(lake: Path) -> dict[str, bool]:
    """Return what the statements of a lake say by now, where its sources disagree in their stated order."""
    from training.labels import read_labels, settle_labels

    statements = read_labels(lake)
    ids = statements["transaction_id"].unique()
    settled = settle_labels(statements, ids, as_of_ms=time.time_ns() // 1_000_000)
    told = zip(ids.to_pylist(), settled.is_fraud.tolist(), settled.labelled.tolist(), strict=True)
    return {transaction_id: fraud for transaction_id, fraud, labelled in told if labelled}


def _sentence(state: str, canary: Canary | None) -> str:
    if canary is None:
        return state
    return f"{state}, {canary.canary.decisions} decisions of {canary.version} beside {canary.control.decisions}"


def _show_canary(canary: Canary | None) -> None:
    for check in () if canary is None else canary.verdict.checks:
        typer.echo(f"{check.name:>16}  {'pass' if check.passed else 'STOP'}  {check.evidence}")


def _show_shadow(report: ShadowReport) -> None:
    table = Table(title=f"{report.challenger} beside {report.champion}")
    for column in ("", *SIDES):
        table.add_column(column)
    for name in ("decisions", "reviews", "declines"):
        table.add_row(name, *(str(getattr(report.counts[side], name)) for side in SIDES))
    for name in ("frauds", "stopped", "legitimate", "declined") if report.known else ():
        table.add_row(f"known: {name}", *(str(getattr(report.known[side], name)) for side in SIDES))
    console = Console()
    console.print(table)
    for change, count in sorted(report.changed.items()):
        console.print(f"{change}: {count}")
    for check in report.verdict.checks:
        console.print(f"{check.name}: {'pass' if check.passed else 'STOP'}: {check.evidence}")
