"""How often the gate errs: worse models that pass, better ones that are refused, on simulated pairs of scores.

A week of payments is drawn again and again with frauds that come in bursts by day, scored by a champion and by a
challenger whose errors are correlated as those of two weekly fits are (measured: about 0.9 among frauds, 0.8 among
legitimate payments). The challenger's true quality is known: its PR-AUC over millions of rows, relative to the
champion's. What the gate says of each pair is counted.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from retraining.gate import HeldOut, PackedModel, judge
from training.metrics import average_precision

DAY_MS: Final = 86_400_000
PACKED: Final = PackedModel(fault=None, total_bytes=2**20, trees=100)
TRUE_RATIOS: Final = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4)
"""True PR-AUC of the challenger over the champion's."""
WORSE: Final = 0.8
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What pairs are drawn from.

    Parameters
    ----------
    days, rows_a_day, fraud_share
        Size of the held-out span.
    separation, spread
        Mean margin of a fraud in standard deviations of the legitimate ones, and how it varies by fraud.
    burst, shift
        How the number of frauds, and how easy they are, vary by day (standard deviations; the first of the logarithm).
    fraud_likeness, legitimate_likeness
        Correlation between the errors of both models.
    """

    days: int
    rows_a_day: int
    fraud_share: float = 0.006
    separation: float = 2.6
    spread: float = 1.3
    burst: float = 0.5
    shift: float = 0.5
    fraud_likeness: float = 0.9
    legitimate_likeness: float = 0.8


def draw(world: World, quality: float, rng: np.random.Generator) -> HeldOut:
    """Return one week scored by both; ``quality`` scales how far the challenger sets frauds apart."""
    frauds = np.maximum(
        rng.poisson(world.rows_a_day * world.fraud_share * np.exp(rng.normal(0, world.burst, world.days))), 1
    )
    easy = rng.normal(0.0, world.shift, world.days)
    day = np.concatenate([np.repeat(np.arange(world.days), world.rows_a_day), np.repeat(np.arange(world.days), frauds)])
    is_fraud = np.zeros(len(day), np.bool_)
    is_fraud[world.days * world.rows_a_day :] = True
    like = np.where(is_fraud, world.fraud_likeness, world.legitimate_likeness)
    width = np.where(is_fraud, world.spread, 1.0)
    one, other = rng.normal(size=(2, len(day)))
    apart = np.where(is_fraud, world.separation + easy[day], 0.0)
    champion = apart + width * one
    challenger = quality * apart + width * (like * one + np.sqrt(1.0 - like**2) * other)
    return HeldOut(
        champion=calibrated(champion, world),
        challenger=calibrated(challenger, world, quality),
        is_fraud=is_fraud,
        event_time_ms=(day * DAY_MS).astype(np.int64),
        amount_minor=np.exp(rng.normal(8.0, 1.0, len(day))).astype(np.int64) + 1,
    )


def calibrated(margin: FloatArray, world: World, quality: float = 1.0) -> FloatArray:
    """Return the true probability of fraud at a margin, by Bayes' rule on both normal distributions."""
    mean = quality * world.separation
    spread = math.hypot(world.spread, quality * world.shift)
    share = world.fraud_share * math.exp(world.burst**2 / 2)
    odds = np.log(share / (1 - share)) - np.log(spread) - ((margin - mean) / spread) ** 2 / 2 + margin**2 / 2
    # Beyond the mean of the frauds, a wide legitimate tail must not make a higher margin less suspicious.
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * odds)), np.float64)


def quality_for(ratio: float) -> float:
    """Return the quality whose PR-AUC over a large draw is ``ratio`` times the champion's, by bisection."""
    large = World(days=60, rows_a_day=10_000)
    low, high = 0.3, 2.0

    def relative(quality: float) -> float:
        rows = draw(large, quality, np.random.default_rng(11))
        return average_precision(rows.challenger, rows.is_fraud) / average_precision(rows.champion, rows.is_fraud)

    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if relative(middle) < ratio else (low, middle)
    return (low + high) / 2


def wilson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson interval of a rate."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, scale = hits / trials, 1 + z * z / trials
    middle = (rate + z * z / (2 * trials)) / scale
    reach = z / scale * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    pairs: Annotated[int, typer.Option(min=10, help="Pairs drawn for each row of the table.")] = 400,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Print how often the gate passes worse models and refuses better ones."""
    worlds = {
        "7 days x 4,000": World(7, 4_000),
        "14 days x 4,000": World(14, 4_000),
        "7 days x 20,000": World(7, 20_000),
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rows: list[dict[str, Any]] = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        qualities = {ratio: quality_for(ratio) for ratio in TRUE_RATIOS}
        task = progress.add_task("pairs", total=len(worlds) * (len(TRUE_RATIOS) + 1) * pairs)
        for name, world in worlds.items():
            for ratio in (None, *TRUE_RATIOS):
                rng = np.random.default_rng([seed, int(1000 * (ratio or 0)), world.rows_a_day, world.days])
                quality = 1.0 if ratio is None else qualities[ratio]
                refusals: dict[str, int] = {}
                passed = 0
                for _ in range(pairs):
                    week = draw(world, quality, rng)
                    if ratio is None:
                        week = HeldOut(
                            week.champion, week.champion, week.is_fraud, week.event_time_ms, week.amount_minor
                        )
                    verdict = judge(week, PACKED, seed=seed)
                    passed += verdict.passed
                    for check in verdict.checks:
                        if not check.passed:
                            refusals[check.name] = refusals.get(check.name, 0) + 1
                    progress.advance(task)
                low, high = wilson(passed, pairs)
                rows.append(
                    {
                        "held_out": name,
                        "true_ratio": ratio,
                        "pairs": pairs,
                        "passed": passed / pairs,
                        "low": low,
                        "high": high,
                        "refused_by": {check: count / pairs for check, count in refusals.items()},
                    }
                )
    show(rows)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        worse = [row for row in rows if row["true_ratio"] is not None and row["true_ratio"] <= WORSE]
        better = [row for row in rows if row["true_ratio"] is not None and row["true_ratio"] >= 1.1]
        figures = {
            "worse_passes_at_most": max(row["passed"] for row in worse),
            "better_refused_at_most": max(1 - row["passed"] for row in better),
            "identical_refused": max(1 - row["passed"] for row in rows if row["true_ratio"] is None),
            "rows": rows,
        }
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table(title="How often a challenger passes the gate, by its true PR-AUC over the champion's")
    for column in ("held out", "true ratio", "passes", "95% interval", "refused by"):
        table.add_column(column)
    for row in rows:
        by = ", ".join(f"{name} {share:.0%}" for name, share in sorted(row["refused_by"].items(), key=lambda i: -i[1]))
        ratio = "identical" if row["true_ratio"] is None else f"{row['true_ratio']:.2f}"
        table.add_row(
            row["held_out"], ratio, f"{row['passed']:.1%}", f"{row['low']:.1%} to {row['high']:.1%}", by or "nobody"
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
