"""How fast a core updates a velocity state and reads every window from it, and what a state weighs.

The stream is 400 cards and 12 merchants, some of them busy, in order of time. Ours keeps bytes and updates them by
``velocity.update`` one transaction at a time, or by ``velocity.update_many`` a batch at a time; each transaction is
also read (``velocity.read``), with all its windows. The plain ways keep each card's 30 days and compute the same
statistics at each transaction: by Python over lists, and by NumPy over the card's arrays. All in CPU seconds of one
thread, in turn.
"""

import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fraud import ring, velocity
from fraud.velocity import Changes, Question
from fraud.windows import LARGE_TIMES, RING_READ, SMALL_AMOUNT_MINOR, WINDOWS, Entity

DAY_MS = 86_400_000
START_MS = 1_770_000_000_000
IntArray = npt.NDArray[np.int64]


def make_stream(count: int, keys: int, days: float, seed: int) -> tuple[IntArray, Changes]:
    """Return keys and changes in order of time; the activity of keys is unequal, as in life."""
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(0.0, 1.0, keys)
    key = rng.choice(keys, count, p=weights / weights.sum())
    changes = np.zeros(count, ring.ENTRY)
    changes["time"] = START_MS + np.sort(rng.integers(0, int(days * DAY_MS), count))
    changes["id"] = rng.integers(1, 2**63, count)
    changes["amount"] = rng.lognormal(8.0, 1.0, count).astype(np.int64) + 1
    changes["party"] = rng.integers(1, 200, count)
    changes["other"] = rng.integers(0, 4, count)
    changes["latitude"], changes["longitude"] = 5_000_000, 800_000
    changes["country"] = rng.integers(1, 6, count)
    changes["flags"] = rng.random(count) < 0.05
    return key, changes


def ours_single(entity: Entity, key: IntArray, changes: Changes) -> dict[int, bytes]:
    """Read, then update, one transaction at a time."""
    states: dict[int, bytes] = defaultdict(bytes)
    scratch = ring.new_scratch()
    for index, owner in enumerate(key.tolist()):
        change = changes[index : index + 1]
        asked = Question(int(change["time"][0]), int(change["party"][0]), 5_000_000, 800_000)
        velocity.read(entity, states[owner], asked, scratch)
        states[owner], _ = velocity.update(entity, states[owner], change)
    return states


def ours_updates(entity: Entity, key: IntArray, changes: Changes) -> dict[int, bytes]:
    """Update one transaction at a time."""
    states: dict[int, bytes] = defaultdict(bytes)
    for index, owner in enumerate(key.tolist()):
        states[owner], _ = velocity.update(entity, states[owner], changes[index : index + 1])
    return states


def ours_batched(entity: Entity, key: IntArray, changes: Changes, batch: int = 500) -> dict[int, bytes]:
    """Update a batch at a time."""
    states: dict[int, bytes] = defaultdict(bytes)
    for start in range(0, len(key), batch):
        some = key[start : start + batch]
        order = np.argsort(some, kind="stable")
        owners, starts = np.unique(some[order], return_index=True)
        bounds = np.append(starts, len(some)).astype(np.int64)
        names = owners.tolist()
        done = velocity.update_many(
            entity, [states[name] for name in names], changes[start : start + batch][order], bounds
        )
        states.update(zip(names, done.states, strict=True))
    return states


def plain_python(key: IntArray, changes: Changes) -> float:
    """Compute a card's statistics over lists of tuples at each transaction; return a sum that keeps it honest."""
    histories: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    total = 0.0
    for owner, change in zip(key.tolist(), changes.tolist(), strict=True):
        now, _, amount, party, other, _, _, country, flags, _ = change
        before = histories[owner][-RING_READ:]
        month = [row for row in before if now - WINDOWS[-1].length_ms <= row[0] < now]
        usual = sum(row[1] for row in month)
        for window in WINDOWS:
            inside = [row for row in month if now - window.length_ms <= row[0]]
            amounts = [row[1] for row in inside]
            total += len(inside) + sum(amounts) + max(amounts, default=0)
            total += statistics.pstdev(amounts) if len(amounts) > 1 else 0.0
            total += len({row[2] for row in inside}) + len({row[3] for row in inside}) + len({row[4] for row in inside})
            total += sum(row[5] for row in inside) + sum(value <= SMALL_AMOUNT_MINOR for value in amounts)
            total += sum(value * len(month) > LARGE_TIMES * usual for value in amounts)
        histories[owner].append((now, amount, party, other, country, flags))
    return total


def plain_numpy(key: IntArray, changes: Changes) -> float:
    """Compute a card's statistics over its arrays at each transaction; return a sum that keeps it honest."""
    rooms: dict[int, Changes] = {}
    lengths: dict[int, int] = defaultdict(int)
    total = 0.0
    for index, owner in enumerate(key.tolist()):
        room = rooms.get(owner)
        if room is None or lengths[owner] == len(room):
            grown = np.zeros(max(64, 2 * lengths[owner]), ring.ENTRY)
            grown[: lengths[owner]] = room[: lengths[owner]] if room is not None else grown[:0]
            room = rooms[owner] = grown
        now = int(changes["time"][index])
        before = room[max(0, lengths[owner] - RING_READ) : lengths[owner]]
        times = before["time"]
        month = before[np.searchsorted(times, now - WINDOWS[-1].length_ms) : np.searchsorted(times, now)]
        usual = int(month["amount"].sum())
        for window in WINDOWS:
            inside = month[np.searchsorted(month["time"], now - window.length_ms) :]
            amounts = inside["amount"]
            if not len(inside):
                continue
            total += len(inside) + int(amounts.sum()) + int(amounts.max()) + float(amounts.std())
            total += len(np.unique(inside["party"])) + len(np.unique(inside["other"]))
            total += len(np.unique(inside["country"])) + int(inside["flags"].sum())
            total += int((amounts <= SMALL_AMOUNT_MINOR).sum())
            total += int((amounts * len(month) > LARGE_TIMES * usual).sum())
        room[lengths[owner]] = changes[index]
        lengths[owner] += 1
    return total


def rate(count: int, work: Callable[[], object]) -> float:
    """Return how many a CPU second."""
    begin = time.process_time()
    work()
    return count / (time.process_time() - begin)


def main(
    transactions: Annotated[int, typer.Option(help="Transactions of cards, and of merchants.", min=1_000)] = 20_000,
    plain: Annotated[int, typer.Option(help="Transactions for the plain ways.", min=500)] = 20_000,
    repeats: Annotated[int, typer.Option(help="Runs of each, in turn.", min=1)] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure, in turn, and print rates, ratios and bytes."""
    card_key, card = make_stream(transactions, 400, 60.0, 7)
    shop_key, shop = make_stream(transactions, 12, 2.0, 8)
    runs: dict[str, list[float]] = defaultdict(list)
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "card update and read": (transactions, lambda: ours_single("card", card_key, card)),
        "card update": (transactions, lambda: ours_updates("card", card_key, card)),
        "card update, 500 at a time": (transactions, lambda: ours_batched("card", card_key, card)),
        "merchant update and read": (transactions, lambda: ours_single("merchant", shop_key, shop)),
        "merchant update": (transactions, lambda: ours_updates("merchant", shop_key, shop)),
        "merchant update, 500 at a time": (transactions, lambda: ours_batched("merchant", shop_key, shop)),
        "card in plain Python": (plain, lambda: plain_python(card_key[:plain], card[:plain])),
        "card in NumPy": (plain, lambda: plain_numpy(card_key[:plain], card[:plain])),
    }
    for way in (ours_single, ours_batched):  # load the kernels
        way("card", card_key[:10], card[:10])
        way("merchant", shop_key[:10], shop[:10])
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=repeats * len(ways))
        for _ in range(repeats):
            for name, (count, work) in ways.items():
                runs[name].append(rate(count, work))
                progress.advance(task)
    cards = sorted(len(state) for state in ours_batched("card", card_key, card).values())
    shops = sorted(len(state) for state in ours_batched("merchant", shop_key, shop).values())
    report(runs, cards, shops, json_file)


def report(runs: dict[str, list[float]], cards: list[int], shops: list[int], json_file: Path | None) -> None:
    """Print and write the figures."""
    ours = runs["card update and read"]
    table = Table("way", "transactions a CPU second, median", "lowest to highest", "ours over it")
    rows = {}
    for name, some in runs.items():
        ratio = statistics.median(a / b for a, b in zip(ours, some, strict=True))
        rows[name] = {"median": round(statistics.median(some)), "lowest": round(min(some)), "highest": round(max(some))}
        shown = f"{ratio:.1f}" if name.startswith("card in") else ""
        table.add_row(name, f"{statistics.median(some):,.0f}", f"{min(some):,.0f} to {max(some):,.0f}", shown)
    single, batch = runs["card update"], runs["card update, 500 at a time"]
    figures = {
        "rates": rows,
        "ratio_to_python": round(
            statistics.median(a / b for a, b in zip(ours, runs["card in plain Python"], strict=True)), 1
        ),
        "ratio_to_numpy": round(statistics.median(a / b for a, b in zip(ours, runs["card in NumPy"], strict=True)), 1),
        "batch_over_single": round(statistics.median(a / b for a, b in zip(batch, single, strict=True)), 1),
        "card_bytes_mean": round(statistics.mean(cards)),
        "card_bytes_p99": cards[math.ceil(0.99 * len(cards)) - 1],
        "busy_merchant_bytes_mean": round(statistics.mean(shops)),
        "busy_merchant_bytes_most": shops[-1],
    }
    Console().print(table)
    for name, value in figures.items():
        if name != "rates":
            typer.echo(f"{name:>26}  {value:,}")
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
