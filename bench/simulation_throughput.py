"""How fast the world is made, against the plain way: one customer's day at a time, one payment at a time.

The plain way is the transaction generator of the Fraud Detection Handbook (chapter 3.2, "generate_transactions_table"):
for each customer and day a Poisson number of payments, for each a normal time of day, a normal amount drawn again
uniformly when negative, and a terminal among those within reach. Both run on one core, measured in CPU time, without
writing files.
"""

import json
import random
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from simulation.world import WorldConfig, generate

Payment = tuple[int, int, int, int, float]


def customer_days(customer: int, days: int, rng: np.random.Generator, dice: random.Random) -> list[Payment]:
    """Return one customer's payments: (time in s, day, customer, terminal, amount)."""
    mean_amount = rng.uniform(5, 100)
    mean_number = rng.uniform(0, 1.2)
    terminals = rng.integers(0, 1000, 20).tolist()
    payments: list[Payment] = []
    for day in range(days):
        for _ in range(rng.poisson(mean_number)):
            second = int(rng.normal(86_400 / 2, 20_000))
            if 0 < second < 86_400:
                amount = rng.normal(mean_amount, mean_amount / 2)
                if amount < 0:
                    amount = rng.uniform(0, mean_amount * 2)
                payments.append((second + day * 86_400, day, customer, dice.choice(terminals), round(amount, 2)))
    return payments


def measure_plain(customers: int, days: int) -> tuple[int, float]:
    """Return payments and CPU seconds of the plain way, sorted by time at the end as the book does."""
    rng, dice = np.random.default_rng(7), random.Random(7)
    begin = time.process_time()
    payments = [payment for customer in range(customers) for payment in customer_days(customer, days, rng, dice)]
    payments.sort()
    return len(payments), time.process_time() - begin


def measure_world(days: int, transactions_per_day: int) -> tuple[int, float]:
    """Return rows and CPU seconds of one generated world."""
    begin = time.process_time()
    world = generate(WorldConfig(days=days, transactions_per_day=transactions_per_day))
    return world.transactions.num_rows, time.process_time() - begin


def main(
    days: Annotated[int, typer.Option(help="Days of the world.")] = 120,
    transactions_per_day: Annotated[int, typer.Option(help="Mean transactions a day.")] = 20_000,
    repeats: Annotated[int, typer.Option(help="Runs of each; the median counts.", min=1)] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure rows per CPU second of both ways and print their ratio."""
    console = Console(stderr=True)
    with console.status("measuring"):
        worlds = [measure_world(days, transactions_per_day) for _ in range(repeats)]
        plains = [measure_plain(1_000, days) for _ in range(repeats)]
    world = float(np.median([rows / seconds for rows, seconds in worlds]))
    plain = float(np.median([rows / seconds for rows, seconds in plains]))
    figures = {
        "rows": worlds[0][0],
        "rows_per_second": round(world),
        "row_by_row_per_second": round(plain),
        "ratio": round(world / plain, 2),
        "repeats": repeats,
    }
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
