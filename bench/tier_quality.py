"""What a model fitted to an absence is worth, against the full model that meets it as missing values.

A challenger is trained as every week, with its fallbacks. Its held-out days are scored once for each thing that can be
unread: by the fallback that the scorer would choose, and by the full model with missing values in the same places.
Ranking (PR-AUC), and the catch and the insulted customers at each one's own thresholds, stand side by side.
"""

import itertools
import json
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from fraud.policy import Policy
from fraud.tiers import Tier, tier_for
from fraud.windows import ENTITIES, Entity
from training.challenger import Challenger, TrainingPlan, fit_challenger
from training.command_line import as_of_or_end, gather
from training.dataset import TrainingSet
from training.fallbacks import owned_columns
from training.metrics import average_precision

ROOT: Final = Path(__file__).resolve().parents[1]
FloatArray = npt.NDArray[np.float64]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def measure(
    lake: Annotated[Path, typer.Option(help="A lake as of the demo, such as build/demo/lake.")] = Path(
        "build/demo/lake"
    ),
    label_delay: Annotated[int, typer.Option(min=0)] = 14,
    train_days: Annotated[int, typer.Option(min=1)] = 21,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure and print."""
    plan = TrainingPlan(train_days=train_days, label_delay_days=label_delay)
    as_of_ms = as_of_or_end("", lake)
    start, _, test_from, end = plan.edges(as_of_ms)
    rows, read_plan = gather(lake, ROOT / "feature_repo", start_ms=start, end_ms=end, as_of_ms=as_of_ms)
    with Console(stderr=True).status("fitting the full model and its fallbacks"):
        fitted = fit_challenger(rows, plan, as_of_ms=as_of_ms, read_plan=read_plan, root=ROOT)
    figures = compare(rows, fitted, rows.between(test_from, end))
    show(figures)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def compare(rows: TrainingSet, fitted: Challenger, held_out: slice) -> list[dict[str, Any]]:
    """Return the figures of each thing that can be unread."""
    truth = rows.is_fraud[held_out]
    figures = []
    subsets = [s for size in range(len(ENTITIES) + 1) for s in itertools.combinations(ENTITIES, size)]
    for unread, behind in [*((subset, False) for subset in subsets), ((), True)]:
        matrix = rows.matrix[held_out].copy()
        matrix[:, owned_columns(rows.features, unread)] = np.nan
        if behind:
            lost = [name not in fitted.fallbacks["no_velocity"].model.features for name in rows.features]
            matrix[:, np.array(lost)] = np.nan
        tier = tier_for(unread, behind=behind)
        own = fitted.fallbacks.get(tier)
        scores = fitted.model.scores(matrix)
        ours = scores if own is None else own.model.scores(matrix[:, own.columns])
        figures.append(
            {"unread": _named(unread, behind=behind), "tier": tier, "frauds": int(truth.sum()), "rows": len(truth)}
            | {f"fallback_{name}": value for name, value in _judge(ours, truth, fitted.policy, tier).items()}
            | {f"full_{name}": value for name, value in _judge(scores, truth, fitted.policy, "full").items()}
        )
    return figures


def _named(unread: tuple[Entity, ...], *, behind: bool) -> str:
    return "the stream is behind" if behind else " and ".join(unread) or "nothing"


def _judge(scores: FloatArray, is_fraud: npt.NDArray[np.bool_], policy: Policy, tier: Tier) -> dict[str, float]:
    at = policy.tiers.get(tier, policy)
    looked, declined = scores >= at.review_at, scores >= at.decline_at
    return {
        "pr_auc": float(average_precision(scores, is_fraud)),
        "caught": float(looked[is_fraud].mean()),
        "looked_at": float(looked.mean()),
        "insulted": float(declined[~is_fraud].mean()),
    }


def show(figures: list[dict[str, Any]]) -> None:
    """Print the figures as a table."""
    table = Table(title="fallback | full model with missing values")
    for column in ("unread", "tier", "PR-AUC", "caught", "looked at", "good declined"):
        table.add_column(column)
    for row in figures:
        cells = [
            f"{row[f'fallback_{name}']:{form}} | {row[f'full_{name}']:{form}}"
            for name, form in (("pr_auc", ".3f"), ("caught", ".1%"), ("looked_at", ".2%"), ("insulted", ".3%"))
        ]
        table.add_row(row["unread"], row["tier"], *cells)
    Console(width=130).print(table)


if __name__ == "__main__":
    app()
