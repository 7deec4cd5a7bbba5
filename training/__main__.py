"""The training command line: import, profiles, dataset, evaluate."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fraud.errors import TollgateError
from fraud.windows import DAY
from training.errors import InvalidSplit
from training.importing import FORMATS, import_transactions
from training.profiles import write_profiles

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Lake = Annotated[Path, typer.Option(help="Folder of the data set: transactions/, labels.parquet, profiles/.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line instead of a table.")]


@app.command(name="import")
def import_(
    source: Annotated[Path, typer.Argument(help="File to import.")],
    out: Annotated[Path, typer.Option(help="New folder of the data set.")],
    format: Annotated[str, typer.Option(help=f"Layout of the source: {', '.join(sorted(FORMATS))}.")],  # noqa: A002
    label_delay: Annotated[int, typer.Option(min=0, max=365, help="Days until a fraud becomes known.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Import a public data set into the transaction log's layout."""
    with _bar("importing") as (progress, advance):
        report = import_transactions(format, source, out, label_delay_ms=label_delay * DAY, progress=advance)
        progress.stop()
    figures = {name: getattr(report, name) for name in ("rows", "days", "frauds", "labels", "first_day", "last_day")}
    _report(figures, as_json=as_json)


@app.command()
def profiles(lake: Lake, as_json: AsJson = False) -> None:
    """Recompute the nightly profiles of cards and merchants from the log."""
    with _bar("profiles") as (progress, advance):
        report = write_profiles(lake, progress=advance)
        progress.stop()
    _report({"card_rows": report.card_rows, "merchant_rows": report.merchant_rows}, as_json=as_json)


@app.command()
def dataset(
    lake: Lake,
    start: Annotated[str, typer.Option(help="First day, such as 2026-03-01 (UTC).")],
    end: Annotated[str, typer.Option(help="Day after the last.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    as_of: Annotated[str, typer.Option(help="Day at which labels are read; later arrivals are unknown.")] = "",
    repo: Annotated[Path, typer.Option(help="Feast repository, already applied.")] = Path("feature_repo"),
    as_json: AsJson = False,
) -> None:
    """Build a point-in-time training set through Feast and write it as Parquet."""
    from feast import FeatureStore

    from training.dataset import build_training_set
    from training.frames import write_training_set

    span = _moment("start", start), _moment("end", end)
    if span[0] >= span[1]:
        raise InvalidSplit(f"start {start} is not before end {end}")
    with _bar("features") as (progress, advance):
        store = FeatureStore(repo_path=str(repo))
        as_of_ms = _moment("as-of", as_of) if as_of else span[1]
        rows = build_training_set(store, lake, start_ms=span[0], end_ms=span[1], as_of_ms=as_of_ms, progress=advance)
        progress.stop()
    digest = write_training_set(rows, out)
    _report({"rows": len(rows.is_fraud), "frauds": int(rows.is_fraud.sum()), "sha256": digest}, as_json=as_json)


def main() -> None:
    """Run the command line; an expected failure ends with one sentence and code 1."""
    try:
        app()
    except TollgateError as error:
        _fail(f"{error} ({error.code})")
    except OSError as error:
        _fail(f"{error.filename or 'the disk'}: {error.strerror}")


class _bar:  # noqa: N801  # reads as the context it is
    """A progress bar on standard error, with the function that advances it."""

    def __init__(self, name: str) -> None:
        self._name = name
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)

    def __enter__(self) -> tuple[Progress, Any]:
        self._progress.start()
        task = self._progress.add_task(self._name, total=None)
        return self._progress, lambda done, total: self._progress.update(task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _moment(name: str, text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        raise InvalidSplit(f"{name} {text!r} is not a day such as 2026-03-01") from None


def _report(figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(figures))
        return
    for name, value in figures.items():
        typer.echo(f"{name:>16}  {value}")


def _fail(sentence: str) -> None:
    typer.echo(f"training: {sentence}", err=True)
    raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("FEAST_USAGE", "False")
    main()
    sys.exit(0)
