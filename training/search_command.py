"""``python -m training search``: a bounded search for a recipe, inside the training window."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from training.challenger import TrainingPlan
from training.command_line import JsonFile, as_of_or_end, gather, wants_only_json, write_figures
from training.progress import progress_bar
from training.recipes import write_recipe
from training.search import SPACE, SearchPlan, rounded, search
from training.transaction_log import day_text

ROOT: Final = Path(__file__).resolve().parents[1]


def register(app: typer.Typer) -> None:
    """Add the command to the room's command line."""
    app.command("search")(search_command)


def search_command(  # noqa: PLR0913  # one parameter per option
    *,
    lake: Annotated[Path, typer.Option(help="Folder of the data set: transactions/, labels.parquet, profiles/.")],
    out: Annotated[Path, typer.Option(help="Parameters file to write, for --parameters of train and evaluate.")],
    as_of: Annotated[str, typer.Option(help="Day of the training; by default the day after the log's last.")] = "",
    train_days: Annotated[int, typer.Option(min=1, help="Days that are searched in.")] = 42,
    validation_days: Annotated[
        int, typer.Option(min=1, help="Days after them, kept for the training and not looked at.")
    ] = 7,
    test_days: Annotated[int, typer.Option(min=1, help="Held-out days that a training would have; untouched.")] = 7,
    label_delay: Annotated[int, typer.Option(min=0, help="Days until a label is mature.")] = 21,
    trials: Annotated[int, typer.Option(min=1, help="Recipes tried, the product's own first.")] = 20,
    folds: Annotated[int, typer.Option(min=1, help="Folds inside the training window.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same trials.")] = 0,
    repo: Annotated[Path, typer.Option(help="Feast repository.")] = ROOT / "feature_repo",
    json_file: JsonFile = None,
) -> None:
    """Search for a recipe in the days that a training as of this time would fit on, and in no others."""
    plan = TrainingPlan(train_days, validation_days, test_days, label_delay, seed=seed)
    searched = SearchPlan(folds=folds, trials=trials, seed=seed)
    as_of_ms = as_of_or_end(as_of, lake)
    start, end, _, _ = plan.edges(as_of_ms)
    rows, _ = gather(lake, repo, start_ms=start, end_ms=end, as_of_ms=as_of_ms)
    with progress_bar("trials") as advance:
        found = search(rows, searched, progress=advance)
    best = rounded(found.best.recipe)
    about: dict[str, Any] = {
        "searched": {"first_day": day_text(start), "last_day": day_text(end - 1), **asdict(searched)},
        "pr_auc": found.best.pr_auc,
        "own_pr_auc": found.own.pr_auc,
        "leak_audit": rows.leak_audit,
    }
    write_recipe(out, best, about)
    write_figures({"recipe": asdict(best), **about, "trials": [asdict(trial) for trial in found.trials]}, json_file)
    if wants_only_json(json_file):
        return
    table = Table(title=f"Best of {trials} recipes, {day_text(start)} to {day_text(end - 1)}")
    for column in ("parameter", "own", "found"):
        table.add_column(column)
    for name in SPACE:
        table.add_row(name, f"{getattr(found.own.recipe, name):g}", f"{getattr(best, name):g}")
    table.add_row("PR-AUC inside the window", f"{found.own.pr_auc:.4f}", f"{found.best.pr_auc:.4f}")
    Console().print(table)
    typer.echo(f"parameters   {out}; what they are worth is for an evaluation on later days to say")
