"""The process: bind, load, warm, then listen; drain on SIGTERM, look for a new bundle on SIGHUP."""

import asyncio
import contextlib
import gc
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
from serving.decisions import DecisionLog
from serving.delivery import TIMEOUT_S as DELIVERY_TIMEOUT_S
from serving.delivery import Delivery
from serving.embedded import EmbeddedMetrics, write_stdout
from serving.list_reload import ListReloader
from serving.lists import Lists
from serving.logs import note
from serving.metrics import Gauge, Metrics
from serving.model import Model, prepare_model
from serving.opening import open_store
from serving.overrides import Overrides
from serving.reload import Reloader
from serving.scorer import Scorer
from serving.shadow import Shadow
from serving.writing import WriteThrough
from stores.access import redis_access
from stores.aws_call import AwsCalls
from stores.bundle_signature import read_key, read_signed_bundle

DRAIN_S: Final = 25
"""SageMaker kills 30 s after SIGTERM."""

KEEP_ALIVE_S: Final = 75
BACKLOG: Final = 2048
SWITCH_INTERVAL_S: Final = 0.0005
"""A thread that opens a bundle or writes the log gives the event loop its turn after this long."""


class StartRefused(TollgateError):
    """The scorer cannot start; nothing was left half started."""

    code = "start_refused"


class _Server(uvicorn.Server):
    """Uvicorn's server with our own signals: its own ends the process by the signal, before the log is flushed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

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
    with bind(settings.bind_host, settings.bind_port) as listener:
        model = prepare_model(read_signed_bundle(Path(settings.model_dir), key))
        note("bundle_loaded", version=model.bundle.version, features=len(model.bundle.features))
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.collect()
        gc.freeze()
        uvloop.run(_serve(settings, model, listener, key=key, begun=begun))


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address, not listening yet.

    Raises
    ------
    StartRefused
        The address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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


async def _serve(settings: Settings, model: Model, listener: socket.socket, *, key: bytes | None, begun: float) -> None:
    metrics = Metrics()
    store = open_store(settings, metrics)
    log = _start_log(settings, metrics)
    writer = _start_writer(settings, metrics)
    overrides = Overrides(metrics)
    lists = _start_lists(settings, metrics, overrides)
    shadow = _start_shadow(settings, metrics, key)
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
    embedded = _start_embedded(settings, metrics, scorer)
    app = App(scorer, metrics=metrics, currency=settings.currency, budget_ms=settings.request_budget_ms)
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
        _on_signals(server, app, reloader)
        reloader.start()
        sweeping = asyncio.get_running_loop().create_task(drop_slow_clients(server, metrics))
        note("scorer_started", port=settings.bind_port, seconds=round(time.perf_counter() - begun, 3))
        await server.serve(sockets=[listener])
        sweeping.cancel()
        reloader.close()
    finally:
        await store.close()
        for closing in (lists, writer, shadow, log, embedded):
            if closing is not None:
                closing.close()
    note(
        "scorer_stopped",
        decisions=metrics.decisions.total(),
        lost=metrics.decisions_lost.total() + metrics.decisions_undelivered.total(),
    )


def _start_log(settings: Settings, metrics: Metrics) -> DecisionLog | None:
    if not (settings.decision_log or settings.decision_stream):
        return None
    directory = Path(settings.decision_log) if settings.decision_log else None
    most_bytes = settings.decision_log_mb << 20
    log = DecisionLog(directory, metrics=metrics, delivery=_open_delivery(settings, metrics), most_bytes=most_bytes)
    try:
        log.start()
    except OSError as error:
        raise StartRefused(f"cannot write the decision log in {settings.decision_log} ({error.strerror})") from None
    return log


def _open_delivery(settings: Settings, metrics: Metrics) -> Delivery | None:
    if not settings.decision_stream:
        return None
    calls = AwsCalls(
        "firehose", settings.region, settings.aws_endpoint, environ=os.environ, timeout_s=DELIVERY_TIMEOUT_S
    )
    return Delivery(calls, settings.decision_stream, metrics=metrics)


def _start_writer(settings: Settings, metrics: Metrics) -> WriteThrough | None:
    if not settings.write_through:
        return None
    directory = Path(settings.decision_log).parent / "written" if settings.decision_log else None
    access = redis_access(settings, patient=True)
    lifetime_s = settings.redis_key_ttl_s
    writer = WriteThrough(access, project=settings.project, metrics=metrics, directory=directory, lifetime_s=lifetime_s)
    try:
        writer.start()
    except OSError as error:
        raise StartRefused(f"cannot tell written states in {directory} ({error.strerror})") from None
    return writer


def _start_lists(settings: Settings, metrics: Metrics, overrides: Overrides) -> ListReloader | None:
    if not settings.lists:
        return None

    def take(new: Lists) -> None:
        overrides.lists = new

    lists = ListReloader(Path(settings.lists), take=take, metrics=metrics)
    lists.start()
    return lists


def _start_shadow(settings: Settings, metrics: Metrics, key: bytes | None) -> Shadow | None:
    if not settings.shadow_dir:
        return None
    log = Path(settings.decision_log) if settings.decision_log else None
    shadow = Shadow(Path(settings.shadow_dir), log=log, metrics=metrics, key=key)
    try:
        shadow.start()
    except OSError as error:
        raise StartRefused(f"cannot write the shadow's log in {settings.decision_log} ({error.strerror})") from None
    return shadow


def _start_embedded(settings: Settings, metrics: Metrics, scorer: Scorer) -> EmbeddedMetrics | None:
    if settings.metrics == "prometheus":
        return None
    embedded = EmbeddedMetrics(metrics, version=lambda: scorer.model.bundle.version, write=write_stdout)
    embedded.start()
    return embedded


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


def _on_signals(server: _Server, app: App, reloader: Reloader) -> None:
    loop = asyncio.get_running_loop()

    def drain() -> None:
        note("drain_begun")
        app.draining = True
        server.should_exit = True

    loop.add_signal_handler(signal.SIGTERM, drain)
    loop.add_signal_handler(signal.SIGINT, drain)
    loop.add_signal_handler(signal.SIGHUP, reloader.wake)
