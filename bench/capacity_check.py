"""How far the capacity model's percentiles are from those of the real scorer, at several open-loop loads.

A real scorer process alone on one processor; a real Valkey and the load on another. The model is given what the
kernel's own account says, never a latency of the loads that it predicts:

- one request at a time, each after an idle time as the load leaves it: what it took of the processor, and what it took
  beyond that (store, wire, waiting, the client's own time);
- how much of the first it had used when it had asked the store, from a second scorer whose store is behind a relay: a
  request has two turns, with those of other requests between them;
- a scorer with always more waiting: processor time per request, which says where it saturates and, against the first,
  how much longer a request takes that finds it idle; and with few waiting: a round of its event loop costs much the
  same whatever number it serves;
- there, too, the processor time of the scorer's other threads, which write the decision log: its pauses;
- how fast the machine was in each quarter of a second of a load: the processor time per request then. A shared machine
  is now twice as fast, now half; the model is asked at the speed that there was, and has the waiting to predict;
- when each request was sent: a client that the machine holds up sends two at once.

All of it in turn with loads at shares of the saturation, ``repeats`` times in shuffled order. Percentiles are those of
the median quarter of a second, measured and predicted alike. Beside every error stands the noise floor: half the range
of the measured p95 over the repeats, and whether the error is at most a fifth. A load that is beyond both fails the
command. Where it may (as root), it has the scorer run before anything else on its processor, and the store before the
load, which neither has to share one with in an endpoint; ``--no-real-time`` leaves them to the kernel.
"""

import itertools
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.capacity_calibration import (
    CONNECTIONS,
    Busy,
    Calibration,
    busy,
    calibration,
    first_turn,
    saturation,
    service_json,
    single,
)
from bench.capacity_processes import Laboratory, Running, laboratory, may_be_first
from bench.poll_load import Load, closed_loop, open_loop
from simulation.randomness import FloatArray
from simulation.service import ServiceTimes, idle_fleet, read_service

SHARES = (0.5, 0.95, 0.99)
NAMES = ("p50", "p95", "p99")
ALLOWED = 0.2
SLICE_S = 0.25
LEAST_ANSWERS = 20
"""Of a slice that is looked at."""
SPEEDS = np.geomspace(0.4, 6.0, 24)
"""How many times as slow as calibrated the model is asked; beyond the last the processor is saturated anyway."""
Figures = dict[str, Any]


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    service_file: Annotated[Path | None, typer.Option("--write-service", help="Write service times here.")] = None,
    loads: Annotated[str, typer.Option(help="Loads, as shares of the saturation.")] = "0.06,0.12,0.2,0.3,0.45,0.6",
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of each open loop.")] = 8.0,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of everything.")] = 5,
    *,
    real_time: Annotated[
        bool | None, typer.Option(help="Let nothing else delay scorer and store; by default where that is allowed.")
    ] = None,
    trees: Annotated[int, typer.Option(min=1)] = 300,
    depth: Annotated[int, typer.Option(min=1, max=12)] = 6,
) -> None:
    """Calibrate, predict, measure, compare."""
    shares = [float(text) for text in loads.split(",")]
    real_time = may_be_first() if real_time is None else real_time
    spinner = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True)
    )
    with spinner as progress, laboratory(trees, depth, progress, real_time=real_time) as lab:
        taken = _measured(lab, shares, seconds, repeats, progress)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "service.json"
        services = {s: read_service(_written(service_json(taken.found(s), trees, depth), path)) for s in shares}
    middle = taken.found(shares[len(shares) // 2])
    if service_file is not None:
        _written(service_json(middle, trees, depth), service_file)
    figures = {
        "saturation_rps": round(saturation(taken.busy)),
        "closed_loop_rps": round(middle.closed_rps),
        "single_request_ms": {s: round(float(taken.found(s).worker.mean()) * 1e3, 4) for s in shares},
        "busy_request_ms": round(middle.busy * 1e3, 4),
        "with_others": middle.with_others.round(3).tolist(),
        "first_turn": round(middle.first_turn, 3),
        "pause_ms_per_request": round(middle.beside * 1e3, 4),
        "real_time": real_time,
        "seconds": seconds,
        "repeats": repeats,
        "loads": [compared(share, taken.rates[share], taken.runs[share], services[share]) for share in shares],
    }
    if json_file is not None:
        _written(figures, json_file)
    if not _show(figures):
        raise typer.Exit(1)


@dataclass(frozen=True)
class Taken:
    """What was measured: the calibration, and by share of the saturation the rate, single requests and loads."""

    turn: float
    busy: list[dict[int, Busy]]
    rates: dict[float, float]
    singles: dict[float, list[tuple[FloatArray, FloatArray]]]
    runs: dict[float, list[Load]]

    def found(self, share: float) -> Calibration:
        """Return what the model is given for a load."""
        return calibration(self.singles[share], self.busy, self.turn)


def _measured(lab: Laboratory, shares: list[float], seconds: float, repeats: int, progress: Progress) -> Taken:
    step = progress.add_task("turns of a request")
    with lab.watched_scorer() as (watched, relay):
        turn = first_turn(watched, relay)
    with lab.scorer("log") as running:
        progress.update(step, description="first requests")
        closed_loop(running.port, running.requests, connections=CONNECTIONS, count=4_000)
        times = [busy(running) for _ in range(2)]
        rates = {share: share * saturation(times) for share in shares}
        taken = Taken(turn, times, rates, {share: [] for share in shares}, {share: [] for share in shares})
        plan = [(number, share) for number in range(repeats) for share in shares]
        random.Random(7).shuffle(plan)
        for done, (number, share) in enumerate(plan, start=1):
            progress.update(step, description=f"open loop at {rates[share]:,.0f}/s, {done} of {len(plan)}")
            taken.singles[share].append(single(running, number=done, rate=rates[share]))
            if done % len(shares) == 0:
                taken.busy.append(busy(running))
            taken.runs[share].append(_open_loop(running, rates[share], seconds, number))
    return taken


def _open_loop(running: Running, rate: float, seconds: float, seed: int) -> Load:
    return open_loop(
        running.port,
        running.requests,
        rate=rate,
        seconds=seconds,
        seed=seed,
        connections=CONNECTIONS,
        watch=running.path_s,
        watch_s=SLICE_S,
    )


def compared(share: float, rate: float, loads: Sequence[Load], service: ServiceTimes) -> Figures:
    """Return what a load came to, measured and predicted, from its runs."""
    slices = [_slices(load) for load in loads]
    each = np.array([np.median(some.percentiles, axis=0) for some in slices])
    measured = np.median(np.concatenate([some.percentiles for some in slices]), axis=0)
    spent = np.concatenate([some.spent for some in slices])
    runs = zip(loads, slices, strict=True)
    predicted = np.median(np.concatenate([_predicted(load, some, service) for load, some in runs]), axis=0)
    noise = (each.max(axis=0) - each.min(axis=0)) / 2.0 / measured
    whole = np.quantile(np.concatenate([load.latencies for load in loads]), SHARES) * 1e3
    return {
        "share": share,
        "rate": round(rate),
        "not_200": sum(sum(load.statuses.values()) - load.statuses[200] for load in loads),
        "late_p95_ms": round(float(np.quantile(np.concatenate([load.late for load in loads]), 0.95)) * 1e3, 4),
        "measured_ms": _named(measured),
        "measured_whole_ms": _named(whole),
        "processor_ms": {
            f"p{percent}": round(float(np.percentile(spent, percent)) * 1e3, 4) for percent in (5, 50, 95)
        },
        "model_ms": _named(predicted),
        "error": _named(predicted / measured - 1.0),
        "noise": _named(noise),
        "p95_met": bool(abs(predicted[1] / measured[1] - 1.0) <= ALLOWED),
        "p95_within_noise": bool(abs(predicted[1] / measured[1] - 1.0) <= noise[1]),
    }


@dataclass(frozen=True)
class Slices:
    """Slices of a load: answers (from, to), latency percentiles (ms, ``(slices, 3)``), processor time a request (s)."""

    answers: list[tuple[int, int]]
    percentiles: FloatArray
    spent: FloatArray


def _slices(load: Load) -> Slices:
    marks = [
        (begun, ended, (after - before) / (ended - begun))
        for (begun, before), (ended, after) in itertools.pairwise(load.marks)
        if ended - begun >= LEAST_ANSWERS
    ]
    answers = [(begun, ended) for begun, ended, _ in marks]
    return Slices(answers, _percentiles(np.array(load.latencies), answers), np.array([spent for _, _, spent in marks]))


def _percentiles(latencies: FloatArray, answers: list[tuple[int, int]]) -> FloatArray:
    return np.array([np.quantile(latencies[begun:ended], SHARES) for begun, ended in answers]) * 1e3


def _predicted(load: Load, slices: Slices, service: ServiceTimes) -> FloatArray:
    """Return the model's percentiles (ms) of the slices of a load, shape ``(slices, 3)``, each at the speed it had."""
    found = [_at_speed(load, slices, service, speed) for speed in SPEEDS]
    taken = np.array([mean for mean, _ in found])
    tables = np.log(np.array([percentiles for _, percentiles in found]))
    predicted: FloatArray = np.exp(
        [
            [np.interp(spent, taken, tables[:, number, place]) for place in range(len(SHARES))]
            for number, spent in enumerate(slices.spent)
        ]
    )
    return predicted


def _at_speed(load: Load, slices: Slices, service: ServiceTimes, slower: float) -> tuple[float, FloatArray]:
    """Return processor time per request (s) and percentiles (ms) of slices, ``slower`` times as slow as calibrated.

    One instance with one worker. Requests come when they were sent: a client that is held up sends two at once, which
    is not for the model to know.
    """
    rng = np.random.default_rng(11)
    arrival = np.array(load.sent)
    worker, beyond = service.draw(rng, len(arrival))
    pause = service.pause_per_request * slower
    fleet = idle_fleet(replace(service, pause_per_request=pause), instances=1, workers=1)
    work = np.stack([arrival - arrival[0], worker * slower, beyond])
    latency = np.concatenate([fleet.serve([0], work), fleet.finish()])
    return float(fleet.worked().sum() / len(arrival)), _percentiles(latency, slices.answers)


def _named(values: FloatArray) -> dict[str, float]:
    return dict(zip(NAMES, values.round(4).tolist(), strict=True))


def _written(content: Figures, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return path


def _show(figures: Figures) -> bool:
    """Print the comparison; return whether no load is beyond both the allowed error and its own noise."""
    title = f"One scorer, saturated at {figures['saturation_rps']:,} requests/s; latencies in ms"
    table = Table(title=title)
    for column in ("load", "/s", *(f"{name} {what}" for name in NAMES for what in ("real", "model", "error"))):
        table.add_column(column, justify="right")
    table.add_column("p95 noise", justify="right")
    table.add_column(f"p95 within {100 * ALLOWED:.0f} %")
    for load in figures["loads"]:
        cells = []
        for name in NAMES:
            real, model = load["measured_ms"][name], load["model_ms"][name]
            cells += [f"{real:.3f}", f"{model:.3f}", f"{100 * load['error'][name]:+.0f} %"]
        noise = f"±{100 * load['noise']['p95']:.0f} %"
        verdict = "met" if load["p95_met"] else "not met" + (", within noise" if load["p95_within_noise"] else "")
        table.add_row(f"{100 * load['share']:.0f} %", f"{load['rate']:,}", *cells, noise, verdict)
    errors = [abs(load["error"]["p95"]) for load in figures["loads"]]
    met = sum(load["p95_met"] for load in figures["loads"])
    alone = figures["single_request_ms"].values()
    beyond = [load for load in figures["loads"] if not (load["p95_met"] or load["p95_within_noise"])]
    late = max(load["late_p95_ms"] for load in figures["loads"])
    console = Console(width=160)
    console.print(table)
    console.print(
        f"p95: largest error {100 * max(errors):.0f} %, on average {100 * sum(errors) / len(errors):.0f} %; "
        f"{100 * ALLOWED:.0f} % met at {met} of {len(errors)} loads; {len(beyond)} beyond it and their own noise.\n"
        f"A request takes {figures['busy_request_ms']:.3f} ms of the processor among many, "
        f"{figures['busy_request_ms'] * figures['with_others'][1]:.3f} ms with one other, "
        f"{max(alone):.3f} to {min(alone):.3f} ms when it finds the scorer idle, the longer it was idle the more, "
        f"{100 * figures['first_turn']:.0f} % of it before it has asked the store; the decision log "
        f"{figures['pause_ms_per_request']:.3f} ms. The closed loop got {figures['closed_loop_rps']:,}/s.\n"
        f"Latencies count from when a request was sent: at most {late:.3f} ms after it was due for 95 % of them.\n"
        f"{'Scorer and store ran before all others.' if figures['real_time'] else 'Others could delay both.'}"
    )
    return not beyond


if __name__ == "__main__":
    typer.run(main)
