"""The process, or one per core: bind, load, warm, then listen; drain on SIGTERM, look for a new bundle on SIGHUP."""

import asyncio
import contextlib
import gc
import hashlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn
import uvloop

from fraud.errors import TollgateError
from fraud.settings import Settings
from serving.app import App
from serving.clients import Throttle, client_connections, drop_slow_clients
from serving.companions import StartRefused, start_embedded, start_lists, start_log, start_shadow, start_writer
from serving.logs import note, warn
from serving.metrics import Gauge, Metrics
from serving.model import Model, prepare_model
from serving.opening import open_store
from serving.overrides import Overrides
from serving.reload import Reloader
from serving.scorer import Scorer
from serving.totals import PUBLISH_S, Totals, WorkerTotals
from serving.workers import Place, Workers
from stores.bundle_files import read_manifest
from stores.bundle_signature import read_key, read_signed_bundle

DRAIN_S: Final = 25
"""SageMaker kills 30 s after SIGTERM."""

KEEP_ALIVE_S: Final = 75
BACKLOG: Final = 2048
SWITCH_INTERVAL_S: Final = 0.0005
"""A thread that opens a bundle or writes the log gives the event loop its turn after this long."""


class _Server(uvicorn.Server):
    """Uvicorn's server with our own signals: its own ends the process by the signal, before the log is flushed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, then drain; return the status to end with.

    Raises
    ------
    StartRefused
        The address is taken, or the decision log cannot be written.
    CorruptBundle
        There is no bundle, or not a good one.
    InvalidSetting
        A file of a certificate, password or key that the settings name cannot be used.
    """
    begun = time.perf_counter()
    key = read_key(settings.bundle_key_file)
    count = settings.workers or len(os.sched_getaffinity(0))
    with bind(settings.bind_host, settings.bind_port) as listener:
        model = prepare_model(read_signed_bundle(Path(settings.model_dir), key))
        note("bundle_loaded", version=model.bundle.version, features=len(model.bundle.features))
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.collect()
        gc.freeze()
        if count == 1:
            uvloop.run(_serve(settings, model, listener, key=key, begun=begun))
            return 0
    with bind(settings.bind_host, settings.bind_port, shared=True):  # never listens: it holds the port for workers
        totals = Totals(count)

        def work(place: Place) -> None:
            own = time.perf_counter()
            newest = _newest(settings, model, key)
            with bind(settings.bind_host, settings.bind_port, shared=True) as listener:
                uvloop.run(_serve(settings, newest, listener, key=key, begun=own, place=place, totals=totals))

        return Workers(count, work).run()


def _newest(settings: Settings, model: Model, key: bytes | None) -> Model:
    """Return the model in the directory, which may be another by now; ``model`` when it is not, or cannot be served."""
    directory = Path(settings.model_dir)
    manifest = read_manifest(directory)
    if manifest is None or hashlib.sha256(manifest).hexdigest()[:16] == model.bundle.version:
        return model
    try:
        return prepare_model(read_signed_bundle(directory, key))
    except TollgateError as error:
        warn("bundle_refused", reason=str(error), still_serving=model.bundle.version)
        return model


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a socket bound to the address, not listening yet; ``shared`` with others of this user's processes.

    Raises
    ------
    StartRefused
        The address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _taken(host, port, error) from None
    return listener


def _taken(host: str, port: int, error: OSError) -> StartRefused:
    return StartRefused(
        f"cannot listen on {host}:{port} ({error.strerror}); free the port or set TOLLGATE_BIND_PORT to another"
    )


async def _serve(
    settings: Settings,
    model: Model,
    listener: socket.socket,
    *,
    key: bytes | None,
    begun: float,
    place: Place | None = None,
    totals: Totals | None = None,
) -> None:
    metrics = Metrics()
    store = open_store(settings, metrics)
    log = start_log(settings, metrics)
    writer = start_writer(settings, metrics)
    overrides = Overrides(metrics, workers=1 if place is None else place.of)
    lists = start_lists(settings, metrics, overrides)
    shadow = start_shadow(settings, metrics, key)
    scorer = Scorer(
        model,
        store=store,
        log=log,
        metrics=metrics,
        settings=settings,
        writer=writer,
        overrides=overrides,
        shadow=shadow,
    )
    embedded = start_embedded(settings, metrics, scorer)
    shared = None if place is None or totals is None else totals.of_worker(place.number, metrics.render)
    render = metrics.render if shared is None else shared.render
    app = App(scorer, metrics=metrics, currency=settings.currency, budget_ms=settings.request_budget_ms, render=render)
    metrics.bundles_loaded.add(("champion", model.bundle.version))
    about = "The bundle in service."
    metrics.gauges.append(
        Gauge("tollgate_serving", about, lambda: {(scorer.model.bundle.version,): 1.0}, ("model_version",))
    )

    def take(new: Model) -> None:
        scorer.model = new

    reloader = Reloader(Path(settings.model_dir), serving=model.bundle.version, take=take, metrics=metrics, key=key)
    server = _Server(_config(app, client_connections(metrics, settings.most_connections)))
    try:
        await store.start()
        _listen(listener, settings)
        _on_signals(server, app, reloader, place)
        reloader.start()
        loop = asyncio.get_running_loop()
        beside = [loop.create_task(drop_slow_clients(server, metrics))]
        if shared is not None:
            beside.append(loop.create_task(_publish(shared)))
        seconds = round(time.perf_counter() - begun, 3)
        note("scorer_started", port=settings.bind_port, seconds=seconds, worker=0 if place is None else place.number)
        if place is not None:
            place.ready()
        await server.serve(sockets=[listener])
        for task in beside:
            task.cancel()
        reloader.close()
    finally:
        await store.close()
        for closing in (lists, writer, shadow, log, embedded):
            if closing is not None:
                closing.close()
        if shared is not None:
            shared.publish()
    note(
        "scorer_stopped",
        decisions=metrics.decisions.total(),
        lost=metrics.decisions_lost.total() + metrics.decisions_undelivered.total(),
    )


async def _publish(shared: WorkerTotals) -> None:
    while True:
        shared.publish()
        await asyncio.sleep(PUBLISH_S)


def _listen(listener: socket.socket, settings: Settings) -> None:
    try:
        listener.listen(BACKLOG)
    except OSError as error:  # another process bound the same address and listened first
        raise _taken(settings.bind_host, settings.bind_port, error) from None


def _config(app: App, connections: type[asyncio.Protocol]) -> uvicorn.Config:
    logging.getLogger("uvicorn.error").addFilter(Throttle())
    return uvicorn.Config(
        app,
        http=connections,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )


def _on_signals(server: _Server, app: App, reloader: Reloader, place: Place | None) -> None:
    loop = asyncio.get_running_loop()

    def drain() -> None:
        if place is not None:
            loop.remove_reader(place.parent)
        note("drain_begun")
        app.draining = True
        server.should_exit = True

    loop.add_signal_handler(signal.SIGTERM, drain)
    loop.add_signal_handler(signal.SIGINT, drain)
    loop.add_signal_handler(signal.SIGHUP, reloader.wake)
    if place is not None:
        loop.add_reader(place.parent, drain)  # the parent says nothing: it can only be gone
