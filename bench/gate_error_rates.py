"""How often the gate errs: worse challengers that pass, better ones that are refused, where the truth is known.

Two tables. *Pairs of scores*: weeks are drawn again and again with frauds that come in bursts by day, scored by a
champion and by a challenger whose errors are correlated as those of two weekly fits are (measured: about 0.9 among
frauds, 0.8 among legitimate payments). The challenger's quality is known: its PR-AUC over a very long draw, relative to
the champion's. *Fitted models* (``bench/planted_challengers.py``): real fits on the simulated world, worsened on
purpose, judged on week after week of it; their quality is their PR-AUC by the truth over all those weeks.

A **worse** challenger has at most 0.85 of the champion's PR-AUC, or catches next to nothing of one type of fraud that
is a tenth of all. What lies between 0.85 and 1 one week cannot tell from its own noise: it is shown, and not promised.
A **better** one has at least 1.1 times the champion's PR-AUC.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.planted_challengers import planted_rates
from retraining.gate import judge
from retraining.held_out import HeldOut, PackedModel, Thresholds
from retraining.verdict import Verdict
from training.metrics import average_precision

DAY_MS: Final = 86_400_000
PACKED: Final = PackedModel(fault=None, total_bytes=2**20, trees=100)
TRUE_RATIOS: Final = (0.7, 0.8, 0.85, 0.9, 1.0, 1.1, 1.2, 1.4)
"""True PR-AUC of the challenger over the champion's."""
WORSE: Final = 0.85
BETTER: Final = 1.1
TYPES: Final = 10
REVIEW_SHARE: Final = 0.01
INSULT_SHARE: Final = 0.001
BLIND: Final = "blind to a type"
IDENTICAL: Final = "identical"
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
    held = HeldOut(
        champion=calibrated(champion, world),
        challenger=calibrated(challenger, world, quality),
        is_fraud=is_fraud,
        event_time_ms=(day * DAY_MS).astype(np.int64),
        amount_minor=np.exp(rng.normal(8.0, 1.0, len(day))).astype(np.int64) + 1,
        fraud_type=np.where(is_fraud, rng.integers(0, TYPES, len(day)).astype(str), "").astype(object),
    )
    return replace(held, thresholds=own_thresholds(held, world, rng))


def own_thresholds(held: HeldOut, world: World, rng: np.random.Generator) -> Thresholds:
    """Return thresholds as a plan solves them: budgets kept on another week, so never quite on this one."""
    day = held.event_time_ms // DAY_MS
    drawn = rng.multinomial(world.days, np.full(world.days, 1.0 / world.days))[day]
    legitimate = ~held.is_fraud
    points = []
    for scores in (held.champion, held.challenger):
        review = _weighted_quantile(scores, drawn, 1.0 - REVIEW_SHARE)
        decline = _weighted_quantile(scores[legitimate], drawn[legitimate], 1.0 - INSULT_SHARE)
        points.append((review, max(decline, review)))
    return Thresholds(points[0], points[1], REVIEW_SHARE, INSULT_SHARE)


def _weighted_quantile(values: FloatArray, counts: npt.NDArray[np.int64], share: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(counts[order])
    return float(values[order][min(int(np.searchsorted(reached, share * reached[-1])), len(order) - 1)])


def blinded(held: HeldOut, kind: str, rng: np.random.Generator) -> HeldOut:
    """Return rows whose challenger scores the frauds of one type like legitimate payments."""
    assert held.fraud_type is not None
    blind = held.is_fraud & (held.fraud_type == kind)
    legitimate = held.challenger[~held.is_fraud]
    return replace(held, challenger=np.where(blind, rng.choice(legitimate, len(blind)), held.challenger))


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
    large = World(days=60, rows_a_day=4_000)
    low, high = 0.3, 2.0

    def relative(quality: float) -> float:
        rows = draw(large, quality, np.random.default_rng(11))
        return average_precision(rows.challenger, rows.is_fraud) / average_precision(rows.champion, rows.is_fraud)

    for _ in range(11):
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


@dataclass
class Counted:
    """What the gate said of the pairs of one kind."""

    pairs: int = 0
    passed: int = 0
    refused_by: dict[str, int] = field(default_factory=dict)

    def add(self, verdict: Verdict) -> None:
        """Count one verdict."""
        self.pairs += 1
        self.passed += verdict.passed
        for check in verdict.checks:
            if not check.passed:
                self.refused_by[check.name] = self.refused_by.get(check.name, 0) + 1

    def row(self, held_out: str, challenger: str, ratio: float | None) -> dict[str, Any]:
        """Return it as plain data."""
        low, high = wilson(self.passed, self.pairs)
        by = {check: count / self.pairs for check, count in self.refused_by.items()}
        return {"held_out": held_out, "challenger": challenger, "true_ratio": ratio, "pairs": self.pairs,
                "passed": self.passed / self.pairs, "low": low, "high": high, "refused_by": by}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One row of the table: which week is drawn, for which challenger, how often."""

    held_out: str
    kind: str | float
    quality: float
    pairs: int
    seed: int


def counted_row(task: Task) -> dict[str, Any]:
    """Return how often a challenger of known quality passes."""
    world, kind = WORLDS[task.held_out], task.kind
    rng = np.random.default_rng([task.seed, hash_of(kind), world.rows_a_day, world.days])
    counted = Counted()
    for _ in range(task.pairs):
        week = draw(world, task.quality, rng)
        if isinstance(kind, str):
            at = week.thresholds
            assert at is not None
            week = replace(week, challenger=week.champion, thresholds=replace(at, challenger=at.champion))
        if kind == BLIND:
            week = blinded(week, "0", rng)
        counted.add(judge(week, PACKED, seed=task.seed))
    said = kind if isinstance(kind, str) else f"{kind:.2f}"
    return counted.row(task.held_out, said, None if isinstance(kind, str) else kind)


def score_rates(pairs: int, seed: int, advance: Callable[[], None]) -> list[dict[str, Any]]:
    """Return the row of each world and challenger; a process for each core."""
    kinds: tuple[str | float, ...] = (IDENTICAL, BLIND, *TRUE_RATIOS)
    qualities = {kind: 1.0 if isinstance(kind, str) else quality_for(kind) for kind in kinds}
    tasks = [Task(name, kind, qualities[kind], pairs, seed) for name in WORLDS for kind in kinds]
    rows = []
    # One thread each: the calibration's fit is small, and the threads of two processes wait for each other (7 times).
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
        for row in pool.map(counted_row, tasks):
            rows.append(row)
            advance()
    return rows


def hash_of(kind: str | float) -> int:
    """Return a number for a kind of challenger, the same in every process."""
    return sum(kind.encode()) if isinstance(kind, str) else int(1000 * kind)


WORLDS: Final = {
    "7 days x 4,000": World(7, 4_000),
    "14 days x 4,000": World(14, 4_000),
    "7 days x 20,000": World(7, 20_000),
}


def main(
    *,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    pairs: Annotated[int, typer.Option(min=10, help="Pairs of scores drawn for each row of the table.")] = 150,
    fitted: Annotated[bool, typer.Option("--fitted/--scores-only", help="Fit and judge real models as well.")] = True,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Print how often the gate passes worse models and refuses better ones."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rows", total=len(WORLDS) * (len(TRUE_RATIOS) + 2))
        rows = score_rates(pairs, seed, lambda: progress.advance(task))
    show(rows, "Pairs of scores: how often a challenger passes, by its true PR-AUC over the champion's")
    planted = []
    if fitted:
        for group in planted_rates(seed):
            counted = Counted()
            for verdict in group.verdicts:
                counted.add(verdict)
            planted.append(counted.row(group.held_out, group.challenger, group.ratio))
        show(planted, "Fitted models on the simulated world, judged week by week")
    figures = summary(rows + planted)
    Console().print(
        f"worse (at most {WORSE} of the champion's PR-AUC, or blind to a type): {figures['worse_passed']} of "
        f"{figures['worse_pairs']} pass, {figures['worse_passes']:.2%}, in the worst row "
        f"{figures['worse_passes_at_most']:.1%}. Better (from {BETTER}): {figures['better_refused']:.1%} are "
        f"refused, in the worst row {figures['better_refused_at_most']:.1%}."
    )
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps({**figures, "rows": rows, "fitted": planted}, indent=1) + "\n")


def is_worse(row: Mapping[str, Any]) -> bool:
    """Return whether a row is of challengers that must not pass."""
    ratio = row["true_ratio"]
    return row["challenger"].startswith(BLIND) or (ratio is not None and ratio <= WORSE)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rates that are promised."""
    worse = [row for row in rows if is_worse(row)]
    better = [
        row for row in rows if row["true_ratio"] is not None and row["true_ratio"] >= BETTER and not is_worse(row)
    ]
    passed = round(sum(row["passed"] * row["pairs"] for row in worse))
    refused = sum((1 - row["passed"]) * row["pairs"] for row in better)
    return {
        "worse_means": WORSE,
        "better_means": BETTER,
        "worse_passed": passed,
        "worse_pairs": sum(row["pairs"] for row in worse),
        "worse_passes": passed / sum(row["pairs"] for row in worse),
        "worse_passes_at_most": max(row["passed"] for row in worse),
        "better_refused": refused / max(sum(row["pairs"] for row in better), 1),
        "better_refused_at_most": max((1 - row["passed"] for row in better), default=0.0),
        "identical_refused": max(1 - row["passed"] for row in rows if row["challenger"] == IDENTICAL),
    }


def show(rows: list[dict[str, Any]], title: str) -> None:
    """Print a table."""
    table = Table(title=title)
    for column in ("held out", "challenger", "true ratio", "pairs", "passes", "95% interval", "refused by"):
        table.add_column(column)
    for row in rows:
        by = ", ".join(
            f"{name} {share:.0%}" for name, share in sorted(row["refused_by"].items(), key=lambda i: -i[1])[:4]
        )
        ratio = "" if row["true_ratio"] is None else f"{row['true_ratio']:.2f}"
        table.add_row(
            row["held_out"], row["challenger"], ratio, str(row["pairs"]), f"{row['passed']:.1%}",
            f"{row['low']:.1%} to {row['high']:.1%}", by or "nobody",
        )  # fmt: skip
    Console(width=160).print(table)


if __name__ == "__main__":
    typer.run(main)
