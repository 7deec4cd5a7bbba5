"""``python -m training evaluate``: replay past weeks and say what a model would have been worth."""

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from training.challenger import TrainingPlan
from training.command_line import JsonFile, as_of_or_end, gather, wants_only_json, write_figures
from training.costs import Costs
from training.errors import InvalidSplit
from training.prequential import Replay, replay_weeks, span_of
from training.progress import progress_bar

ROOT: Final = Path(__file__).resolve().parents[1]
PRICES: Final = Costs()


def register(app: typer.Typer) -> None:
    """Add the command to the room's command line."""
    app.command("evaluate")(evaluate_command)


def evaluate_command(  # noqa: PLR0913  # one parameter per option
    *,
    lake: Annotated[Path, typer.Option(help="Folder of the data set: transactions/, labels.parquet, profiles/.")],
    out: Annotated[Path, typer.Option(help="Folder for weeks.json and weeks.html.")],
    weeks: Annotated[int, typer.Option(min=1, help="Test weeks, the last ones of the log.")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="Fits of each side and week.")] = 3,
    as_of: Annotated[str, typer.Option(help="Day after the last test week; by default the log's end.")] = "",
    labels_until: Annotated[str, typer.Option(help="Day at which the judging labels are read; by default all.")] = "",
    train_days: Annotated[int, typer.Option(min=1, help="Days that the trees are grown on.")] = 42,
    validation_days: Annotated[int, typer.Option(min=1, help="Days after them: when to stop, thresholds.")] = 14,
    label_delay: Annotated[int, typer.Option(min=0, help="Days until a label is mature.")] = 21,
    recalls: Annotated[str, typer.Option(help="Shares of the fraud at which false positives are compared.")] = (
        "0.5,0.7"
    ),
    reviews_a_day: Annotated[float, typer.Option(min=0, help="Payments, and cards, people can look at a day.")] = 100,
    loss_share: Annotated[float, typer.Option(help="Share of a missed fraud's amount that is lost.")] = 1.0,
    chargeback: Annotated[int, typer.Option(help="Fee of a missed fraud, minor units.")] = PRICES.chargeback_minor,
    insult: Annotated[int, typer.Option(help="Cost of a declined customer, minor units.")] = PRICES.insult_minor,
    review_cost: Annotated[int, typer.Option(help="Cost of a review, minor units.")] = PRICES.review_minor,
    judge_by: Annotated[str, typer.Option(help="labels, or truth where simulated data has it.")] = "labels",
    decisions: Annotated[
        Path | None,
        typer.Option(help="Parquet of transaction_id, outcome, propensity: weigh by what was let through."),
    ] = None,
    parameters: Annotated[Path | None, typer.Option(help="Parameters file of the search command.")] = None,
    repo: Annotated[Path, typer.Option(help="Feast repository.")] = ROOT / "feature_repo",
    json_file: JsonFile = None,
) -> None:
    """Replay the last weeks: train as of each, skip the label delay, judge against the frozen baseline."""
    from training.compromised import unblocked
    from training.labels import read_labels
    from training.recipes import read_recipe
    from training.report import JUDGES
    from training.selective import read_decisions, weigh
    from training.weekly_evaluation import evaluate_weeks, gather_judged
    from training.weekly_page import render_page

    judge = next((known for known in JUDGES if known == judge_by), None)
    if judge is None:
        raise InvalidSplit(f"--judge-by {judge_by!r} is none of {', '.join(JUDGES)}")
    plan = TrainingPlan(train_days, validation_days, label_delay_days=label_delay, recipe=read_recipe(parameters))
    costs = Costs(loss_share=loss_share, chargeback_minor=chargeback, insult_minor=insult, review_minor=review_cost)
    replay = Replay(weeks, tuple(range(seeds)), shares(recalls), costs, reviews_a_day)
    end_ms = as_of_or_end(as_of, lake)
    start_ms, end_ms = span_of(plan, weeks=weeks, end_ms=end_ms)
    read_ms = as_of_or_end(labels_until, lake) if labels_until else 2**52
    rows, _ = gather(lake, repo, start_ms=start_ms, end_ms=end_ms, as_of_ms=read_ms)
    if decisions is not None:
        rows = weigh(rows, read_decisions(decisions))
    statements = read_labels(lake)
    free = unblocked(rows, statements)
    with progress_bar("fits") as advance:
        replayed = replay_weeks(rows, statements, free, plan, replay, progress=advance)
    with progress_bar("intervals"):
        judged = gather_judged(rows, replayed, lake, statements, judged_by=judge)
        tested = rows.between(end_ms - weeks * 7 * 86_400_000, end_ms)
        left_out = tested.stop - tested.start - len(judged.card)
        found = evaluate_weeks(judged, replayed, replay, judged_by=judge, left_out=left_out, k=int(reviews_a_day) or 1)
    out.mkdir(parents=True, exist_ok=True)
    figures = {"lake": lake.name, "recipe": plan.recipe.__dict__, "leak_audit": rows.leak_audit, **found.figures()}
    write_figures(figures, out / "weeks.json")
    (out / "weeks.html").write_text(render_page(found, title=f"{lake.name}: week after week"), encoding="utf-8")
    write_figures(figures, json_file)
    if wants_only_json(json_file):
        return
    table = Table(title=f"{weeks} weeks, {found.ours.rows:,} payments, {found.ours.frauds:,} frauds by {judge}")
    for column in ("both catch", "baseline", "ours", "fewer", "95% interval"):
        table.add_column(column, justify="right")
    for at in found.at:
        bounds = "" if at.cut.low is None else f"[{at.cut.low:.0%}, {at.cut.high:.0%}]"
        table.add_row(f"{at.recall:.0%}", f"{at.baseline:,.0f}", f"{at.ours:,.0f}", f"{at.cut.point:.0%}", bounds)
    Console().print(table)
    typer.echo(f"report   {out / 'weeks.html'}, {out / 'weeks.json'}")


def shares(text: str) -> tuple[float, ...]:
    """Return the shares of a list such as ``0.5,0.7``.

    Raises
    ------
    InvalidSplit
        One is no number in (0, 1].

    Examples
    --------
    >>> shares("0.5,0.7")
    (0.5, 0.7)
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0.0 < share <= 1.0 for share in found):
        raise InvalidSplit(f"--recalls {text!r} is no list of shares such as 0.5,0.7")
    return found
