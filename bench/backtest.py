"""What weekly retraining buys: the loop replayed over history, with and without, by ``python -m retraining backtest``.

*Simulated world*: its criminals move (amounts fall as limits are learnt, a kind of fraud appears half-way), so a model
that is kept for ever grows old. *Handbook data*: their fraud hardly changes, so retraining has nothing to win and must
do no harm. Both sides score the same payments; intervals are paired, over resampled days. Tables, plots and verdicts of
every week stay in ``build/bench/backtest-*``.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from fraud.windows import DAY
from simulation import lake as simulated_lake
from simulation.config import WorldConfig
from simulation.world import generate
from training.importing import import_transactions

ROOT: Final = Path(__file__).resolve().parents[1]
OUT: Final = ROOT / "build" / "bench"
DATA: Final = Path(os.environ.get("TOLLGATE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SOURCE: Final = DATA / "handbook" / "transactions.parquet"
CHOICES: Final = ("all", "handbook", "simulated")
PLAN: Final = {"--train-days": 28, "--validation-days": 7, "--test-days": 14, "--trees": 60}
SIMULATED_DELAY, HANDBOOK_DELAY = 14, 7
FRAUD_SHARE: Final = 0.02
"""More than the world's own, so that so small a one has frauds enough for a verdict each week."""
GAINS: Final = {
    "pr_auc": "PR-AUC, retrained weekly",
    "kept_pr_auc": "PR-AUC, first champion kept",
    "pr_auc_gain": "PR-AUC gained",
    "false_positive_cut": "false positives saved where both catch half",
    "recall_gain": "recall gained at the own threshold",
    "alert_change": "payments alerted there, change",
}


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    data: Annotated[str, typer.Option(help="all, handbook or simulated.")] = "all",
    weeks: Annotated[int, typer.Option(min=2, help="Weeks of the simulated world.")] = 26,
    a_day: Annotated[int, typer.Option(min=200, help="Payments a day of the simulated world.")] = 1_500,
    handbook_weeks: Annotated[int, typer.Option(min=2, help="Weeks of the Handbook data.")] = 8,
    source: Annotated[Path, typer.Option(help="The Handbook's Parquet file.")] = SOURCE,
) -> None:
    """Print what retraining buys."""
    if data not in CHOICES:
        raise typer.BadParameter(f"{data!r} is none of {', '.join(CHOICES)}", param_hint="--data")
    console, figures = Console(), dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status("") as status:
        if data != "handbook":
            status.update("simulated world")
            figures["simulated"] = replay(simulated(Path(folder) / "simulated", weeks, a_day), weeks, SIMULATED_DELAY)
            show("Simulated world, whose fraud moves", figures["simulated"], console)
        if data != "simulated" and not source.is_file():
            console.print(f"SKIPPED: the Handbook data are not at {source}; set TOLLGATE_DATA or --source")
        elif data != "simulated":
            status.update("Handbook data")
            lake = Path(folder) / "handbook"
            delay_ms = HANDBOOK_DELAY * DAY
            import_transactions("handbook", source, lake, label_delay_ms=delay_ms, progress=lambda *_: None)
            figures["handbook"] = replay(lake, handbook_weeks, HANDBOOK_DELAY)
            show("Handbook data, whose fraud stays", figures["handbook"], console)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def simulated(lake: Path, weeks: int, a_day: int) -> Path:
    """Make a world that is long enough for the weeks, their training and their labels."""
    spans = sum(PLAN[name] for name in ("--train-days", "--validation-days", "--test-days"))
    days = spans + 2 * SIMULATED_DELAY + 7 * (weeks + 1)
    config = WorldConfig(days=days, transactions_per_day=a_day, seed=17, fraud_share=FRAUD_SHARE)
    simulated_lake.write(generate(config), lake)
    return lake


def replay(lake: Path, weeks: int, delay_days: int) -> dict[str, Any]:
    """Replay the loop and return its figures; the page and the plot stay beside the other benchmarks' figures."""
    out = OUT / f"backtest-{lake.name}"
    shutil.rmtree(out, ignore_errors=True)
    plan = [str(part) for option in {**PLAN, "--label-delay": delay_days, "--weeks": weeks}.items() for part in option]
    command = [sys.executable, "-m", "retraining", "backtest", "--lake", str(lake), "--out", str(out), *plan]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"the replay failed with {done.returncode}: {done.stderr.decode()[-2000:]}")
    found: dict[str, Any] = json.loads((out / "weeks.json").read_text(encoding="utf-8"))
    return found


def show(title: str, found: dict[str, Any], console: Console) -> None:
    """Print what a replay found."""
    outcomes = ", ".join(f"{found[name]} {name}" for name in ("promoted", "refused", "failed"))
    table = Table(title=f"{title}: {len(found['weeks'])} weeks, {outcomes}")
    for column in ("", "all judged weeks", "95% interval"):
        table.add_column(column, justify="right" if column else "left")
    gain = found["gain"]
    for name, words in GAINS.items() if gain else ():
        one = gain[name]
        form = "+.2%" if name in {"recall_gain", "alert_change", "false_positive_cut"} else "+.3f"
        form = form if name.endswith(("gain", "cut", "change")) else ".3f"
        bounds = "" if one["low"] is None else f"{one['low']:{form}} to {one['high']:{form}}"
        table.add_row(words, f"{one['point']:{form}}", bounds)
    console.print(table)
    refused = [week for week in found["weeks"] if week["outcome"] != "promoted"]
    reasons: dict[str, int] = {}
    for reason in (text.partition(":")[0] for week in refused for text in week["reasons"]):
        reasons[reason] = reasons.get(reason, 0) + 1
    said = ", ".join(f"{name} {count}" for name, count in sorted(reasons.items(), key=lambda item: -item[1]))
    console.print(f"refused by: {said or 'nobody'}; plot and every week: build/bench/backtest-{found['lake']}")


if __name__ == "__main__":
    typer.run(main)
