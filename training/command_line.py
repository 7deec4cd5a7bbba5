"""What the command lines of training and retraining share: days as text, steps with a bar, figures, failures."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fraud.errors import TollgateError, sentence
from fraud.windows import DAY
from stores.as_known import AsKnown
from training.dataset_request import DatasetRequest
from training.durations import duration_ms
from training.errors import InvalidSplit
from training.profiles import last_day, profiles_up_to_date, write_profiles
from training.progress import progress_bar, progress_bars
from training.rejects import RejectCount
from training.sampling import Sampling
from training.transaction_log import day_text, log_days, refuse_address

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the figures to this file too; - writes them to standard output.")
]


def gather(
    lake: Path, repo: Path, *, start_ms: int, end_ms: int, as_of_ms: int, prove: bool = True
) -> tuple[Any, dict[str, Any]]:
    """Return the training set of a span through Feast, and the compiled read plan; makes profiles that are due.

    Parameters
    ----------
    prove
        Whether the leak prover runs over the set, which then holds what it said. Only where something else runs it
        over the same rows is there reason not to.

    Raises
    ------
    LeakingTrainingSet
        The prover found something.
    """
    from training.dataset import build_training_set
    from training.dataset_files import proven
    from training.feast_store import compiled_plan, open_lake_store

    make_profiles(lake)
    with progress_bar("feast: definitions of this lake"):
        store = open_lake_store(repo, lake)
        read_plan = compiled_plan(store)
    first = log_days(lake)[0]
    if day_text(start_ms) < first:
        typer.echo(f"note: the log begins {first}; of the days from {day_text(start_ms)} on it has no others", err=True)
    with progress_bars("features, point in time", "leak audit") as (advance, audit):
        rows = build_training_set(store, lake, start_ms=start_ms, end_ms=end_ms, as_of_ms=as_of_ms, progress=advance)
        if not prove:
            return rows, read_plan
        asked = DatasetRequest(start_ms, end_ms, label_delay_ms=0, as_of_ms=as_of_ms)
        rows, proof = proven(rows, lake, asked, seed=0, progress=audit)
    typer.echo(
        f"leak audit passed: {proof.audit.probes:,} rows audited, {proof.compared:,} equal the path bit for bit",
        err=True,
    )
    return rows, read_plan


def make_dataset(lake: Path, repo: Path, request: DatasetRequest, out: Path, *, root: Path, seed: int = 0) -> Any:
    """Build, prove and write a training set, see :func:`training.dataset_files.build_dataset`; makes due profiles."""
    from training.dataset_files import Shown, build_dataset
    from training.feast_store import open_lake_store

    make_profiles(lake)
    with progress_bar("feast: definitions of this lake"):
        store = open_lake_store(repo, lake)
    with progress_bars("features, point in time", "leak audit") as (features, audit):
        return build_dataset(
            store, lake, request, out, root=root, shown=Shown(features=features, audit=audit), seed=seed
        )


def dataset_request(
    start: str,
    end: str,
    *,
    label_delay: str = "30d",
    as_of: str = "",
    as_known: bool = False,
    lag: str = "0s",
    keep_legitimate: float = 1.0,
    seed: int = 0,
) -> DatasetRequest:
    """Return what is asked of a training set, from the words of ``python -m training dataset``.

    Raises
    ------
    InvalidSplit, InvalidDuration
        A word is no day or no duration, or no row can answer; the message has it.

    Examples
    --------
    >>> dataset_request("2026-03-01", "2026-03-08", label_delay="14d").as_data()["label_delay"]
    '14d'
    """
    return DatasetRequest(
        start_ms=moment("start", start),
        end_ms=moment("end", end),
        label_delay_ms=duration_ms("label delay", label_delay),
        as_of_ms=moment("as-of", as_of) if as_of else None,
        as_known=asked_history("lag", lag, as_known=as_known),
        sampling=Sampling(keep_legitimate, seed),
    )


def asked_history(name: str, lag: str, *, as_known: bool) -> AsKnown | None:
    """Return what history a row may see, null for all that had happened by its time.

    Raises
    ------
    InvalidSplit
        A lag was given without asking as known, where it would change nothing.
    """
    lag_ms = duration_ms(name, lag)
    if lag_ms and not as_known:
        raise InvalidSplit(f"--{name} {lag} needs --as-known: by event time nothing lags")
    return AsKnown(lag_ms) if as_known else None


def make_profiles(lake: Path) -> None:
    """Recompute the profiles of a lake unless they reach to the end of its log."""
    refuse_address(lake)
    if profiles_up_to_date(lake):
        return
    with progress_bar("profiles") as advance:
        report = write_profiles(lake, progress=advance)
    typer.echo(f"profiles made: {report.card_rows:,} card rows, {report.merchant_rows:,} merchant rows", err=True)


def as_of_or_end(text: str, lake: Path) -> int:
    """Return the day asked for, or the day after the last of the lake's log, epoch ms."""
    refuse_address(lake)
    return moment("as-of", text) if text else moment("last day", last_day(lake)) + DAY


def moment(name: str, text: str) -> int:
    """Return the midnight (UTC) that a day such as 2026-03-01 begins with, epoch ms.

    Raises
    ------
    InvalidSplit
        The text is no day.

    Examples
    --------
    >>> moment("start", "1970-01-02")
    86400000
    """
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        raise InvalidSplit(f"{name} {text!r} is not a day such as 2026-03-01") from None


def end_with(room: str, error: TollgateError | OSError) -> NoReturn:
    """Say an expected failure in one sentence and end with code 1."""
    typer.echo(f"{room}: {sentence(error)}", err=True)
    raise SystemExit(1)


def show_rejects(reasons: Sequence[RejectCount], path: Path) -> None:
    """Print how often each reason was met, and where the refused rows are."""
    if not reasons:
        return
    table = Table(title=f"Rejected rows, all of them in {path}")
    for column in ("rows", "column", "reason", "such as", "at"):
        table.add_column(column, justify="right" if column == "rows" else "left")
    for count in reasons:
        table.add_row(
            f"{count.rows:,}", *(escape(text) for text in (count.column, count.reason, count.example, count.at))
        )
    Console().print(table)


def wants_only_json(json_file: Path | None) -> bool:
    """Return whether standard output is for the JSON alone."""
    return str(json_file) == "-"


def write_figures(figures: dict[str, Any], json_file: Path | None) -> None:
    """Write figures as JSON where they were asked for."""
    if json_file is None:
        return
    text = json.dumps(figures, allow_nan=False)
    if wants_only_json(json_file):
        typer.echo(text)
        return
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(text + "\n", encoding="utf-8")
