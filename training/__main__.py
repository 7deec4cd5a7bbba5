"""The training command line: import, profiles, dataset, labels, search, train, evaluate, declines."""

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from fraud.bundle import open_bundle
from fraud.errors import TollgateError
from fraud.features import SERVICE
from fraud.settings import PREFIX
from stores.bundle_files import point_to, write_bundle
from stores.files import Location
from training import declines_command, evaluate_command, label_command, search_command
from training.challenger import Challenger, TrainingPlan, fit_challenger
from training.command_line import (
    JsonFile,
    as_of_or_end,
    dataset_request,
    end_with,
    gather,
    make_dataset,
    show_rejects,
    wants_only_json,
    write_figures,
)
from training.durations import duration_ms
from training.errors import InvalidSplit
from training.importing import import_files
from training.mapping import find_mapping, shipped_mappings
from training.policy_rules import PolicyRules, read_rules
from training.profiles import write_profiles
from training.progress import progress_bar, progress_bars
from training.recipes import read_recipe
from training.rejects import FILE_NAME
from training.tokens import read_token_key

ROOT: Final = Path(__file__).resolve().parents[1]
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Lake = Annotated[Path, typer.Option(help="Folder of the data set: transactions/, labels.parquet, profiles/.")]
Repo = Annotated[Path, typer.Option(help="Feast repository; applied for this lake when it is not yet.")]


@app.command(name="import")
def import_(
    sources: Annotated[
        list[Path], typer.Argument(help="Files, CSV or Parquet, or folders of them.", metavar="FILE...")
    ],
    out: Annotated[Path, typer.Option(help="New folder of the data set.")],
    mapping: Annotated[
        str, typer.Option("--mapping", "--format", help=f"A TOML file, or one of {', '.join(shipped_mappings())}.")
    ],
    label_delay: Annotated[
        str, typer.Option(help="Until a fraud becomes known, such as 7d. [as the mapping says]")
    ] = "",
    token_key_file: Annotated[
        Path | None, typer.Option(help="Secret with which cards become tokens; without it card numbers are refused.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Bring your own data into the transaction log's layout; refused rows are kept with their reasons."""
    rule = find_mapping(mapping)
    delay_ms = (
        duration_ms("label delay", f"{label_delay}d" if label_delay.isdigit() else label_delay) if label_delay else None
    )
    key = None if token_key_file is None else read_token_key(token_key_file)
    with progress_bars("reading, bytes", "writing, rows") as (reading, writing):
        report = import_files(sources, rule, out, key=key, label_delay_ms=delay_ms, reading=reading, writing=writing)
    figures = {name: getattr(report, name) for name in ("rows", "days", "frauds", "labels", "first_day", "last_day")}
    figures |= {"raised_amounts": report.raised_amounts, "rejected": report.rejected}
    _report(figures, json_file, reasons=[asdict(count) for count in report.reasons])
    if not wants_only_json(json_file):
        show_rejects(report.reasons, out / FILE_NAME)


@app.command()
def profiles(
    lake: Annotated[str, typer.Option(help="Folder of the data set, or s3://bucket/prefix.")],
    json_file: JsonFile = None,
) -> None:
    """Recompute the nightly profiles of cards and merchants from the log."""
    with progress_bar("profiles") as advance:
        report = write_profiles(Location(lake, os.environ.get(PREFIX + "AWS_ENDPOINT", "")), progress=advance)
    _report({"card_rows": report.card_rows, "merchant_rows": report.merchant_rows}, json_file)


@app.command()
def dataset(
    lake: Lake,
    start: Annotated[str, typer.Option(help="First day, such as 2026-03-01 (UTC).")],
    end: Annotated[str, typer.Option(help="Day after the last.")],
    out: Annotated[Path, typer.Option(help="New folder: rows.parquet, manifest.json, card.html.")],
    service: Annotated[str, typer.Option(help="Feature service.")] = SERVICE,
    label_delay: Annotated[str, typer.Option(help="Age at which a label is settled; younger rows stay out.")] = "30d",
    as_of: Annotated[str, typer.Option(help="Day at which labels are read. [end plus label delay]")] = "",
    as_known: Annotated[bool, typer.Option("--as-known", help="Rows see only what had arrived.")] = False,
    lag: Annotated[str, typer.Option(help="With --as-known: what had arrived so long before.")] = "0s",
    keep_legitimate: Annotated[float, typer.Option(help="Share of legitimate rows to keep, with weights.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the rows that are kept, and of those that are audited.")] = 0,
    repo: Repo = ROOT / "feature_repo",
    json_file: JsonFile = None,
) -> None:
    """Build a point-in-time training set through Feast, prove that nothing leaks, and write it with its data card."""
    request = dataset_request(
        start, end, label_delay=label_delay, as_of=as_of, as_known=as_known, lag=lag, keep_legitimate=keep_legitimate,
        seed=seed,
    )  # fmt: skip
    request = replace(request, service=service)
    built = make_dataset(lake, repo, request, out, root=ROOT, seed=seed)
    manifest = built.manifest
    figures: dict[str, Any] = {name: manifest[name] for name in ("rows", "frauds", "immature_rows_left_out")}
    figures |= {"leaks": len(manifest["leak_audit"]["leaks"]), "sha256": manifest["digests"]["rows"]}
    _report(figures, json_file, manifest=manifest)
    if not manifest["frauds"]:
        typer.echo(
            f"warning: none of {manifest['rows']:,} rows is known to be fraud; no model can be fitted to this set. See "
            "label_maturity in the manifest, or take a later --as-of",
            err=True,
        )
    if not wants_only_json(json_file):
        typer.echo(f"data card        {out / 'card.html'}")


@app.command()
def train(
    lake: Lake,
    out: Annotated[Path, typer.Option(help="Folder of bundles and of the evaluation report.")],
    as_of: Annotated[str, typer.Option(help="Day of the training; by default the day after the log's last.")] = "",
    train_days: Annotated[int, typer.Option(min=1, help="Days that the trees are grown on.")] = 30,
    validation_days: Annotated[int, typer.Option(min=1, help="Days after them: when to stop, thresholds.")] = 7,
    test_days: Annotated[int, typer.Option(min=1, help="Held-out days, the newest whose labels are mature.")] = 7,
    label_delay: Annotated[int, typer.Option(min=0, help="Days until a label is mature.")] = 21,
    review_share: Annotated[float, typer.Option(min=0, max=1, help="Transactions people can look at.")] = 0.01,
    insult_share: Annotated[float, typer.Option(min=0, max=1, help="Good transactions that may be declined.")] = 0.001,
    policy: Annotated[Path | None, typer.Option(help="JSON file of rules around the thresholds.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the fit: the same rows and seed, the same model.")] = 0,
    judge_by: Annotated[str, typer.Option(help="labels, or truth where simulated data has it.")] = "labels",
    parameters: Annotated[Path | None, typer.Option(help="Parameters file of the search command.")] = None,
    decisions: Annotated[
        Path | None,
        typer.Option(help="Parquet of transaction_id, outcome, propensity: weigh by what was let through."),
    ] = None,
    repo: Repo = ROOT / "feature_repo",
    json_file: JsonFile = None,
) -> None:
    """Train a model on the newest mature days, evaluate it against the frozen baseline, write bundle and report."""
    from training.report import JUDGES, report_on
    from training.selective import read_decisions, weigh

    judge = next((known for known in JUDGES if known == judge_by), None)
    if judge is None:
        raise InvalidSplit(f"--judge-by {judge_by!r} is none of {', '.join(JUDGES)}")
    plan = TrainingPlan(
        train_days, validation_days, test_days, label_delay, review_share=review_share, insult_share=insult_share,
        seed=seed, rules=PolicyRules() if policy is None else read_rules(policy), recipe=read_recipe(parameters),
    )  # fmt: skip
    as_of_ms = as_of_or_end(as_of, lake)
    start, _, _, end = plan.edges(as_of_ms)
    rows, read_plan = gather(lake, repo, start_ms=start, end_ms=end, as_of_ms=as_of_ms)
    if decisions is not None:
        rows = weigh(rows, read_decisions(decisions))
    with progress_bar("trees") as advance:
        challenger = fit_challenger(rows, plan, as_of_ms=as_of_ms, read_plan=read_plan, root=ROOT, progress=advance)
    version = open_bundle(challenger.files).version
    place = write_bundle(challenger.files, out / "versions" / version)
    about: dict[str, Any] = {"version": version, "lake": lake.name, "as_of_ms": as_of_ms, "rows": len(rows.is_fraud)}
    about["leak_audit"] = rows.leak_audit
    about["policy"] = _policy(challenger)
    with progress_bar("evaluation: the baseline's trees") as advance:
        report = report_on(challenger, rows, plan, lake, out, judged_by=judge, about=about, progress=advance)
    point_to(out / "bundle", place)
    write_figures(about | report.figures(), json_file)
    if wants_only_json(json_file):
        return
    _show(report, version)
    typer.echo(f"bundle   {place} (also {out / 'bundle'})")
    typer.echo(f"report   {out / 'evaluation.json'}, {out / 'evaluation.png'}")


def _report(figures: dict[str, Any], json_file: Path | None, **more: Any) -> None:
    write_figures(figures | more, json_file)
    if not wants_only_json(json_file):
        for name, value in figures.items():
            typer.echo(f"{name:>16}  {value}")


def _policy(challenger: Challenger) -> dict[str, Any]:
    policy = challenger.policy
    return {"version": policy.version, "review_at": policy.review_at, "decline_at": policy.decline_at}


def _show(report: Any, version: str) -> None:
    """Print both models side by side, each figure with its interval."""
    ours, theirs = report.ours, report.baseline
    table = Table(
        title=f"Model {version}, {report.first_day} to {report.last_day}: {ours.rows:,} payments, {ours.frauds:,} "
        f"frauds by {report.judged_by}"
    )
    for column in ("", "ours", "baseline"):
        table.add_column(column, justify="right" if column else "left")
    lines = [("PR-AUC", ours.pr_auc, theirs.pr_auc), ("ROC-AUC", ours.roc_auc, theirs.roc_auc)]
    for mine, base in zip(ours.recall_at_fpr, theirs.recall_at_fpr, strict=True):
        lines.append((f"recall at {mine.fpr:.1%} FPR", mine.recall, base.recall))
    lines.append((f"card precision@{ours.k}", ours.card_precision, theirs.card_precision))
    for mine, base in zip(ours.at_recall, theirs.at_recall, strict=True):
        lines.append(
            (f"value detection at {mine.recall:.0%} recall", mine.value_detection_rate, base.value_detection_rate)
        )
    for name, mine, base in lines:
        table.add_row(name, _interval(mine), _interval(base))
    for cut in report.cuts:
        table.add_row(f"false positives at {cut.recall:.0%} recall", f"{cut.ours:,}", f"{cut.baseline:,}")
    Console().print(table)


def _interval(interval: Any) -> str:
    if interval.low is None:
        return f"{interval.point:.3f}"
    return f"{interval.point:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


declines_command.register(app)
label_command.register(app)
evaluate_command.register(app)
search_command.register(app)


def main() -> None:
    """Run the command line; an expected failure ends with one sentence and code 1."""
    os.environ.setdefault("FEAST_USAGE", "False")
    try:
        app()
    except (TollgateError, OSError) as error:
        end_with("training", error)


if __name__ == "__main__":
    main()
    sys.exit(0)
