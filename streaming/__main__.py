"""The streaming command line: ``work``, ``replay``, ``compact``, ``apply``."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import boto3
import typer
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from fraud.errors import TollgateError, sentence
from fraud.settings import Settings, read_settings
from streaming.applied import ChangeLog
from streaming.batches import Collaborators
from streaming.deadletters import DeadLetterFolder
from streaming.feed import feed
from streaming.folders import BucketFolder, DiskFolder, Folder, FolderBusy
from streaming.handler import wall_clock_ms, warm_up
from streaming.logs import log as tell
from streaming.offline import TransactionLog, compact
from streaming.opening import open_states
from streaming.replay import replay
from streaming.worker import Pace, Worker

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

StateDir = Annotated[Path, typer.Option(help="Checkpoints and metrics.json; survives a kill.")]
Applied = Annotated[Path | None, typer.Option(help="Directory of the logs and dead letters; without it, the bucket.")]

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the figures to this file too; - writes them to standard output.")
]


@app.command()
def work(
    state_dir: StateDir,
    applied: Applied = None,
    poll_ms: Annotated[int, typer.Option(min=10, max=10_000, help="Pause between reads; 200 or more on AWS.")] = 50,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Most records per batch.")] = 500,
    flush_ms: Annotated[int, typer.Option(min=50, max=60_000, help="Between flushes and checkpoints.")] = 1_000,
    until_idle: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so many seconds without a record.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Read the stream and apply it until SIGTERM; settings come from TOLLGATE_* variables."""
    settings = read_settings(os.environ)
    folder, journal = _folder(settings, applied), (applied or state_dir) / "journal"
    log, transactions = ChangeLog(folder, journal), TransactionLog(folder)
    states = open_states(settings)
    with_ = Collaborators(
        states,
        DeadLetterFolder(folder),
        log,
        transactions,
        wall_clock_ms,
        settings.currency,
    )
    pace = Pace(poll_ms / 1000, batch, flush_ms / 1000, until_idle)
    worker = Worker(
        _kinesis(settings, retries=1),
        settings.stream,
        state_dir=state_dir,
        collaborators=with_,
        applied=log,
        transactions=transactions,
        pace=pace,
    )
    _stop_on_signal(worker)
    warm_up()
    typer.echo(json.dumps({"event": "worker_ready", "stream": settings.stream, "pid": os.getpid()}))
    sys.stdout.flush()
    worker.run()
    try:
        compact(folder)
    except FolderBusy:
        tell("compaction_left_to_another")
    states.close()
    _report(worker.figures.snapshot(), json_file)


@app.command(name="replay")
def replay_(
    applied: Applied = None,
    json_file: JsonFile = None,
) -> None:
    """Put dead letters back on the stream after a fix; those that are still refused stay."""
    settings = read_settings(os.environ)
    letters = DeadLetterFolder(_folder(settings, applied))
    columns = (SpinnerColumn(), TextColumn("replaying"), TaskProgressColumn(show_speed=True), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replaying", total=None)
        done = replay(
            letters,
            _kinesis(settings, retries=5),
            settings.stream,
            currency=settings.currency,
            now_ms=wall_clock_ms(),
            advance=lambda count: progress.advance(task, count),
        )
    _report({"replayed": done.replayed, "refused": done.refused}, json_file)


@app.command(name="compact")
def compact_(
    applied: Applied = None,
    json_file: JsonFile = None,
) -> None:
    """Merge landed transactions into the offline log, one row per transaction id."""
    start = time.monotonic()
    with Console(stderr=True).status("merging landed transactions"):
        rows = compact(_folder(read_settings(os.environ), applied))
    _report({"rows": rows, "seconds": round(time.monotonic() - start, 3)}, json_file)


@app.command(name="apply")
def apply_(applied: Annotated[Path, typer.Option(help="Directory of the logs and dead letters.")]) -> None:
    """Apply batches from standard input without Kinesis; one JSON line answers each (see streaming/feed.py)."""
    settings = read_settings(os.environ)
    folder = _folder(settings, applied)
    log, transactions = ChangeLog(folder, applied / "journal"), TransactionLog(folder)
    states, letters = open_states(settings), DeadLetterFolder(folder)
    with_ = Collaborators(states, letters, log, transactions, wall_clock_ms, settings.currency)
    warm_up()
    feed(sys.stdin.buffer, sys.stdout.buffer, with_, log, transactions)
    states.close()


def main() -> None:
    """Run the command line; an expected failure ends with one sentence and code 1."""
    try:
        app()
    except (TollgateError, OSError) as error:
        _fail(sentence(error))
    except (BotoCoreError, ClientError) as error:
        _fail(f"AWS or its emulator refused: {error}")


def _fail(sentence: str) -> None:
    typer.echo(f"streaming: {sentence}", err=True)
    raise SystemExit(1)


def _report(figures: dict[str, Any], json_file: Path | None) -> None:
    """Print the figures, and write them where they were asked for."""
    if str(json_file) == "-":
        typer.echo(json.dumps(figures))
        return
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    for name, value in figures.items():
        typer.echo(f"{name:>16}  {value}")


def _stop_on_signal(worker: Worker) -> None:
    """Stop the worker at SIGTERM or SIGINT, from a thread: a handler could interrupt the main one holding a lock."""
    reader, writer = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(writer, b"x"))

    def wait() -> None:
        os.read(reader, 1)
        worker.stop()

    threading.Thread(target=wait, name="signals", daemon=True).start()


def _folder(settings: Settings, directory: Path | None) -> Folder:
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        return DiskFolder(directory)
    client = boto3.client("s3", region_name=settings.region, endpoint_url=settings.aws_endpoint or None)
    return BucketFolder(client, settings.bucket)


def _kinesis(settings: Settings, *, retries: int) -> Any:
    config = Config(
        connect_timeout=5,
        read_timeout=10,
        max_pool_connections=64,
        retries={"total_max_attempts": retries, "mode": "standard"},
    )
    return boto3.client(
        "kinesis", region_name=settings.region, endpoint_url=settings.aws_endpoint or None, config=config
    )


if __name__ == "__main__":
    main()
