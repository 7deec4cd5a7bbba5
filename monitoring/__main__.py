"""The monitoring command line: ``prove``, ``parity``, ``staleness``, ``ship``."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from fraud.bundle import open_bundle
from fraud.errors import TollgateError, sentence
from fraud.settings import Settings, read_settings
from monitoring import certificate, proving, staleness
from monitoring.certificate import certify_deployment
from monitoring.printing import print_parity, print_proof, print_staleness
from monitoring.proving import PROOFS, Advance, Proof, prove, simulated_lake
from monitoring.shipping import BucketTarget, FolderTarget, Target, ship
from monitoring.staleness import BURST_WINDOWS, price_of_lag
from stores.bundle_files import read_bundle
from training.command_line import JsonFile, wants_only_json, write_figures

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Lake = Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of a data set.")]


@app.command(name="prove")
def prove_(
    transactions: Annotated[
        int | None, typer.Option(min=1_000, help="Simulated transactions, or the first of a lake. [200000; all]")
    ] = None,
    lake: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Prove over this data set, not a simulated one.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same world, stream and audited rows.")] = 7,
    only: Annotated[str | None, typer.Option(help="leaks or parity; both without it.")] = None,
    redis_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Use the Redis or Valkey on this local port; else start one.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Prove that no feature sees the future and that what is served is what the log says; fails on any mismatch."""
    chosen: Proof | None = next((name for name in PROOFS if name == only), None)
    if only is not None and chosen is None:
        raise typer.BadParameter(f"{only!r} is neither 'leaks' nor 'parity'", param_hint="--only")
    settings = None if redis_port is None else Settings(redis_port=redis_port)
    with tempfile.TemporaryDirectory(prefix="prove-") as name:
        folder = Path(name)
        wanted = transactions
        if lake is None:
            wanted = transactions or 200_000
            lake = simulated_lake(folder, transactions=wanted, seed=seed)
        with _steps() as step:
            found = prove(lake, folder, transactions=wanted, seed=seed, only=chosen, settings=settings, step=step)
    data = proving.as_data(found)
    write_figures(data, json_file)
    if not wants_only_json(json_file):
        print_proof(Console(highlight=False), data, transactions=found.transactions, passed=found.passed)
    raise typer.Exit(0 if found.passed else 1)


@app.command()
def parity(
    decisions: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of the decision log.")],
    applied: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of the stream's logs.")],
    lake: Lake,
    streamed_since: Annotated[
        datetime | None,
        typer.Option(
            help="UTC time from which on transactions came by the stream; needed while it is behind the lake."
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Certify a running deployment: every decision's vector against the log, given what was visible to it."""
    with Console(stderr=True).status("comparing every decision with the log"):
        since = None if streamed_since is None else int(streamed_since.replace(tzinfo=UTC).timestamp() * 1000)
        data = certificate.as_data(certify_deployment(lake, decisions, applied, streamed_since_ms=since))
    write_figures(data, json_file)
    if not wants_only_json(json_file):
        print_parity(Console(highlight=False), data)
    raise typer.Exit(1 if data["mismatched"] else 0)


@app.command(name="staleness")
def staleness_(
    lake: Lake,
    model: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of a model bundle.")],
    days: Annotated[int, typer.Option(min=1, help="Last days of the lake to ask about.")] = 14,
    fpr: Annotated[float, typer.Option(min=1e-6, max=1.0, help="False positives, share of legitimate rows.")] = 0.005,
    burst_window: Annotated[str, typer.Option(help="1m, 10m or 1h: two earlier payments on the card in it.")] = "1m",
    json_file: JsonFile = None,
) -> None:
    """Print the price of lag: fraud caught and vectors that differ, with and without write-through."""
    if burst_window not in BURST_WINDOWS:
        raise typer.BadParameter(f"{burst_window!r} is none of {', '.join(BURST_WINDOWS)}", param_hint="--burst-window")
    bundle = open_bundle(read_bundle(model))
    with _steps() as step, step("Ask again with lag") as advance:
        found = price_of_lag(lake, bundle, days=days, fpr=fpr, burst_window=burst_window, advance=advance)
    data = staleness.as_data(found)
    write_figures(data, json_file)
    if not wants_only_json(json_file):
        print_staleness(Console(highlight=False), data)


@app.command(name="ship")
def ship_(
    decisions: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of the decision log.")],
    to: Annotated[str, typer.Option(help="A folder, or s3://BUCKET/PREFIX.")],
    delete: Annotated[bool, typer.Option("--delete", help="Delete each log once it is shipped.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Write finished decision logs as Parquet by day and hour; run again, it writes the same files."""
    with _steps() as step, step("Ship the decision log") as advance:
        done = ship(decisions, _target(to), delete=delete, advance=advance)
    write_figures(done.as_data(), json_file)
    if wants_only_json(json_file):
        return
    Console(highlight=False).print(
        f"{done.rows:,} decisions of {done.logs:,} logs shipped in {done.files:,} files; {done.before:,} logs were "
        f"shipped before, {done.being_written:,} are still being written",
        soft_wrap=True,
    )


def _target(to: str) -> Target:
    if not to.startswith("s3://"):
        return FolderTarget(Path(to))
    import boto3  # takes a second

    settings = read_settings(os.environ)
    bucket, _, prefix = to.removeprefix("s3://").partition("/")
    client = boto3.client("s3", region_name=settings.region, endpoint_url=settings.aws_endpoint or None)
    return BucketTarget(client, bucket, prefix)


@contextlib.contextmanager
def _steps() -> Iterator[proving.Step]:
    """Yield what shows a step on standard error while it lasts."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:

        @contextlib.contextmanager
        def step(title: str) -> Iterator[Advance]:
            task = progress.add_task(title, total=None)
            yield lambda done, every: progress.update(task, completed=done, total=every)
            progress.update(task, completed=1, total=1)

        yield step


def main() -> None:
    """Run the command line; an expected failure ends with one sentence and code 2."""
    try:
        app()
    except (TollgateError, OSError) as error:
        typer.echo(f"monitoring: {sentence(error)}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
