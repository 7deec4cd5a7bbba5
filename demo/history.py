"""The demo's data: a history in the lake, and the live hour that follows it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from demo.errors import DemoStopped
from fraud.windows import DAY, HOUR
from retraining.weekly import WeekPlan
from simulation import lake as simulated_lake
from simulation.config import WorldConfig
from simulation.live import split_live_hour, with_live_day
from simulation.world import generate
from training.importing import import_transactions
from training.policy_rules import PolicyRules

Say = Callable[[str], None]


@dataclass(frozen=True)
class Story:
    """What the demo plays.

    Parameters
    ----------
    name
        ``simulated`` or ``handbook``.
    live_start_ms
        Where the live hour begins and the history ends, epoch ms.
    live, live_truth
        The hour's transaction log and its truth, row by row.
    before_ms
        Event times of the history just as long before the live hour, epoch ms.
    plan
        Spans of a weekly iteration.
    evaluate_days
        Days before the live hour on which champion and baseline are compared by truth.
    recall
        Catch at which false positives are compared.
    """

    name: str
    live_start_ms: int
    live: pa.Table
    live_truth: pa.Table
    before_ms: npt.NDArray[np.int64]
    plan: WeekPlan
    evaluate_days: int
    recall: float


CONTROL_SHARE: Final = 0.005
"""One would-be decline in two hundred is let through, up to the caps that the rules have by default."""

SIZES: Final = {"small": (68, 5_000, 1.5), "normal": (70, 6_000, 3.0), "large": (120, 20_000, 3.0)}
"""Days, transactions a day, and the surplus of the live peak hour."""


def simulated(lake: Path, *, size: str, seed: int, say: Say) -> Story:
    """Generate a world, write its history to the lake and keep its payday peak hour for the replay."""
    days, rate, surplus = SIZES[size]
    config = WorldConfig(days=days, transactions_per_day=rate, seed=seed, start=date(2026, 2, 16))
    world = generate(with_live_day(config, hour=18, multiplier=surplus), progress=say)
    history, hour = split_live_hour(world)
    say("writing the lake")
    simulated_lake.write(history, lake)
    rules = PolicyRules(control_share=CONTROL_SHARE)
    plan = WeekPlan(train_days=21, validation_days=7, test_days=7, label_delay_days=14, seed=seed, rules=rules)
    return Story(
        "simulated",
        hour.start_ms,
        hour.transactions,
        hour.truth,
        _just_before(history.transactions, hour.start_ms, HOUR),
        plan,
        evaluate_days=14,
        recall=0.5,
    )


def handbook(lake: Path, source: Path, *, say: Say) -> Story:
    """Import the public simulated benchmark; its last evening hour is the live one.

    Raises
    ------
    DemoStopped
        The data set is not there.
    """
    if not source.exists():
        raise DemoStopped(f"{source} is missing: put the Handbook's transactions.parquet there, or leave DATA out")
    say("importing the benchmark")
    import_transactions("handbook", source, lake, label_delay_ms=7 * DAY, progress=lambda _done, _all: None)
    last_day = max((lake / "transactions").iterdir())
    path = last_day / "part-0.parquet"
    log = pq.read_table(path)
    time = event_times(log)
    start = int(time[0]) // DAY * DAY + 13 * HOUR
    first, last = np.searchsorted(time, [start, start + 4 * HOUR]).tolist()
    live = log[first:last]
    pq.write_table(log[:first], path, compression="zstd")
    _forget_the_future(lake, start)
    truth = ds.dataset(lake / "truth.parquet").to_table()
    place = pc.index_in(live["transaction_id"].combine_chunks(), truth["transaction_id"].combine_chunks())
    plan = WeekPlan(train_days=42, validation_days=14, test_days=14, label_delay_days=7, seed=0)
    before = _just_before(log[:first], start, 4 * HOUR)
    return Story("handbook", start, live, truth.take(place), before, plan, evaluate_days=28, recall=0.65)


def event_times(log: pa.Table) -> npt.NDArray[np.int64]:
    """Return the event times of a log, epoch ms."""
    return np.asarray(log["event_timestamp"].cast(pa.int64()).to_numpy() // 1000)


def _just_before(log: pa.Table, start_ms: int, span_ms: int) -> npt.NDArray[np.int64]:
    """Return the event times in the span that ends at ``start_ms``, epoch ms."""
    time = event_times(log)
    return time[(time >= start_ms - span_ms) & (time < start_ms)]


def _forget_the_future(lake: Path, start_ms: int) -> None:
    """Drop the labels that arrive after the live hour has begun."""
    path = lake / "labels.parquet"
    labels = pq.read_table(path)
    known = pc.less(labels["created_timestamp"].cast(pa.int64()), start_ms * 1000)
    pq.write_table(labels.filter(known), path, compression="zstd")
