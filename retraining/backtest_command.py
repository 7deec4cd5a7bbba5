"""``python -m retraining backtest``: replay the weekly loop over history and say what retraining was worth."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from fraud.windows import DAY
from retraining.weekly import WeekPlan
from training.command_line import JsonFile, gather, moment, wants_only_json, write_figures
from training.errors import InvalidSplit, UnwritableOutput
from training.fit import RECIPE
from training.profiles import last_day
from training.progress import progress_bar

ROOT: Final = Path(__file__).resolve().parents[1]
COLUMNS: Final = ("as of", "outcome", "frauds", "PR-AUC, kept", "recall, kept", "false pos., kept", "amount, kept")


def register(app: typer.Typer) -> None:
    """Add the command to the room's command line."""
    app.command("backtest")(backtest_command)


def backtest_command(  # noqa: PLR0913  # one parameter per option
    *,
    lake: Annotated[Path, typer.Option(help="Folder of the data set: transactions/, labels.parquet, profiles/.")],
    out: Annotated[Path, typer.Option(help="New folder: weeks.json, weeks.png, weeks.html, the models.")],
    weeks: Annotated[int, typer.Option(min=1, help="Weekly iterations.")] = 26,
    last: Annotated[str, typer.Option(help="Day of the last iteration; by default a week before the log's end.")] = "",
    train_days: Annotated[int, typer.Option(min=1, help="Days that the trees are grown on.")] = 30,
    validation_days: Annotated[int, typer.Option(min=1, help="Days after them: when to stop, thresholds.")] = 7,
    test_days: Annotated[int, typer.Option(min=1, help="Held-out days of each gate.")] = 7,
    label_delay: Annotated[int, typer.Option(min=0, help="Days until a label is mature.")] = 21,
    trees: Annotated[int, typer.Option(min=1, help="Most trees of a challenger.")] = 100,
    review_share: Annotated[float, typer.Option(min=0, max=1, help="Transactions people can look at.")] = 0.01,
    insult_share: Annotated[float, typer.Option(min=0, max=1, help="Good transactions that may be declined.")] = 0.001,
    seed: Annotated[int, typer.Option(min=0, help="Of every fit, and of the resamples of the gain.")] = 0,
    repo: Annotated[Path, typer.Option(help="Feast repository.")] = ROOT / "feature_repo",
    json_file: JsonFile = None,
) -> None:
    """Replay the weekly loop with the labels of each week, and compare with never retraining."""
    from retraining.backtest import Span, play
    from retraining.backtest_gain import backtest_figures, gain_of
    from retraining.backtest_page import draw, gain_rows, render, week_cells
    from retraining.registry import Registry
    from training.labels import read_labels, read_truth

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UnwritableOutput(f"{out} is there already: a replay starts from an empty registry, name a new folder")
    plan = WeekPlan(
        train_days, validation_days, test_days, label_delay, review_share=review_share, insult_share=insult_share,
        seed=seed, recipe=replace(RECIPE, trees=trees),
    )  # fmt: skip
    span = Span(weeks, _last(last, lake))
    start_ms, end_ms = span.rows(plan)
    first = _first_day(lake)
    if start_ms < first:
        most = weeks - -(-(first - start_ms) // (7 * DAY))
        raise InvalidSplit(f"{weeks} weeks reach back {(first - start_ms) // DAY} days before the log begins: "
                           f"--weeks {most} is the most with these spans")  # fmt: skip
    statements = read_labels(lake)
    rows, read_plan = gather(lake, repo, start_ms=start_ms, end_ms=end_ms, as_of_ms=2**52)
    with progress_bar("weeks") as advance:
        played = play(
            rows, statements, Registry(out / "models"), plan=plan, span=span, read_plan=read_plan, root=ROOT,
            truth=read_truth(lake), progress=advance,
        )  # fmt: skip
    gain = None if played.lived is None else gain_of(played.lived, seed=seed)
    about: dict[str, Any] = {"lake": lake.name, "trees": trees, "seed": seed, "label_delay_days": label_delay}
    figures = backtest_figures(played, gain, about)
    png = draw(played)
    write_figures(figures, out / "weeks.json")
    (out / "weeks.png").write_bytes(png)
    (out / "weeks.html").write_text(render(played, gain, png, title=f"{lake.name}: with and without retraining"))
    write_figures(figures, json_file)
    if not wants_only_json(json_file):
        _show([_paired(week_cells(week)) for week in played.weeks], [] if gain is None else gain_rows(gain))
        typer.echo(f"report   {out / 'weeks.html'}, {out / 'weeks.json'}, {out / 'weeks.png'}")


def _last(text: str, lake: Path) -> int:
    """Return the time of the last iteration: the week after it must be in the log."""
    end = moment("last day", last_day(lake)) + DAY
    if not text:
        return end - 7 * DAY
    asked = moment("last", text)
    if asked + 7 * DAY > end:
        raise InvalidSplit(f"--last {text} leaves no whole week to judge in a log that ends {last_day(lake)}")
    return asked


def _first_day(lake: Path) -> int:
    return moment("first day", min(folder.name for folder in (lake / "transactions").glob("dt=*"))[3:])


def _paired(cells: tuple[str, ...]) -> tuple[str, ...]:
    """Return a week's cells with both sides of a figure in one, to fit a terminal."""
    pairs = (" / ".join(part for part in cells[at : at + 2] if part) for at in range(5, 13, 2))
    return cells[0], cells[2], cells[4], *pairs


def _show(weeks: list[tuple[str, ...]], gained: list[tuple[str, str]]) -> None:
    console = Console()
    table = Table(title="Each iteration, and the week that followed it")
    for column in COLUMNS:
        table.add_column(column, no_wrap=column == "as of")
    for week in weeks:
        table.add_row(*week)
    console.print(table)
    bought = Table(title="What retraining buys")
    for column in ("over all weeks", "figure"):
        bought.add_column(column)
    for row in gained:
        bought.add_row(*row)
    console.print(bought)
